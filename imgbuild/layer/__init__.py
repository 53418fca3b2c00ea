"""Layers as tars: what changed in an upperdir, as deterministic bytes, and back into a directory in overlay form.

`tar` reads foreign tars and writes our own; `diff` finds changes; `pack` writes them; `unpack` applies a tar; `compress` does
one pass over blocks with both digests. Image-spec: layer.md. Nothing ever holds a whole layer in memory.
Not here: where blobs and lowers are kept (store, snapshot).
"""

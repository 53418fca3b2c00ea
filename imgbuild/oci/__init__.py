"""The OCI image format as values: digests, references, platforms, manifests, configs. Pure: no I/O, no clock.

Not here: where blobs are kept (store), how they travel (registry, transfer), what is in a layer (layer).
"""

"""What comes from elsewhere and is no image: files behind URLs (http) and trees of Git repositories (git), kept in the store.

A file is a blob, found by what the index remembers of its URL; a tree is a directory of ``sources/``, found by all that it was
fetched by. What is kept and can't have changed (a checksum, a whole commit hash) is used without the network; else one question is
asked: If-None-Match, ls-remote. Not here: how a source is written (graph.remote), what is copied of it (rootfs), registries.
"""

from __future__ import annotations

from imgbuild.errors import ContextError


class FetchError(ContextError):
    """A remote source can't be fetched, or is not what it was said to be."""

    reference = "fetch"

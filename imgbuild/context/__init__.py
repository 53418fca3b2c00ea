"""The build context: which files an ignore file leaves, which of them a COPY means, and their digests.

The context is read in place. Not here: where the files go (rootfs), what else is in a step's key (graph).
"""

"""The build context: which files an ignore file leaves, which of them a COPY means, and their digests.

The context is read in place. A `Tree` (tree) is what can be copied from: `LocalContext` (local) is one, a stage's root file system
another, and the finding (tree.match), the leaving out (filtered) and the digests (digest) are the same for both.
Not here: where the files go (rootfs), what else is in a step's key (graph).
"""

"""The hinge between the store and snapshots: an image becomes lowers (materialize), an upperdir becomes a layer (capture).

Also what writes to a root file system without a process in it: COPY and ADD, WORKDIR; and what reads one: user names, export.
"""

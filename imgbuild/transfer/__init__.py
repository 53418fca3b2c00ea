"""The hinge between the store and the outside: registries (pull, push, resolve) and archives (save, load).

Verifies all that comes in; sends only what the other side lacks. Not here: HTTP (registry), root file systems (rootfs).
"""

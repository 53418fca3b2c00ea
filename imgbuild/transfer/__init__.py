"""The hinge between the store and the outside: registries (pull, push, resolve) and archives (save, load, import).

Verifies all that comes in; sends only what the other side lacks. Doors: `pull.Puller`, `push.Pusher`, `archives.Archivist` and
`importing.import_rootfs`; `events` are what they tell. Not here: HTTP (registry), root file systems (rootfs).
"""

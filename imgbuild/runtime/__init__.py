"""Containers: an image's root file system, a writable layer, a sandbox, and a record that outlives the command.

State machine: created -> running -> exited -> removed. One process supervises each container and holds a lock while it lives; when it
dies, in whatever way, the container dies with it, and the next reader of its record says so. Not here: namespaces (sandbox), images
(rootfs, store), healthchecks (kept in the image, not performed).
"""

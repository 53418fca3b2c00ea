"""Containers: an image's root file system, a writable layer, a sandbox, and a record that outlives the command.

State machine: created -> running -> exited -> removed. Not here: namespaces (sandbox), images (rootfs, store).
"""

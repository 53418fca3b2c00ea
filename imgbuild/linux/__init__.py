"""The one room that speaks to the kernel: system calls, mounts, user namespaces, paths inside an untrusted root.

Every wrapper is a few lines, with declared argument types; failure raises OSError that names the call and the path.
Not here: what a sandbox is made of (sandbox), what an overlay needs (snapshot).
"""

"""Runs one process in namespaces of its own: from a `SandboxSpec` to an `ExitStatus`.

`Zygote` is a small single-threaded process forked before threads exist; it clones every sandbox, so that nothing is ever
forked from a threaded Python. All mounts live in the sandbox's own mount namespace: when it is gone, so are they.

State of a sandbox: spawned -> running (``Sandbox.pid`` is its init on the host) -> exited (``wait`` returns). If the
zygote or its parent dies, in whatever way, every sandbox of it is killed.
Not here: what the root is made of (snapshot), which command a step runs (graph, solve), containers that last (runtime).
"""

"""Those that take part, each behind the same few words: build, push, run, exec, forget.

All share nothing: each has a store of its own in the work space, and where there is a daemon it is ours, on a socket in there.
Networks are the host's, for everybody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Account, Command, CommandFailed, daemon, leaving_none, surroundings

_DEADLINE = 60.0


class Tool(Protocol):
    """One that takes part. What returns commands does nothing itself: the caller runs and times them."""

    name: str
    account: Account
    reference: bool
    """Whether it only shows what is possible: it is nobody's peer."""
    launches: bool
    """Whether it has containers."""

    def version(self) -> str: ...

    def daemons(self) -> Sequence[int]: ...

    def load(self, archive: Path, name: str) -> None:
        """Have a root file system as an image of that name, as warm as a base that was used before."""
        ...

    def fresh(self) -> None:
        """Forget every step and all that was read of contexts; bases stay."""
        ...

    def build(self, file: Path, context: Path, tag: str, *, push: str = "") -> list[Command]: ...

    def run(self, image: str, *command: str) -> list[Command]: ...

    def start(self, image: str, name: str) -> None:
        """Run a container in the background that waits."""
        ...

    def stop(self, name: str) -> None:
        """Remove that container."""
        ...

    def execute(self, name: str, *command: str) -> list[Command]: ...

    def forget(self, image: str) -> None:
        """Remove an image with its layers."""
        ...

    def save(self, tag: str, archive: Path) -> None: ...


class Base:
    """What most of them share."""

    reference = False
    launches = True

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.account = Account(name)
        directory.mkdir(parents=True)

    def daemons(self) -> Sequence[int]:
        return ()

    def command(self, *argv: str) -> Command:
        return Command(argv, self.environment())

    def environment(self) -> dict[str, str]:
        return {}

    def do(self, *argv: str, check: bool = True) -> str:
        """Run a command that is not timed."""
        environment = {**surroundings(), **self.environment()}
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise CommandFailed(f"{' '.join(argv)}\nexit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout


class Imgbuild(Base):
    """This project, as installed for the Python that runs this."""

    def __init__(self, directory: Path, *, without: str = "") -> None:
        super().__init__(directory.name, directory)
        self._without = without
        self._program = str(Path(sys.executable).with_name("imgbuild"))
        self._store, self._seed = directory / "store", directory / "seed"
        self._loaded: list[str] = []

    def environment(self) -> dict[str, str]:
        # A home without settings, as most are.
        own = {"IMGBUILD_ROOT": str(self._store), "HOME": str(self.directory), "DOCKER_CONFIG": str(self.directory)}
        return own | ({"IMGBUILD_DISABLE": self._without} if self._without else {})

    def version(self) -> str:
        return self.do(self._program, "--version").split()[-1]

    def load(self, archive: Path, name: str) -> None:
        self.do(self._program, "import", str(archive), name)
        self.do(self._program, "run", "--rm", name, "true")
        self.do("rm", "-rf", str(self._seed))
        self.do("cp", "-a", "--reflink=auto", str(self._store), str(self._seed))

    def fresh(self) -> None:
        self.do("rm", "-rf", str(self._store))
        self.do("cp", "-a", "--reflink=never", str(self._seed), str(self._store))  # else the base is not in the page cache

    def build(self, file: Path, context: Path, tag: str, *, push: str = "") -> list[Command]:
        named = ["-t", push, "--push"] if push else ["-t", tag]
        return [self.command(self._program, "build", "-q", *named, "-f", str(file), str(context))]

    def run(self, image: str, *command: str) -> list[Command]:
        return [self.command(self._program, "run", "--rm", image, *command)]

    def start(self, image: str, name: str) -> None:
        self.do(self._program, "rm", "-f", name, check=False)
        self.do(self._program, "run", "-d", "--name", name, image, "sleep", "100000")

    def stop(self, name: str) -> None:
        self.do(self._program, "rm", "-f", name, check=False)

    def execute(self, name: str, *command: str) -> list[Command]:
        return [self.command(self._program, "exec", name, *command)]

    def forget(self, image: str) -> None:
        self.do(self._program, "rmi", "-f", image, check=False)
        self.do(self._program, "prune", "--all", check=False)

    def save(self, tag: str, archive: Path) -> None:
        self.do(self._program, "save", "--format", "docker", "-o", str(archive), tag)


def await_daemon(process: subprocess.Popen[bytes], log: Path, *asked: str) -> None:
    """Wait until a daemon answers what it is asked; CommandFailed, with the end of its log, where it ends or takes too long."""
    deadline = time.monotonic() + _DEADLINE
    while subprocess.run(asked, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise CommandFailed(f"the daemon did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def with_children(pid: int) -> Sequence[int]:
    """A daemon and those it started itself."""
    found = [pid]
    for other in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{other}/stat", encoding="utf-8", errors="replace") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == pid:
                found.append(int(other))
    return found


class Docker(Base):
    """The daemon of Debian's docker.io with the BuildKit in it, and its own client."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__("docker", directory)
        self._docker = "/usr/bin/docker"
        self._socket = f"unix://{directory}/socket"
        argv = ["dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid"]
        argv += ["-H", self._socket, "--iptables=false", "--bridge=none", "--storage-driver=overlay2"]
        argv += [f"--cgroup-parent=/{self.account.name}"]
        stack.callback(self.account.close)  # after the daemon's end
        self._daemon = stack.enter_context(daemon(argv, self.account, directory / "log"))
        await_daemon(self._daemon, directory / "log", self._docker, "-H", self._socket, "version")

    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": self._socket, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self.directory / "config")}

    def version(self) -> str:
        return self.do(self._docker, "version", "--format", "{{.Server.Version}}").strip()

    def daemons(self) -> Sequence[int]:
        return with_children(self._daemon.pid)

    def load(self, archive: Path, name: str) -> None:
        self.do(self._docker, "import", str(archive), name)

    def fresh(self) -> None:
        self.do(self._docker, "builder", "prune", "-af")
        images = self.do(self._docker, "images", "--filter", "reference=bench*", "--filter", "reference=*/bench*", "-q").split()
        if images:
            self.do(self._docker, "rmi", "-f", *images, check=False)

    def build(self, file: Path, context: Path, tag: str, *, push: str = "") -> list[Command]:
        build = [self._docker, "build", "-q", "--network", "host", "-t", push or tag, "-f", str(file), str(context)]
        return [self.command(*build), *([self.command(self._docker, "push", "-q", push)] if push else [])]

    def run(self, image: str, *command: str) -> list[Command]:
        return [self.command(self._docker, "run", "--rm", "--network", "host", image, *command)]

    def start(self, image: str, name: str) -> None:
        self.do(self._docker, "rm", "-f", name, check=False)
        self.do(self._docker, "run", "-d", "--network", "host", "--name", name, image, "sleep", "100000")

    def stop(self, name: str) -> None:
        self.do(self._docker, "rm", "-f", name, check=False)

    def execute(self, name: str, *command: str) -> list[Command]:
        return [self.command(self._docker, "exec", name, *command)]

    def forget(self, image: str) -> None:
        self.do(self._docker, "rmi", "-f", image, check=False)

    def save(self, tag: str, archive: Path) -> None:
        self.do(self._docker, "save", "-o", str(archive), tag)


class Buildah(Base):
    """Debian's buildah for builds and podman for containers, on one store."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__("buildah", directory)
        stack.enter_context(leaving_none("libpod_parent"))
        places = ("--root", f"{directory}/store", "--runroot", f"{directory}/run", "--storage-driver", "overlay")
        # crun does not take a hybrid of cgroup v1 and v2; runc takes all three.
        self._runtime = ("--runtime", path) if (path := shutil.which("runc")) else ()
        self._buildah = ("buildah", *places)
        self._podman = ("podman", *places, *self._runtime, "--cgroup-manager", "cgroupfs")
        # Its own defaults may be more than this machine allows.
        self._limits = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096", "--network", "host")

    def version(self) -> str:
        return f"{self.do('buildah', '--version').split()[2]} (podman {self.do('podman', '--version').split()[2]})"

    def load(self, archive: Path, name: str) -> None:
        self.do(*self._podman, "import", "-q", str(archive), f"docker.io/library/{name}:latest")

    def fresh(self) -> None:
        for line in self.do(*self._podman, "images", "--format", "{{.Repository}} {{.ID}}").splitlines():
            repository, identity = line.split()
            if "bench" in repository or repository == "<none>":
                self.do(*self._podman, "rmi", "-f", identity, check=False)

    def build(self, file: Path, context: Path, tag: str, *, push: str = "") -> list[Command]:
        argv = [*self._buildah, "bud", "-q", *self._runtime, "--layers", "--network", "host", "-t", push or tag, "-f", str(file)]
        pushing = [self.command(*self._buildah, "push", "-q", "--tls-verify=false", push)] if push else []
        return [self.command(*argv, str(context)), *pushing]

    def run(self, image: str, *command: str) -> list[Command]:
        pull = ("--tls-verify=false",) if "/" in image else ()
        return [self.command(*self._podman, "run", "--rm", *pull, *self._limits, image, *command)]

    def start(self, image: str, name: str) -> None:
        self.do(*self._podman, "rm", "-f", name, check=False)
        self.do(*self._podman, "run", "-d", *self._limits, "--name", name, image, "sleep", "100000")

    def stop(self, name: str) -> None:
        self.do(*self._podman, "rm", "-f", "-t", "0", name, check=False)

    def execute(self, name: str, *command: str) -> list[Command]:
        return [self.command(*self._podman, "exec", name, *command)]

    def forget(self, image: str) -> None:
        self.do(*self._podman, "rmi", "-f", image, check=False)

    def save(self, tag: str, archive: Path) -> None:
        self.do(*self._podman, "save", "--format", "docker-archive", "-o", str(archive), tag)


class _Apart(Account):
    """For crun, which refuses to start where it sees a cgroup v2 with controllers beside v1."""

    apart = True


class Crun(Base):
    """A bare runtime on an unpacked root: what is left when nobody makes a container of an image first."""

    reference = True

    def __init__(self, directory: Path) -> None:
        super().__init__("crun", directory)
        self.account.close()
        self.account = _Apart("crun")
        self._number = 0

    def version(self) -> str:
        return self.do("crun", "--version").split()[2]

    def load(self, archive: Path, name: str) -> None:
        import json

        (self.directory / "rootfs").mkdir()
        subprocess.run(["tar", "-C", str(self.directory / "rootfs"), "-xf", str(archive)], check=True)
        subprocess.run(["crun", "spec"], cwd=self.directory, check=True)
        config = json.loads((self.directory / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["true"]}
        config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "network"]
        (self.directory / "config.json").write_text(json.dumps(config))

    def run(self, image: str, *command: str) -> list[Command]:
        self._number += 1
        base = ("crun", "--root", str(self.directory / "state"), "--cgroup-manager=disabled")
        return [self.command(*base, "run", "-b", str(self.directory), f"bench{os.getpid()}-{self._number}")]


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """An empty registry (Debian's docker-registry) on loopback; "host:port". It and what it was given are gone after the block."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    directory.mkdir(parents=True)
    settings = directory / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    account = Account("registry")
    try:
        with daemon(["docker-registry", "serve", str(settings)], account, directory / "log") as process:
            deadline = time.monotonic() + _DEADLINE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise CommandFailed(f"the registry did not start:\n{(directory / 'log').read_text()}") from None
                    time.sleep(0.02)
            yield f"localhost:{port}"
    finally:
        account.close()
        shutil.rmtree(directory, ignore_errors=True)

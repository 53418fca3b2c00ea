"""The imgbuild command with a store of its own and nothing of the user's: not the store, not the settings, not the logins."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

DEADLINE = 60.0
"""Seconds until something that was started is given up. Nothing takes nearly as long, unless it is broken."""


class CommandFailed(AssertionError):
    """A command ended with another code than the expected one; the message holds what it wrote."""


@dataclass(frozen=True, slots=True)
class Imgbuild:
    """How to call imgbuild. `home` takes what would go to the user's home."""

    command: tuple[str, ...]
    store: Path
    settings: Path
    home: Path
    environ: tuple[tuple[str, str], ...] = ()

    def __call__(
        self,
        *arguments: str | Path,
        expect: int | None = 0,
        input: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. CommandFailed if its exit code is not `expect` (None: any will do)."""
        command = [*self.command, *map(str, arguments)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace", cwd=cwd, env=self.environment(env)
        ) as process:
            try:
                out, err = process.communicate(input or "")
            except BaseException:
                process.terminate()  # not killed: it ends what it has started
                raise
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        if expect is not None and done.returncode != expect:
            said = f"{done.stdout[-4000:]}{done.stderr[-8000:]}"
            raise CommandFailed(f"imgbuild {' '.join(map(str, arguments))}\nended with {done.returncode}, not {expect}:\n{said}")
        return done

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the command sees."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IMGBUILD_") and name != "SOURCE_DATE_EPOCH"}
        local = ",".join(filter(None, (kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1,localhost")))
        own = {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "DOCKER_CONFIG": str(self.home / ".docker"),
            "IMGBUILD_ROOT": str(self.store),
            "IMGBUILD_CONFIG": str(self.settings),
            "NO_PROXY": local,
            "no_proxy": local,
        }
        return {**kept, **own, **dict(self.environ), **(more or {})}

    def at(self, store: Path) -> Imgbuild:
        """The same with another store."""
        return replace(self, store=store)

    @contextlib.contextmanager
    def serving(self, image: str, *options: str, command: Sequence[str] = ()) -> Iterator[Service]:
        """A container that runs in the background and listens on $PORT, which was free a moment ago; it is removed at the end."""
        port = _free_port()
        container = self("run", "-d", "-e", f"PORT={port}", *options, image, *command).stdout.strip()
        try:
            service = Service(self, container, f"http://127.0.0.1:{port}")
            service.wait()
            yield service
        finally:
            self("rm", "-f", container)


@dataclass(frozen=True, slots=True)
class Service:
    """A running container that speaks HTTP."""

    imgbuild: Imgbuild
    container: str
    url: str

    def wait(self) -> None:
        """Return when it accepts connections; CommandFailed with its log if it does not."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=DEADLINE).close()
                return
            except ConnectionRefusedError:
                ended = self.container[:12] not in self.imgbuild("ps").stdout
                if ended or time.monotonic() > deadline:
                    log = self.imgbuild("logs", self.container, expect=None)
                    state = "ended" if ended else "does not listen"
                    raise CommandFailed(f"the service {state}; its log:\n{log.stdout}{log.stderr}") from None

    def fetch(self, path: str, data: bytes | None = None) -> tuple[int, str]:
        """The status and the text at `path`; with `data` it is posted."""
        request = urllib.request.Request(self.url + path, data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=DEADLINE) as answer:
                assert isinstance(answer, http.client.HTTPResponse)
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

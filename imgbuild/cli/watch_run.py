"""``run --watch``: a container of an image, and another one in its place whenever the name leads to another image.

A directory in the place of the image is built, by ``build --watch``, under a name of its own; so a build that fails leaves the container as
it is. The old one is asked to end, by its stop signal, and has the time that `stop` gives it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from imgbuild.cli.ending import Terminated, heed_sigterm
from imgbuild.cli.watch import Child, Voice, signals
from imgbuild.engine.watching import ImageWatcher, Stopped
from imgbuild.errors import NotFoundError, UsageError
from imgbuild.light import signal
from imgbuild.light.contextlib import ExitStack, contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgbuild.engine.invocation import Invocation

_LOOK_SECONDS = 0.2
"""How soon it is seen that a container has ended by itself."""


def watch_run(invocation: Invocation, image: str, platform: str, words: dict[str, Any]) -> int:
    """Run until a signal ends it; the exit code where it makes no sense, or where the first build can't be."""
    for option in ("detach", "interactive", "tty"):
        if words[option]:
            raise UsageError(f"--watch goes on and on in the foreground, and has no use for --{option}")
    heed_sigterm()
    context = _is_context(image)
    name = f"imgbuild-watch-{secrets.token_hex(4)}" if context else image
    root = str(invocation.store_root(os.geteuid()))
    options = {"root": invocation.root, "config": invocation.config, "debug": invocation.debug}
    with ExitStack() as stack:
        heard = stack.enter_context(signals())
        watcher = stack.enter_context(ImageWatcher(root, name))
        before = _global(invocation)
        if context:
            stack.callback(_quietly, [*before, "rmi", name])
        builder = stack.enter_context(_builder([*before[3:], "build", "--watch", "-t", name, image], heard)) if context else None
        if not context and watcher.digest() is None:
            raise NotFoundError(f"there is no image {image} in the store", hint="build or pull it, or name a directory to be built")
        running = stack.enter_context(_Container(before, options, platform, words, heard))
        try:
            while builder is None or builder.code() is None:
                digest = watcher.digest()
                if digest is not None and digest != running.digest:
                    running.replace(digest)
                running.look()
                watcher.wait(_LOOK_SECONDS)
        except Stopped:
            raise (KeyboardInterrupt if heard[-1] == signal.SIGINT else Terminated) from None
        return builder.code() or 0


def _is_context(image: str) -> bool:
    """Whether a directory is meant, there or not: it is written as one, and not as a name."""
    return image in (".", "..") or image.startswith(("/", "./", "../"))


def _global(invocation: Invocation) -> list[str]:
    given = (("--root", invocation.root), ("--config", invocation.config))
    words = [word for option, value in given if value for word in (option, value)]
    return [sys.executable, "-m", "imgbuild", *words, *(["--debug"] if invocation.debug else [])]


def _quietly(command: list[str]) -> None:
    """A command whose words are of no use here, out of reach of the terminal's signals."""
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0, check=False)


@contextmanager
def _builder(words: list[str], heard: list[int]) -> Iterator[Child]:
    """An imgbuild beside this one, which ends with it, however it does."""
    child = Child()
    try:
        child.begin({"words": words})
        yield child
    finally:
        child.end(heard or [signal.SIGTERM])


class _Container:
    """The container that runs, if one does."""

    def __init__(self, before: list[str], options: dict[str, Any], platform: str, words: dict[str, Any], heard: list[int]) -> None:
        self._before = before
        self._asked = {"invocation": options, "platform": platform}
        self._words = {**words, "auto_remove": True, "name": words["name"] or f"watch-{secrets.token_hex(4)}"}
        self._heard = heard
        self._child: Child | None = None
        self._voice = Voice("plain")
        self.digest = ""

    def __enter__(self) -> _Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def replace(self, digest: str) -> None:
        """Let the old one end, and start one of this image."""
        if self._child is not None:
            self._voice.say("the image is another one: restarting")
        self._stop()
        self._child, self.digest = Child(), digest
        self._child.begin({**self._asked, "image": digest, "run": self._words})

    def look(self) -> None:
        """Say it where the container has ended by itself."""
        code = self._child.code() if self._child is not None else None
        if code is not None:
            self._child = None
            self._voice.say(f"the container has ended with exit code {code}: waiting for another image")

    def _stop(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            while child.code() is None:
                _quietly([*self._before, "stop", self._words["name"]])
                child.wait(1.0)  # it may not have been there yet
            child.end([])

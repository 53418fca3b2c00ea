"""``--watch``: builds, waits until something that the build read is another, says what, and builds again, until it is told to end.

Each build is a process of its own, in a process group of its own: of the terminal's Ctrl-C it hears from us, once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from imgbuild.cli.ending import Terminated, heed_sigterm
from imgbuild.cli.failures import printable
from imgbuild.cli.jsonlines import JsonLines
from imgbuild.cli.streams import OutputError, OutputUnread
from imgbuild.cli.watched import Line
from imgbuild.engine.elsewhere import is_elsewhere
from imgbuild.engine.reads import Reads, parse_reads
from imgbuild.engine.request import BuildRequest
from imgbuild.engine.source import context_directory
from imgbuild.engine.watching import Change, Stopped, Watcher
from imgbuild.errors import SettingsError, UsageError
from imgbuild.light import signal
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.values import asdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from imgbuild.engine.invocation import Invocation

_HOPELESS = (UsageError.exit_code, SettingsError.exit_code, OutputError.exit_code, OutputUnread.exit_code)
"""How builds end that no change of a file makes succeed."""
_NAMED = 3
"""So many changed paths are named."""


def watch_build(invocation: Invocation, options: dict[str, Any], mode: str, notices: list[str]) -> int:
    """Build again and again; the exit code where that makes no sense."""
    heed_sigterm()
    request = BuildRequest(**options)
    _check(request)
    voice = Voice(mode)
    asked = {
        "invocation": {"root": invocation.root, "config": invocation.config, "debug": invocation.debug},
        "request": {name: value for name, value in asdict(request).items() if value is not None},
        "progress": mode,
    }
    with Watcher(os.getcwd(), left_out=_written(invocation, request)) as watcher, signals() as heard:
        child = Child()
        try:
            while True:
                child.begin({**asked, "notices": notices})
                notices = []
                code, _ = child.followed(watcher, voice)
                if code in _HOPELESS:
                    return code
                child = Child()
                voice.waiting()
                try:
                    changes = watcher.changes()
                except Stopped:
                    raise (KeyboardInterrupt if heard[-1] == signal.SIGINT else Terminated) from None
                voice.changed(changes)
        except KeyboardInterrupt:
            if not child.building:
                raise
            return 130  # which its build says, too
        finally:
            child.end(heard)


class Child:
    """The process of one build, from before it is asked for."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "imgbuild.cli.watched", str(theirs.fileno())], pass_fds=[theirs.fileno()], process_group=0
            )
        self._line = Line(ours)
        self.building = False

    def begin(self, asked: object) -> None:
        """Ask for the build."""
        self.building = True
        with suppress(OSError):  # it has died, which its exit code will say
            self._line.send(asked)

    def followed(self, watcher: Watcher, voice: Voice) -> tuple[int, str]:
        """Watch what the build reads, until it is over: its exit code and the image's id."""
        image, first = "", True
        while (told := self._line.receive()) is not None:
            if "image" in told:
                image = told["image"]
                continue
            reads = parse_reads(told["reads"])
            if first:
                watcher.begin(reads)
            else:
                watcher.follow(reads)
                voice.unwatched(reads)
            first = False
            with suppress(OSError):
                self._line.send({})
        code = self._process.wait()
        self.building = False
        return code, image

    def code(self) -> int | None:
        """The exit code, once it is over."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Until it is over, or so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def end(self, heard: list[int]) -> None:
        """Let it end as we do, and wait for that."""
        if heard and self.building and self._process.poll() is None:
            self._process.send_signal(passed_on(heard))
        self._line.close()
        while True:
            try:
                self._process.wait()
                return
            except KeyboardInterrupt:
                self._process.send_signal(signal.SIGINT)


class Voice:
    """Says what happens between builds, on the standard error, in the way of the progress that was asked for."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._unwatched: set[str] = set()

    def waiting(self) -> None:
        if self._mode == "json":
            JsonLines(sys.stdout).say("ChangesAwaited")
        self.say("waiting for changes")

    def changed(self, changes: tuple[Change, ...]) -> None:
        if self._mode == "json":
            JsonLines(sys.stdout).say("ChangesSeen", changes=[asdict(change) for change in changes])
        words: dict[str, list[str]] = {}
        for change in changes[:_NAMED]:
            words.setdefault(change.what, []).append(change.path)
        text = ", ".join(f"{', '.join(paths)} {what}" for what, paths in words.items())
        more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
        self.say(f"{text}{more}: building")

    def unwatched(self, reads: Reads) -> None:
        for name in reads.unwatched:
            if name not in self._unwatched:
                self._unwatched.add(name)
                self.say(f"notice: the context {name} is fetched, so its changes are not seen")

    def say(self, text: str) -> None:
        """Say it, where that is wanted."""
        if self._mode not in ("quiet", "none", "json", "rawjson"):
            # At once: where a signal's handler raises between a write and the stream's knowing of it, the stream writes again at the end.
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"{printable(f'imgbuild: {text}')}\n".encode())


@contextmanager
def signals() -> Iterator[list[int]]:
    """The signals that come meanwhile and end us, in the order in which they do: with the terminal, too, as what we have started is not of
    its group. It may write to the terminal all the same, also where others would be stopped for that (``stty tostop``)."""
    heard: list[int] = []
    stopped = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ending = signal.getsignal(signal.SIGTERM)
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        handler = ending if number == signal.SIGHUP else before[number]
        if callable(handler):
            handler(number, frame)

    for number, handler in before.items():
        if callable(handler) or (number == signal.SIGHUP and handler == signal.SIG_DFL and callable(ending)):
            signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in (*before.items(), (signal.SIGTTOU, stopped)):
            signal.signal(number, handler)


def passed_on(heard: list[int]) -> int:
    """What those are told that end with us."""
    return signal.SIGINT if heard and heard[-1] == signal.SIGINT else signal.SIGTERM


def _check(request: BuildRequest) -> None:
    hint = "watch a directory, or build without --watch"
    if request.file == "-":
        raise UsageError("--watch: a Buildfile from stdin can't change", hint="put it into a file")
    if is_elsewhere(request.context):
        kind = "stdin" if request.context == "-" else "a tar" if os.path.isfile(request.context) else "fetched"
        raise UsageError(f"--watch: the build context {request.context!r} can't be watched: it is {kind}", hint=hint)
    context_directory(request.context)


def _written(invocation: Invocation, request: BuildRequest) -> tuple[str, ...]:
    """What the build itself writes: where that is in a context, it would never end."""
    from imgbuild.engine.output_options import parse_outputs

    outputs = [output.dest for output in parse_outputs(request.outputs) if output.dest and output.dest != "-"]
    store = str(invocation.store_root(os.geteuid()))
    return (store, *outputs, *filter(None, (request.iidfile, request.metadata_file, request.failure_dir)))

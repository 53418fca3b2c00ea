"""What ``--watch`` does again and again, in a process of its own each time, so that it is what the plain command is.

`main` is that process. It is told by lines of JSON through a socket what to do, and tells what it reads; each such line waits for an
answer. When nobody is at the other end any more, it ends, also while it builds or runs. It is started before it is needed, and imports
what it will.
"""

from __future__ import annotations

import gc
import os
import sys

from imgbuild.cli import streams
from imgbuild.cli.main import bounded
from imgbuild.cli.main import main as command
from imgbuild.hints import TYPE_CHECKING, Any
from imgbuild.light import json

if TYPE_CHECKING:
    from socket import socket

    from imgbuild.engine.invocation import Invocation
    from imgbuild.engine.reads import Reads


class Line:
    """Lines of JSON through a socket; None, and an error when something is sent, where the other end is closed."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def send(self, value: object) -> None:
        self._connection.sendall(json.dumps(value).encode() + b"\n")

    def receive(self) -> Any:
        text = self._file.readline()
        return json.loads(text.decode()) if text.endswith(b"\n") else None

    def close(self) -> None:
        self._file.close()
        self._connection.close()


def main() -> None:
    """Do what is asked for by the socket whose number is the one argument; ends with its exit code."""
    import socket

    streams.fill()
    streams.guard()
    gc.set_threshold(100_000, 50, 50)
    number = int(sys.argv[1])
    os.set_inheritable(number, False)
    line = Line(socket.socket(fileno=number))
    code = bounded(lambda: _perform(line))
    streams.flush()
    os._exit(code)


def _perform(line: Line) -> int:
    from imgbuild.cli.ending import end_with_parent, heed_sigterm
    from imgbuild.engine.invocation import Invocation

    heed_sigterm()
    end_with_parent()
    import imgbuild.cli.progress
    import imgbuild.engine.build
    import imgbuild.engine.reads
    import imgbuild.solve.events
    import imgbuild.solve.solver
    from imgbuild.engine.request import BuildRequest

    asked = line.receive()
    if asked is None:
        return 130
    if "words" in asked:
        command(asked["words"])
    invocation = Invocation(environ=dict(os.environ), **asked["invocation"], ends=True)
    if "run" in asked:
        return _run(invocation, asked)
    words: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in asked["request"].items()}
    request = BuildRequest(**words)

    def on_reads(reads: Reads) -> None:
        line.send({"reads": reads.fields()})
        if line.receive() is None:
            raise KeyboardInterrupt

    with imgbuild.cli.progress.make_renderer(asked["progress"], invocation.environ) as renderer:
        for notice in asked["notices"]:
            renderer.on_event(imgbuild.solve.events.Notice(notice))
        result = imgbuild.engine.build.build_image(invocation, request, renderer.on_event, on_reads=on_reads)
        renderer.finish(result)
    line.send({"image": result.image_id})
    return 0


def _run(invocation: Invocation, asked: dict[str, Any]) -> int:
    """A container of the image, in the foreground."""
    from imgbuild.cli.run_options import run_options
    from imgbuild.engine.containers import RunRequest, run

    words = {name: tuple(value) if isinstance(value, list) else value for name, value in asked["run"].items()}
    outcome = run(invocation, RunRequest(asked["image"], run_options(words, invocation.environ, os.getcwd()), "never", asked["platform"]))
    if outcome.message:
        streams.say(f"imgbuild: {outcome.message}", err=True)
    return outcome.exit_code


if __name__ == "__main__":
    main()

"""``--progress=rawjson``: what happens, in the words of BuildKit's own stream: one object a line, with vertexes, logs or warnings."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from imgbuild.cli.progress import Quiet
from imgbuild.light import json, threading
from imgbuild.oci.digest import digest_of
from imgbuild.solve.events import Notice, StepFinished, StepOutput, StepStarted, Warned

if TYPE_CHECKING:
    from imgbuild.cli.progress import Result


class RawJson(Quiet):
    """Steps are vertexes. Their digests only tell them apart: they are those of their numbers."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._started: dict[int, dict[str, object]] = {}

    def on_event(self, event: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        with self._lock:
            status = self._status(event, now)
            if status:
                self._out.write(json.dumps(status) + "\n")
                self._out.flush()

    def finish(self, result: Result, target: str = "") -> None:
        pass

    def _status(self, event: object, now: str) -> dict[str, object]:
        match event:
            case StepStarted(number, name):
                vertex = self._started[number] = {"digest": _vertex(number), "name": name, "started": now}
                return {"vertexes": [vertex]}
            case StepFinished(number, outcome):
                vertex = {**self._started.pop(number, {"digest": _vertex(number)}), "completed": now}
                if outcome == "cached":
                    vertex["cached"] = True
                elif outcome != "done":
                    vertex["error"] = outcome
                return {"vertexes": [vertex]}
            case StepOutput(number, stream, data):
                text = base64.b64encode(data).decode("ascii")
                return {"logs": [{"vertex": _vertex(number), "stream": stream, "data": text, "timestamp": now}]}
            case Warned(rule, message, span):
                short = base64.b64encode(f"{rule}: {message}".encode()).decode("ascii")
                place = {"start": {"line": span.line}, "end": {"line": span.end_line}} if span is not None else None
                return {"warnings": [{"level": 1, "short": short, **({"range": [place]} if place else {})}]}
            case Notice(text):
                return {"warnings": [{"level": 1, "short": base64.b64encode(text.encode()).decode("ascii")}]}
            case _:
                return {}


def _vertex(number: int) -> str:
    return digest_of(f"step {number}".encode())

"""Notes what a build does, for its record: written at the end, by one line of the store's journal (`store.journal`).

A build in which all is cached does nothing else for it. One that performs or fetches something has a directory ``history/<id>`` in the
store from then on, locked, for the logs of its steps and for a file that says what is known so far: a build that is killed has a record.
The form of a record is described in `insight.builds`. Secrets are in none of it.
"""

from __future__ import annotations

import time

from imgbuild.errors import ImgbuildError, LeakError, Span
from imgbuild.graph.ops import BuildGraph, Step, TestOp
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterable, Mapping
from imgbuild.light import json, threading
from imgbuild.solve.events import Notice, Warned
from imgbuild.solve.nodes import Node, base_of, stands_on
from imgbuild.store import journal

if TYPE_CHECKING:
    from imgbuild.rootfs.capture import Captured
    from imgbuild.sandbox.spec import Usage
    from imgbuild.solve.output import Keeper
    from imgbuild.solve.underway import Words

_STARTED = "TransferStarted"
_SOON_SECONDS = 0.05
_COSTS = ("build", "log", "layer", "usage", "capture", "leaks")
"""What of a step is true of whoever finds it in the cache, too."""
_MOST_LINES = 8
_LONGEST_LINE = 400
"""What a record keeps of the lines that an error or a warning is about."""


class Chronicle:
    """The notes of one build. Safe to use from many threads. `header` is what is known of the build before it starts; `clock` gives
    seconds since 1970. `most_log` bounds each step's log, in bytes. `shown`: what the bake that this build belongs to calls a step. Where
    `kept` is false, all is forgotten."""

    def __init__(
        self,
        root: str,
        header: Mapping[str, object],
        on_event: Callable[[Any], None] = lambda event: None,
        *,
        clock: Callable[[], float] = time.time,
        most_log: int = 0,
        shown: Callable[[int], int] | None = None,
        kept: bool = True,
    ) -> None:
        self.build = str(header["id"])
        self.root = root
        self.most_log = most_log
        self.kept = kept
        self._header: dict[str, object] = {**header, "started": clock()}
        self._began = time.monotonic()
        self._pass_on = on_event
        self._shown = shown
        self._secrets: tuple[bytes, ...] = ()
        self._clock = clock
        self._graph: BuildGraph | None = None
        self._notices: list[str] = []
        self._warnings: list[dict[str, object]] = []
        self._steps: dict[int, dict[str, Any]] = {}
        self._numbers: dict[Node, int] = {}
        self._keepers: dict[int, Keeper] = {}
        self._uncaptured: dict[int, ImgbuildError] = {}
        self._lock = threading.Lock()
        self._words: Words | None = None
        self._due: float | None = None
        self.kept_logs = False

    def on_event(self, event: Any) -> None:
        """Note what a record holds of an event, and pass it on."""
        if isinstance(event, Notice):
            self._notices.append(str(self._told({"text": event.text})["text"]))
        elif isinstance(event, Warned):
            span = event.span
            self._warnings.append(self._told({"rule": event.rule, "message": event.message, **_place(span)}))
        elif self._words is None and type(event).__name__ == _STARTED:
            self.begin()
        self._pass_on(event)

    @property
    def header(self) -> Mapping[str, Any]:
        """What is known of the build as a whole."""
        return self._header

    def note(self, **facts: object) -> None:
        """More of what the header says."""
        self._header.update(facts)

    def hide(self, secrets: Iterable[bytes]) -> None:
        """Bytes that steps may know and the record may not."""
        self._secrets = tuple(secrets)

    @property
    def subject(self) -> str:
        """What is built: what is learned of a step is true of it in this Buildfile, and this context."""
        return f"{self._header.get('buildfile')} {self._header.get('context')}"

    def lowered(self, graph: BuildGraph) -> None:
        """The graph that will be solved."""
        self._graph = graph
        bases: dict[str, dict[str, object]] = {}
        for stage in graph.stages.values():
            if (base := stage.base) is not None:
                bases.setdefault(base.digest, {"name": base.name, "digest": base.digest, "platform": str(base.platform)})
        self._header["bases"] = list(bases.values())

    def begin(self) -> None:
        """From now on, something may be lost if this process died."""
        with self._lock:
            self._due = None
            if self._words is not None or not self.kept:
                return
            from imgbuild.solve.underway import Words

            words = Words(self.root, self.build)
            words.say(self._header, *list(self._steps.values()))
            self._words = words  # the header is the first line, whoever says something meanwhile

    def begin_soon(self) -> None:
        """The same from a moment on; of a build that is over by then, nothing is written before its end."""
        if self._words is None and self.kept:
            self._due = time.monotonic() + _SOON_SECONDS

    def tick(self) -> None:
        """Time has passed: to be called by whoever performs something."""
        due = self._due
        if due is not None and time.monotonic() > due:
            self.begin()

    def found(self, number: int, node: Node, step: Step, key: str, ledger: Mapping[str, Any], seconds: float) -> None:
        """A step was found in the cache before anything was performed, which took `seconds`; `ledger` is what the index says of how it
        was performed."""
        entry = self.started(number, node, step)
        entry["key"] = key
        self.cached(number, ledger)
        entry["started"], entry["outcome"], entry["seconds"] = round(entry["started"] - seconds, 6), "cached", round(seconds, 6)

    def started(self, number: int, node: Node, step: Step) -> dict[str, Any]:
        """A step is looked up or performed from now on: what the record will say of it."""
        assert self._graph is not None
        stage, span = self._graph.stages[node[0]], step.span
        below, read = stands_on(self._graph, node)
        entry: dict[str, Any] = {
            "number": number, "stage": stage.name, "position": node[1], "name": step.name, "file": span.source.name, "line": span.line,
            "end_line": span.end_line, "platform": str(stage.platform), "started": round(time.monotonic() - self._began, 6),
        }  # fmt: skip
        if below in self._numbers:
            entry["parent"] = self._numbers[below]
        elif below is None and (base := base_of(self._graph, stage)) is not None:
            entry["base"] = base.digest
        if read:
            entry["reads"] = [self._numbers[other] for other in read if other in self._numbers]
        if isinstance(step.op, TestOp):
            entry["test"] = True
        if self._shown is not None:
            entry["shown"] = self._shown(number)
        self._numbers[node] = number
        self._steps[number] = entry
        self._say_if_begun(entry)
        return entry

    def keyed(self, number: int, key: str) -> None:
        """The key of a step is known."""
        self._steps[number]["key"] = key
        self._say_if_begun({"number": number, "key": key})

    def key(self, node: Node) -> str:
        """The key of a step, "" where it is not known."""
        return str(self._steps[self._numbers[node]].get("key", "")) if node in self._numbers else ""

    def missed(self, number: int, **facts: object) -> None:
        """Why a step was not found, under the names that `insight.builds` describes."""
        self._steps[number].update({name: value for name, value in facts.items() if value})

    def cached(self, number: int, ledger: Mapping[str, Any]) -> None:
        """A step was found, as another build performed it."""
        entry = self._steps[number]
        entry.update({name: ledger[name] for name in _COSTS if ledger.get(name)})

    def performed(self, number: int, usage: Usage | None) -> None:
        """A step has ended well; its layer is still to be made."""
        entry = self._steps[number]
        entry["build"] = self.build
        self._noted(entry, usage)

    def spender(self, number: int) -> Callable[[Usage], None]:
        """What is told how much an attempt at a step cost. The last one counts."""

        def spent(usage: Usage) -> None:
            self._steps[number].pop("usage", None)
            self._noted(self._steps[number], usage)

        return spent

    def usage(self, number: int) -> Mapping[str, Any]:
        """What the last attempt at a step cost, as far as there was one."""
        usage: Mapping[str, Any] = self._steps[number].get("usage", {})
        return usage

    def waited(self, number: int, seconds: float) -> None:
        """How long a step waited for memory that others used."""
        if seconds:
            self._steps[number]["waited"] = round(seconds, 6)

    def captured(self, number: int, made: Captured, seconds: float) -> None:
        """The layer of a step is made; of the secrets that may be in it, the ids are known."""
        blob = made.layer.blob
        facts = {
            "diff_id": made.layer.diff_id, "digest": blob.digest, "size": blob.size, "uncompressed": made.uncompressed_size,
            "entries": made.entries,
        }  # fmt: skip
        self._steps[number].update(layer=facts, capture=round(seconds, 6), **({"leaks": made.leaks} if made.leaks else {}))

    def opened(self, number: int, facts: Mapping[str, Any]) -> None:
        """Which files of the build context a step has opened, as `solve.opened` tells it. Nobody who finds the step needs it at once."""
        self._steps[number]["opened"] = facts

    def uncaptured(self, number: int, failure: ImgbuildError, stopped: bool) -> None:
        """The layer of a step can't be made, or must not be: it has failed, whatever was said of it; but for the `stopped` build."""
        if not stopped or isinstance(failure, LeakError):
            self._uncaptured[number] = failure

    def costs(self, number: int) -> dict[str, Any]:
        """What the index shall remember of how a step was performed."""
        entry = self._steps[number]
        return {name: entry[name] for name in _COSTS if name in entry}

    def finished(self, number: int, outcome: str, seconds: float, usage: Usage | None, failure: ImgbuildError | None) -> None:
        """A step ended, in whatever way; its layer may still be made."""
        entry = self._steps[number]
        entry["outcome"], entry["seconds"] = outcome, round(seconds, 6)
        self._noted(entry, usage)
        if failure is not None:
            entry["error"] = self._error(failure)
        self._say_if_begun(entry)

    def output(self, number: int) -> Callable[[int, bytes], None]:
        """What keeps the output of a step."""
        if not self.kept:
            return lambda stream, data: None
        from imgbuild.solve.output import Keeper

        self.begin()
        self.kept_logs = True
        keeper = self._keepers[number] = Keeper(self.root, self.build, number, self._secrets, self.most_log)
        return keeper.write

    def ended(self, number: int) -> Callable[[], None] | None:
        """The output of a step is complete: what is to be done for its log when there is time."""
        keeper = self._keepers.pop(number, None)
        if keeper is None:
            return None
        name, work = keeper.end()
        if name:
            self._steps[number]["log"] = name
        return work

    def end(self, status: str, facts: Mapping[str, object], failure: BaseException | None = None) -> None:
        """Write the record: "done", "failed" or "canceled"."""
        if not self.kept:
            return
        for number in list(self._keepers):
            self.ended(number)
        for number, problem in self._uncaptured.items():
            self._steps[number].update(outcome="failed", error=self._error(problem))
        entries = [dict(entry) for _, entry in sorted(self._steps.items())]
        steps = [entry if "outcome" in entry else {**entry, "outcome": "canceled"} for entry in entries]
        record = {**self._header, **facts, "ended": self._clock(), "status": status, "steps": steps}
        record["cached"] = sum(step["outcome"] == "cached" for step in steps)
        record["performed"] = sum(step["outcome"] == "done" for step in steps)
        if self._notices:
            record["notices"] = self._notices
        if self._warnings:
            record["warnings"] = self._warnings
        if isinstance(failure, ImgbuildError):
            record["error"] = self._error(failure)
        if self._words is not None:
            self._words.end(record)
            self._words = None
        else:
            self._due = None
            if not journal.append(self.root, json.dumps(record, separators=(",", ":"))):
                self.begin()
                if self._words is not None:
                    self._words.end(record)

    def _noted(self, entry: dict[str, Any], usage: Usage | None) -> None:
        if usage is not None and "usage" not in entry:
            from imgbuild.values import asdict

            entry["usage"] = {name: value for name, value in asdict(usage).items() if value is not None}

    def _error(self, error: ImgbuildError) -> dict[str, object]:
        """An error as a record has it; a step's last lines may have a secret in them."""
        place = _place(error.at) if error.at is not None else {}
        facts = {"message": error.message, "hint": error.hint, "detail": error.detail, "kind": error.reference, **place}
        facts["notes"] = "\n".join(error.notes)
        return {name: value for name, value in self._told(facts).items() if value} | {"exit_code": error.exit_code}

    def _told(self, facts: dict[str, object]) -> dict[str, object]:
        """Facts without what is to be hidden."""
        if not self._secrets:
            return facts
        from imgbuild.solve.redaction import redacted_text

        return {name: redacted_text(value, self._secrets) if isinstance(value, str) else value for name, value in facts.items()}

    def _say_if_begun(self, entry: Mapping[str, object]) -> None:
        self.tick()
        if self._words is not None:
            self._say(entry)

    def _say(self, *entries: Mapping[str, object]) -> None:
        """Lines for who finds that this process died."""
        with self._lock:
            if self._words is not None:
                self._words.say(*entries)


def _place(span: Span) -> dict[str, object]:
    """A place as a record has it: with its lines, since the file will be another one by the time that somebody looks."""
    lines = span.source.lines[max(0, span.line - 1) : min(span.end_line, span.line + _MOST_LINES - 1)]
    source = "\n".join(line[:_LONGEST_LINE] for line in lines)
    columns = {"column": span.column, "end_column": span.end_column} if 0 < span.column <= _LONGEST_LINE else {}
    return {"file": span.source.name, "line": span.line, "end_line": span.end_line, "source": source, **columns}

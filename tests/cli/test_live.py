"""The live view: what stays is whole and in order, what stands below fits, whatever the terminal and whatever steps write."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from screen import Screen

from imgbuild.cli import live as live_module
from imgbuild.cli.live import Live
from imgbuild.cli.progress import calm
from imgbuild.cli.render import Region
from imgbuild.cli.view import View, elapsed
from imgbuild.errors import Source, Span
from imgbuild.insight.cause import Cause
from imgbuild.oci.digest import Digest
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepsKnown, StepStarted, StepWaiting, Warned
from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted

SPAN = Span(Source("Buildfile", ("RUN x",)), 1, 1)
HOSTILE = [
    b"\x1b[2J\x1b[Hgone", b"\x1b]0;title\x07", b"\x1b[?1049h", b"\x1b[1;5r", b"\x1bc", b"a\rb\rc", b"\r\r\r", b"\x9b2J", b"\xff\xfe",
    b"\x00\x08\x08\x7f", b"x" * 5000, "\u4f60\u597d".encode() * 500, "e\u0301\u200b\u202e".encode() * 100, b"\t" * 200, b"\x1b", b"\x1b[31",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467".encode() * 50, b"\n\n\n", b"",
]  # fmt: skip


class Time:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A live view on a screen, with its region, as the ticker would have it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
        self.screen = Screen(columns, rows)
        self.size = (columns, rows)
        self.time = Time()
        monkeypatch.setattr(live_module, "screen_size", lambda out: self.size)
        screen = self.screen

        class Out(io.StringIO):
            def write(self, text: str) -> int:
                screen.show(text.encode())
                return len(text)

        out = Out()
        self.live = Live(out, clock=self.time)
        self.live._region = Region(out, color=True)

    def say(self, *events: object) -> None:
        for event in events:
            self.live.on_event(event)
        self.time.now += 1
        self.live._show()

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)
        self.screen.resize(rows, columns)


def started(*numbers: int) -> list[object]:
    return [StepStarted(number, f"[{number}/200] RUN number {number}", SPAN) for number in numbers]


def test_what_runs_stands_below_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 80, 24)
    stage.say(StepsKnown(4), *started(1), StepFinished(1, "cached", 0.0), *started(2, 3), StepOutput(3, 1, b"one\ntwo\npart"))
    assert stage.screen.rows == [
        "      CACHED #1 [1/200] RUN number 1",
        "          1s #2 [2/200] RUN number 2",
        "          1s #3 [3/200] RUN number 3",
        "             part",
        "          1s 1/4 steps, 1 cached, 2 running",
    ]
    stage.say(StepWaiting(2, "for #3"), StepOutput(3, 1, b"ly\n\n"))
    assert stage.screen.rows[1:] == [
        "          2s #2 [2/200] RUN number 2",
        "             waiting: for #3",
        "          2s #3 [3/200] RUN number 3",
        "             partly",
        "          2s 1/4 steps, 1 cached, 1 running, 1 waiting (for #3)",
    ]
    stage.say(StepFinished(3, "failed", 2.0), Notice("take care"), StepFinished(2, "canceled", 2.0))
    assert stage.screen.rows == [
        "      CACHED #1 [1/200] RUN number 1",
        " FAILED 2.0s #3 [3/200] RUN number 3",
        "notice: take care",
        "CANCELED 2.0s #2 [2/200] RUN number 2",
    ]
    assert not stage.screen.cursor.hidden


def test_causes_and_warnings_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 80, 24)
    file = Cause("file", "src/main", "content", "2", "3")
    stage.say(Warned("Rule", "message", SPAN), *started(1, 2, 3), StepMissed(1, (file,)), StepMissed(2, (Cause("parent", "#1"),)))
    stage.say(StepMissed(3, (Cause("first", ""),)), *(StepFinished(number, "done", 0.5) for number in (1, 2, 3)))
    text = "\n".join(stage.screen.everything)
    assert text.count("MISS") == 1
    assert text.count("src/main") == 1
    assert text.count("warning: ") == 1


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10), (20, 5), (9, 3), (3, 2), (1, 1), (200, 60)])
def test_two_hundred_steps(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
    stage = Stage(monkeypatch, columns, rows)
    stage.say(StepsKnown(200))
    for first in range(1, 201, 20):
        numbers = list(range(first, first + 20))
        stage.say(*started(*numbers), *(StepOutput(number, 1, b"output of %d\n" % number) for number in numbers))
        if rows > 2 and columns > 30:
            assert len(stage.screen.rows) < rows
            assert f"{first - 1}/200 steps" in stage.screen.rows[-1]
            hidden = 20 - sum("RUN number" in row and "s #" in row and "DONE" not in row for row in stage.screen.rows)
            assert (f"and {hidden} more" in stage.screen.rows[-2].strip()) == (hidden > 0)
        for number in numbers:
            stage.say(StepFinished(number, "done", 1.0))
    wanted = [f"DONE 1.0s #{number} [{number}/200] RUN number {number}" for number in range(1, 201)]
    if columns > 45:
        assert [line.strip() for line in stage.screen.everything] == wanted
    elif columns > 3:  # lines that stay are whole: they go on in the next row
        assert "".join("".join(stage.screen.everything).split()) == "".join("".join(wanted).split())


def test_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 80, 24)
    stage.say(StepsKnown(20), *started(*range(1, 9)), *(StepOutput(number, 1, b"written") for number in range(1, 9)))
    assert len(stage.screen.rows) == 17
    for columns, rows in ((80, 24), (60, 12), (40, 10), (20, 6), (120, 40)):
        stage.resize(columns, rows)
        stage.say(Notice(f"at {columns}x{rows}"))
        assert len(stage.screen.rows) <= rows
        assert "0/20"[: columns - 13] in stage.screen.rows[-1]
    stage.say(*(StepFinished(number, "done", 1.0) for number in range(1, 9)))
    text = "".join("".join(stage.screen.everything).split())
    assert [text.count(f"DONE1.0s#{number}[") for number in range(1, 9)] == [1] * 8
    assert [text.count(f"at{size}") for size in ("80x24", "60x12", "40x10", "20x6", "120x40")] == [1] * 5


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(HOSTILE) | st.binary(max_size=60)), max_size=30), st.integers(14, 60))
def test_hostile_output(written: list[tuple[int, bytes]], columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(patch, columns, 12)
        stage.say(*started(1, 2, 3, 4))
        for number, data in written:
            stage.say(StepOutput(number, 1, data))
            assert len(stage.screen.rows) == len(stage.live._view.rows(stage.time.now, 11))
            assert stage.screen.rows[0].startswith(" " * 9)
            assert stage.screen.above == []
        stage.say(*(StepFinished(number, "done", 1.0) for number in (1, 2, 3, 4)))
        text = "".join("".join(stage.screen.everything).split())
        assert text == "".join(f"DONE1.0s#{number}[{number}/200]RUNnumber{number}" for number in (1, 2, 3, 4))


@given(st.text())
def test_what_is_calm_moves_nothing(text: str) -> None:
    assert calm(text).isprintable()
    assert calm(calm(text)) == calm(text)


def test_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 60, 8)
    digests = [Digest(f"sha256:{number:064x}") for number in range(10)]
    stage.say(*(BlobStarted(digest, 1000, "layer") for digest in digests[:2]), BlobAdvanced(digests[0], 500))
    assert stage.screen.rows[:2] == ["             000000000000 500 B of 1.0 kB", "             000000000000 0 B of 1.0 kB"]
    stage.say(*(BlobStarted(digest, 1000, "layer") for digest in digests[2:]))
    assert stage.screen.rows[0] == "             10 blobs, 500 B of 10.0 kB"
    stage.say(*(BlobFinished(digest, 1000, "fetched") for digest in digests), BlobAdvanced(digests[0], 1))
    assert stage.screen.rows == []


def test_nothing_new_is_nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 80, 24)
    stage.say(*started(1))
    fed: list[bytes] = []
    monkeypatch.setattr(stage.screen, "show", fed.append)
    stage.live._show()
    stage.live._show()
    assert fed == []
    stage.time.now += 1
    stage.live._show()
    assert len(fed) == 1


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (0.99, "0s"), (59.9, "59s"), (61, "1m01s"), (7384, "2h03m04s")])
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_without_color() -> None:
    out = io.StringIO()
    live = Live(out, color=False)
    region = Region(out, color=False)
    live.on_event(Notice("one"))
    live._show()
    region.draw([(("two", "told"),)], [(("three", "strong"),)], (80, 24))
    assert "three" in out.getvalue()
    assert re.search(r"\x1b\[[0-9;]*m", out.getvalue()) is None


def test_the_end_comes_once_and_leaves_the_lines() -> None:
    out = io.StringIO()
    with Live(out, color=False) as live:
        live.on_event(StepStarted(1, "RUN x", SPAN))
        live.on_event(StepFinished(1, "done", 0.1))
    assert out.getvalue() == "   DONE 0.1s #1 RUN x\n"


def test_rich_is_for_what_takes_longer() -> None:
    code = "import sys, imgbuild.cli.live; assert not {'rich', 'dataclasses', 'typing', 'threading'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_without_anything_to_show() -> None:
    assert View(0.0).rows(1.0, 10) == []


FIRST = """
import io, sys
from imgbuild.cli.live import Live
from imgbuild.light.threading import Thread
from imgbuild.solve.events import Notice
assert "threading" not in sys.modules
live = Live(io.StringIO())
thread = Thread(target=live.on_event, args=(Notice("by another one"),))
thread.start()
thread.join()
assert live._ticker is not None
assert "threading" not in sys.modules
live.__exit__(None, None, None)
"""


def test_it_ticks_from_the_first_event_of_another_thread_on() -> None:
    environ = {"PYTHONPATH": str(Path(live_module.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-S", "-c", FIRST], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

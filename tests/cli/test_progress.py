"""What steps write, as it is shown: lines of any length and number."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.cli import progress, view
from imgbuild.cli.failures import printable
from imgbuild.cli.progress import LONGEST_LINE, Plain, readable
from imgbuild.errors import Source, Span
from imgbuild.solve.events import StepFinished, StepOutput, StepStarted

CHUNK = 1 << 16
SPAN = Span(Source("Buildfile", "RUN x\n"), 1, 1)


def shown(*pieces: bytes) -> tuple[list[str], int]:
    """The lines of output, and the most bytes that were kept for the end of a line."""
    out = io.StringIO()
    plain = Plain(out)
    most = 0
    for piece in pieces:
        plain.on_event(StepOutput(3, 1, piece))
        most = max(most, *(len(rest) for rest in plain._partial.values()))
    plain.on_event(StepFinished(3, "done", 1.0))
    *lines, last = out.getvalue().splitlines()
    assert last == "#3 DONE 1.0s"
    assert all(line.startswith("#3 | ") for line in lines)
    return [line[5:] for line in lines], most


def test_a_line_without_end_is_shown_in_parts() -> None:
    lines, most = shown(*[b"x" * CHUNK] * 100, b"y\nnext")
    assert "".join(lines[:-1]) == "x" * 100 * CHUNK + "y"
    assert len(lines) > 10
    assert lines[-1] == "next"
    assert most <= LONGEST_LINE


def test_a_progress_bar_without_end_is_its_last_state() -> None:
    bar = b"".join(b"\r%3d %%" % number for number in range(100)) * 200
    lines, most = shown(*[bar] * 20, b"\rdone\n")
    assert lines == ["done"]
    assert most <= LONGEST_LINE
    assert shown(*[bar] * 20)[0] == [" 99 %"]
    assert shown(*[bar + b"\r"] * 20)[0] == [" 99 %"]


@given(st.lists(st.text(st.characters(categories=["L", "N"], include_characters="\n\t\x1b\x00é\u200b")).map(str.encode)))
def test_how_it_is_cut_into_pieces_does_not_matter(pieces: list[bytes]) -> None:
    assert shown(b"", *pieces)[0] == shown(b"".join(pieces))[0]


@given(st.binary())
def test_readable(line: bytes) -> None:
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
    if "\x1b" not in text:
        assert readable(line) == "".join(each for each in text if each == "\t" or each.isprintable())


@given(st.text(st.sampled_from("\x1b[]0;:?mJm\\\x07a")))
def test_of_escape_sequences_only_colors_are_left(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;:]*m", "", readable(text.encode()))
    assert left.isprintable()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("a\x1b[2J\x1b[1;1Hb\x1b[?25lc\x1b(Bd\x1b=e", "abcde"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("a\x1b]0;never ended", "a"),
        ("a\x1b", "a"),
    ],
)
def test_escape_sequences(line: str, shown: str) -> None:
    assert readable(line.encode()) == shown


def test_many_lines_at_once_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return super().write(text)

    Plain(Out()).on_event(StepOutput(1, 1, b"line\n" * 1000))
    assert writes == ["#1 | line\n" * 1000]


def test_the_live_view_looks_at_the_lines_that_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def watched(text: str) -> str:
        looked.append(text)
        return progress.calm(text)

    monkeypatch.setattr(view, "calm", watched)
    shown = view.View(0.0)
    shown.take(StepStarted(1, "RUN x", SPAN), 0.0)
    shown.take(StepOutput(1, 1, b"".join(b"line %d\n" % number for number in range(1000))), 0.0)
    assert looked[-1] == "line 999"
    assert len(looked) < 5
    shown.take(StepOutput(1, 1, b"x" * (1 << 20)), 0.0)
    assert len(looked[-1]) < 1 << 13


def test_names_that_are_no_text_are_shown_by_their_bytes() -> None:
    assert printable("a\udcff\n\x1bé\ud800") == "a\\xff\\x0a\\x1bé\\xd800"

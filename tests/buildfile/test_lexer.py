from __future__ import annotations

import pytest

from imgbuild.buildfile.lexer import LogicalLine, lex
from imgbuild.buildfile.parser import parse

from .faults import fault, marked, refused


def texts(text: str | bytes) -> list[str]:
    return [line.text for line in lex(text, "B").lines]


def only_line(text: str) -> LogicalLine:
    (line,) = lex(text, "B").lines
    return line


def test_directives() -> None:
    lexed = lex("# syntax = docker/dockerfile:1 \n#ESCAPE=`\n#Check=skip=all;error=true\nFROM x\n", "B")
    assert [(d.name, d.value) for d in lexed.directives] == [
        ("syntax", "docker/dockerfile:1"),
        ("escape", "`"),
        ("check", "skip=all;error=true"),
    ]
    assert lexed.escape == "`"
    assert str(lexed.directives[0].span) == "B:1:3"


@pytest.mark.parametrize("head", ["\n", "# comment\n", "# key=value\n", "#\n", "FROM y\n"])
def test_directives_end_at_the_first_other_line(head: str) -> None:
    assert lex(head + "# escape=`\nFROM x\n", "B").directives == ()


def test_directives_after_a_shebang_and_a_mark() -> None:
    assert lex("\ufeff#!/usr/bin/env imgbuild\n# escape=`\nFROM x", "B").escape == "`"


def test_a_directive_may_be_indented() -> None:
    assert lex("  #escape=`\nFROM x", "B").escape == "`"


def test_directive_twice() -> None:
    error = fault("# escape=`\n# Escape=\\\nFROM x\n")
    assert marked(error) == "Escape=\\"
    assert error.hint == "the first is on line 1"


def test_bad_escape() -> None:
    assert marked(fault("#escape=x\nFROM x\n")) == "escape=x"


def test_byte_order_mark_and_line_ends() -> None:
    assert texts(b"\xef\xbb\xbfFROM x\r\nRUN a \\\r\n b\r\n") == ["FROM x", "RUN a  b"]
    assert lex("FROM x\r\n", "B").source.lines == ("FROM x",)


def test_continuations() -> None:
    assert texts("RUN a \\  \t\n  b\\\nc\n") == ["RUN a   bc"]
    assert texts("RUN a \\\\\nRUN b\n") == ["RUN a \\\\", "RUN b"]
    assert texts("RUN a \\\n\\\n\\\nb") == ["RUN a b"]
    assert texts("RUN a \\") == ["RUN a "]
    assert texts("# escape=`\nRUN a `\nb \\\nRUN c") == ["RUN a b \\", "RUN c"]


def test_comments_and_empty_lines_inside_a_continuation() -> None:
    line = only_line("RUN a \\\n# one\n  # two\n\n   b\n")
    assert line.text == "RUN a    b"
    assert line.blank_inside
    assert (line.line, line.end_line) == (1, 5)
    assert not only_line("RUN a \\\n# one\n b").blank_inside
    assert only_line("RUN a \\\n \n").blank_inside


def test_a_comment_needs_the_beginning_of_a_line() -> None:
    assert texts("RUN a # b\n  # c\n") == ["RUN a # b"]


def test_comments_above() -> None:
    lines = lex("# a\n\n# b\nFROM x\nRUN y\n# gone\n#\n# kept\nRUN z\n# lost", "B").lines
    assert [line.comments for line in lines] == [("b",), (), ("kept",)]


def test_places() -> None:
    line = only_line("  RUN one \\\n# c\n   two\n")
    assert str(line.span(4, 7)) == "B:1:7"
    start = line.text.index("two")
    span = line.span(start, start + 3)
    assert (span.line, span.column, span.end_column) == (3, 4, 7)
    across = line.span(4, start + 3)
    assert (across.line, across.end_line, across.column) == (1, 3, 0)


def test_heredocs() -> None:
    line = only_line("RUN <<A 3<<-'B' cat <<\"c d\"\n1\nA\n\t\t2\n\tB\n$3\nc d\n")
    assert [(h.name, h.content, h.raw) for h in line.heredocs] == [
        ("A", "1\n", "1\nA"),
        ("B", "2\n", "\t\t2\nB"),
        ("c d", "$3\n", "$3\nc d"),
    ]
    assert [(h.expand, h.strip_tabs, h.fd) for h in line.heredocs] == [(True, False, None), (False, True, 3), (False, False, None)]
    assert [str(h.span) for h in line.heredocs] == ["B:1:5", "B:1:9", "B:1:21"]
    assert line.end_line == 7


@pytest.mark.parametrize(
    ("word", "name", "expand"),
    [
        ("<<E", "E", True),
        ("<<E'O'F", "EOF", False),
        ("<<E\\'F", "E'F", True),
        ("<<'e'o\\'f", "eo'f", False),
        ("<<$X", "$X", True),
        ("<<${X}", "${X}", True),
        ("<<  E", "E", True),
        ("<< -E", "-E", True),
        ("<<file.txt", "file.txt", True),
        ("<<-1", "1", True),
    ],
)
def test_heredoc_names(word: str, name: str, expand: bool) -> None:
    (heredoc,) = only_line(f"RUN {word}\n{name}\n").heredocs
    assert (heredoc.name, heredoc.expand, heredoc.content) == (name, expand, "")


@pytest.mark.parametrize(
    "line",
    [
        'RUN "<<E"',
        "RUN '<<E'",
        "RUN \\<<E",
        "RUN a<<E",
        "RUN <<<E",
        "RUN <<",
        "RUN <<-",
        "RUN <<- E",
        "RUN < <E",
        'RUN ["<<E"]',
        "RUN 'open <<E",
        "RUN ${} <<E",
        "RUN $((1<<2))",
        "USER <<E",
        "ENV a=<<E",
        "HEALTHCHECK CMD <<E",
        "CMD <<E",
        "ONBUILD USER <<E",
    ],
)
def test_no_heredoc(line: str) -> None:
    assert only_line(line).heredocs == ()


@pytest.mark.parametrize(
    "line", ["ADD <<E /x", "copy <<E /x", "ONBUILD RUN <<E", "onbuild copy --chmod=1 <<E /x", "RUN --network=none <<E"]
)
def test_where_heredocs_stand(line: str) -> None:
    assert len(only_line(f"{line}\nE\n").heredocs) == 1


def test_heredoc_text_is_untouched() -> None:
    (heredoc,) = only_line("RUN <<E\n\n# c\n a \\\nE \nFROM\r\nE").heredocs
    assert heredoc.content == "\n# c\n a \\\nE \nFROM\r\n"


def test_tabs_before_the_end_only_with_a_dash() -> None:
    assert len(only_line("RUN <<-E\n\t\tE\n").heredocs) == 1
    assert fault("FROM x\nRUN <<E\n\tE\n").message == "the heredoc 'E' does not end"


def test_unterminated_heredoc() -> None:
    error = fault("FROM x\nRUN cat <<A <<'B'\nA\nb\n")
    assert marked(error) == "<<'B'"
    assert "only B" in (error.hint or "")


def test_heredoc_after_a_continuation() -> None:
    line = only_line("RUN a \\\n <<E \\\n && b\nx\nE\n")
    assert line.heredocs[0].content == "x\n"
    assert str(line.heredocs[0].span) == "B:2:2"


def test_other_encodings() -> None:
    assert refused(lex, "FROM x\n".encode("utf-16"), "B").message == "B is UTF-16, not UTF-8"
    error = fault(b"FROM x\nRUN caf\xe9\n")
    assert (error.at and error.at.line, marked(error)) == (2, "\ufffd")
    fine = parse(b"# caf\xe9\nFROM x\nCOPY <<E /x\n\xff\nE\n", "B")
    (copy,) = fine.stages[0].instructions
    assert copy.heredocs[0].content.encode("utf-8", "surrogateescape") == b"\xff\n"  # type: ignore[attr-defined]
    assert fine.source.lines[0] == "# caf\ufffd"


def test_nul() -> None:
    assert marked(fault("FROM x\nRUN a\0b\n")) == "\0"
    assert parse("# \0\nFROM x\nCOPY <<E /x\n\0\nE\n", "B").stages


def test_nothing_to_continue() -> None:
    assert fault("FROM x\n\\\n\n").message == "a continued line with no instruction"


@pytest.mark.parametrize("text", ["", "\n", "# only\n", "#!x", b"", "\ufeff"])
def test_no_instructions(text: str | bytes) -> None:
    assert fault(text).message == "Buildfile has no instructions"


@pytest.mark.parametrize("line", ["RUN echo $((1 << 3))", "RUN echo $((x << y)) && make", "RUN echo $(( 1 << 3 ))"])
def test_a_shift_is_no_heredoc_unless_something_ends_it(line: str) -> None:
    assert only_line(f"{line}\n").heredocs == ()
    name = line.partition("<< ")[2].split()[0]
    assert [heredoc.content for heredoc in only_line(f"{line}\nx\n{name}\n").heredocs] == ["x\n"]


def test_a_heredoc_with_a_plain_name_must_end() -> None:
    assert fault("RUN cat << EOF\nx\n").message == "the heredoc 'EOF' does not end"
    assert fault("RUN cat <<3))\nx\n").message == "the heredoc '3))' does not end"


@pytest.mark.parametrize("keyword", ["MAINTAINER", "label"])
def test_descriptions_in_another_encoding_are_kept_but_for_what_is_not_utf_8(keyword: str) -> None:
    (line,) = lex(f"{keyword} a=Jos".encode() + b"\xe9 \n", "B").lines
    assert line.text.rstrip() == f"{keyword} a=Jos\ufffd"
    assert fault(b"FROM x\nENV a=Jos\xe9\n").message == "a byte that is not UTF-8 in an instruction"

"""Each instruction: what is accepted, the edges, what is refused and where the caret stands."""

from __future__ import annotations

import pytest

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.parser import parse, parse_trigger

from .faults import fault, marked, only, refused


def texts(words: tuple[ast.Word, ...]) -> list[str]:
    return [word.text for word in words]


# stages


def test_stages() -> None:
    b = parse("ARG A\nARG B=1\nFROM x AS One\nRUN a\nFROM one\nFROM scratch\nENV a=b\nARG C", "B")
    assert [pair[0].text for arg in b.global_args for pair in arg.pairs] == ["A", "B"]
    assert [(s.origin.image.text, s.origin.alias, len(s.instructions)) for s in b.stages] == [
        ("x", "one", 1),
        ("one", None, 0),
        ("scratch", None, 2),
    ]
    assert b.stages[0].origin.alias_word and b.stages[0].origin.alias_word.text == "One"
    assert (b.escape, b.source.name) == ("\\", "B")


@pytest.mark.parametrize(
    "text", ["FROM x", "from x", "FROM $X", "FROM a/b:c@sha256:d", "FROM --platform=$P x as y", "FROM x aS Y-1._", "FROM x AS scratch"]
)
def test_from(text: str) -> None:
    assert parse(text, "B").stages


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("FROM", "FROM"),
        ("FROM a b", "a b"),
        ("FROM a AS", "a AS"),
        ("FROM a AS b c", "a AS b c"),
        ("FROM a IS b", "a IS b"),
        ("FROM a AS 1b", "1b"),
        ("FROM a AS -b", "-b"),
        ("FROM a AS b/c", "b/c"),
        ("FROM a AS $b", "$b"),
        ("FROM a AS é", "é"),
        ("FROM --platform a", "--platform"),
        ("FROM --platfrom=x a", "--platfrom=x"),
    ],
)
def test_from_refused(text: str, caret: str) -> None:
    assert marked(fault(text)) == caret


@pytest.mark.parametrize("text", ["RUN a\nFROM x", "ARG a\nENV a=b\nFROM x", "ONBUILD RUN a"])
def test_before_from(text: str) -> None:
    assert fault(text).message.endswith("before the first FROM")


def test_no_from() -> None:
    assert fault("ARG a\n").message == "Buildfile has no FROM"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("RNU", "did you mean RUN?"),
        ("form", "did you mean FROM?"),
        ("WORKDRI", "did you mean WORKDIR?"),
        ("ENTRY_POINT", "did you mean ENTRYPOINT?"),
        ("INCLUSIVE", None),
        ("TSET", "did you mean TEST?"),
        ("&&", None),
    ],
)
def test_unknown_instruction(word: str, hint: str | None) -> None:
    error = fault(f"FROM x\n{word} y")
    assert error.message == f"unknown instruction {word}"
    assert marked(error) == word
    assert hint is None or error.hint == hint


# commands


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
def test_commands(keyword: str) -> None:
    def command(rest: str) -> tuple[tuple[str, ...] | None, str | None]:
        found = only(f"{keyword} {rest}").command
        return found.words, found.line

    assert command("echo  'a b'  # c ") == (None, "echo  'a b'  # c")
    assert command('["a", "b c"]') == (("a", "b c"), None)
    assert command('[ "a\\n\\u00e9\\ud83d\\ude00\\ud800" ]') == (("a\né😀\ufffd",), None)
    assert command("[]") == ((), None)
    assert command("") == (None, "")
    assert command("-- --x") == (None, "--x")
    for shell in ('["a",]', "['a']", "[a]", '["a"] b', '["a" "b"]', '["\t"]', "[ -f x ]", "[NaN]", "[", '["a"', '{"a":1}', '["\\x"]'):
        assert command(shell) == (None, shell)


@pytest.mark.parametrize("text", ["RUN [1]", 'CMD ["a", null]', "ENTRYPOINT [[]]", 'SHELL ["a", {}]', "VOLUME [true]", 'COPY ["a", 1]'])
def test_json_of_other_things(text: str) -> None:
    assert marked(fault(f"FROM x\n{text}")).startswith("[")


def test_deep_json_is_an_error_not_a_crash() -> None:
    fault("FROM x\nRUN " + "[" * 100_000 + "]" * 100_000)


def test_run_heredocs() -> None:
    run = only("RUN <<E\nx\nE\n")
    assert run.command.is_script and run.command.heredocs[0].content == "x\n"
    assert run.text == "RUN <<E" and (run.span.line, run.span.end_line) == (2, 4)
    assert not only("RUN <<E cat\nx\nE\n").command.is_script
    assert not only("RUN a <<A <<B\nA\nB\n").command.is_script
    assert not only("RUN echo").command.is_script
    assert only("RUN << E\nx\nE\n").command.is_script


def test_shell() -> None:
    assert only('SHELL ["a", "-c"]').words == ("a", "-c")
    for text in ("SHELL", "SHELL []", "SHELL /bin/sh -c", 'SHELL ["a",]'):
        fault(f"FROM x\n{text}")


def test_healthcheck() -> None:
    assert only("HEALTHCHECK none").command is None
    assert only("HEALTHCHECK --bogus NONE").flags == ()
    check = only('HEALTHCHECK --interval=1m --retries=0 cmd ["a"]')
    assert check.command.words == ("a",)
    assert [(flag.name, flag.value) for flag in check.flags] == [("interval", "1m"), ("retries", "0")]
    assert only("HEALTHCHECK CMD a  b").command.line == "a  b"


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("HEALTHCHECK", "HEALTHCHECK"),
        ("HEALTHCHECK CMD", "CMD"),
        ("HEALTHCHECK CMD []", "CMD []"),
        ("HEALTHCHECK NONE x", "x"),
        ("HEALTHCHECK CMDD x", "CMDD"),
        ("HEALTHCHECK curl x", "curl"),
        ("HEALTHCHECK --interval=1 CMD x", "--interval=1"),
        ("HEALTHCHECK --interval=$x CMD x", "--interval=$x"),
        ("HEALTHCHECK --timeout=-1s CMD x", "--timeout=-1s"),
        ("HEALTHCHECK --timeout=10us CMD x", "--timeout=10us"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries=-1"),
        ("HEALTHCHECK --retries=x CMD x", "--retries=x"),
        ("HEALTHCHECK --retries=2147483648 CMD x", "--retries=2147483648"),
        ("HEALTHCHECK --interval=1s --interval=2s CMD x", "--interval=2s"),
    ],
)
def test_healthcheck_refused(text: str, caret: str) -> None:
    assert marked(fault(f"FROM x\n{text}")) == caret


# files


def test_copy() -> None:
    copy = only("COPY --from=b a  'q w' /d/")
    assert texts(copy.sources) == ["a", "'q", "w'"]
    assert copy.destination.text == "/d/"
    assert str(copy.destination.span) == "Buildfile:2:24"
    json = only('ADD ["a b", "", "c d"]')
    assert isinstance(json, ast.Add) and texts(json.sources) == ["a b", ""] and json.destination.text == "c d"


def test_copy_heredocs() -> None:
    copy = only("COPY a <<B c 3<<-'D' <<\"e f\" /g\n1\nB\n\t2\n\tD\n3\ne f\n")
    assert texts(copy.sources) == ["a", "c"]
    assert [(h.name, h.content, h.expand) for h in copy.heredocs] == [("B", "1\n", True), ("D", "2\n", False), ("e f", "3\n", False)]
    assert [h.name for h in only("COPY << E /x\nE\n").heredocs] == ["E"]
    assert texts(only('COPY ["<<E", "/x"]').sources) == ["<<E"]
    assert [h.content for h in only("COPY <<E <<E /x\n1\nE\n2\nE\n").heredocs] == ["2\n", "2\n"]


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("COPY", "COPY"),
        ("COPY a", "a"),
        ("ADD []", "[]"),
        ('COPY ["a"]', '["a"]'),
        ("COPY a <<E\nE", "<<E"),
        ("COPY <<E ${ /x\nE", "<<E"),
        ("COPY <<E\nE", "<<E"),
    ],
)
def test_copy_refused(text: str, caret: str) -> None:
    assert marked(fault(f"FROM x\n{text}")) == caret


def test_an_escape_that_escapes_nothing_belongs_to_the_heredocs_word() -> None:
    error = fault("# escape=`\nFROM x\nCOPY <<E\\\nE\n")
    assert error.message == "COPY needs a source and a destination"
    assert marked(error) == "<<E\\"


# names and values


@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
def test_pairs(keyword: str) -> None:
    def pairs(rest: str) -> list[tuple[str, str]]:
        return [(name.text, value.text) for name, value in only(f"{keyword} {rest}").pairs]

    assert pairs("a=b") == [("a", "b")]
    assert pairs('a=b c=\'d e\' f="g\\" h" i=j\\ k') == [("a", "b"), ("c", "'d e'"), ("f", '"g\\" h"'), ("i", "j\\ k")]
    assert pairs("a= b==c=") == [("a", ""), ("b", "=c=")]
    assert pairs("a b") == [("a", "b")]
    assert pairs("a   b  =c 'd'") == [("a", "b  =c 'd'")]
    assert pairs("'a b' c") == [("'a", "b' c")]
    assert pairs('"a b"=c') == [('"a b"', "c")]
    assert pairs("a='x y") == [("a", "'x y")]
    assert pairs("a=$b-${c:-d}") == [("a", "$b-${c:-d}")]
    assert only(f"{keyword} a b").legacy and not only(f"{keyword} a=b").legacy


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("ENV", "ENV"),
        ("ENV a", "a"),
        ("ENV =b", "=b"),
        ("ENV a=b c", "c"),
        ("LABEL a=b =c", "=c"),
        ("ENV --x=y a=b", "--x=y"),
        ("LABEL ''", "''"),
    ],
)
def test_pairs_refused(text: str, caret: str) -> None:
    assert marked(fault(f"FROM x\n{text}")) == caret


def test_arg() -> None:
    def pairs(rest: str) -> list[tuple[str, str | None]]:
        return [(name.text, value and value.text) for name, value in only(f"ARG {rest}").pairs]

    assert pairs("a") == [("a", None)]
    assert pairs("a= b=c d 'e'=\"f g\"") == [("a", ""), ("b", "c"), ("d", None), ("'e'", '"f g"')]
    for text in ("ARG", "ARG =x", "ARG a =x"):
        fault(f"FROM x\n{text}")


# one argument, several arguments


@pytest.mark.parametrize(("keyword", "field"), [("WORKDIR", "path"), ("USER", "user"), ("STOPSIGNAL", "signal"), ("MAINTAINER", "name")])
def test_one_argument(keyword: str, field: str) -> None:
    assert getattr(only(f"{keyword}  a  b "), field).text == "a  b"
    error = fault(f"FROM x\n{keyword}  ")
    assert error.message == f"{keyword} needs an argument"
    assert marked(error) == keyword


def test_stopsignal_ignores_flags_as_buildkit_does() -> None:
    assert only("STOPSIGNAL --x 9").signal.text == "9"


def test_expose_and_volume() -> None:
    assert texts(only("EXPOSE 80  443/tcp $p").ports) == ["80", "443/tcp", "$p"]
    assert texts(only("VOLUME /a /b").paths) == ["/a", "/b"]
    assert texts(only('VOLUME ["/a b", " /c "]').paths) == ["/a b", "/c"]
    for text in ("EXPOSE", "VOLUME", "VOLUME []", 'VOLUME ["/a", " "]'):
        fault(f"FROM x\n{text}")


# triggers


def test_onbuild() -> None:
    onbuild = only("ONBUILD  COPY --chown=a b /c ")
    assert isinstance(onbuild.trigger, ast.Copy)
    assert onbuild.trigger_text == "COPY --chown=a b /c "
    assert onbuild.trigger.text == "COPY --chown=a b /c"
    assert [flag.value for flag in onbuild.trigger.flags] == ["a"]


def test_onbuild_heredoc_survives_the_image_config() -> None:
    onbuild = only("ONBUILD RUN <<-'E' sh\n\tx\n\tE\n")
    assert onbuild.trigger_text == "RUN <<-'E' sh\n\tx\nE"
    again = parse_trigger(onbuild.trigger_text, "base")
    assert isinstance(again, ast.Run) and again.command.heredocs[0].content == "x\n"


def test_onbuild_continued() -> None:
    assert only("ONBUILD \\\n RUN a \\\n  b").trigger_text == "RUN a   b"


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("ONBUILD", "ONBUILD"),
        ("ONBUILD FROM x", "FROM"),
        ("onbuild onbuild run a", "onbuild"),
        ("ONBUILD MAINTAINER x", "MAINTAINER"),
        ("ONBUILD BOGUS", "BOGUS"),
        ("ONBUILD --x RUN a", "--x"),
        ("ONBUILD COPY --x a b", "--x"),
        ("ONBUILD ENV", "ENV"),
    ],
)
def test_onbuild_refused(text: str, caret: str) -> None:
    assert marked(fault(f"FROM x\n{text}")) == caret


@pytest.mark.parametrize("text", ["", "# c", "RUN a\nRUN b", "FROM x", "ONBUILD RUN a", "MAINTAINER x", "BOGUS"])
def test_parse_trigger_refused(text: str) -> None:
    refused(parse_trigger, text, "base")


def test_text_and_comments() -> None:
    run = only("# check=skip=X\n# why\nrun  a \\\n # c\n\n   b  ")
    assert run.text == "run  a    b"
    assert run.comments == ("check=skip=X", "why")
    assert run.blank_inside
    assert (run.span.line, run.span.end_line) == (4, 7)


def test_a_big_file_is_read_whole() -> None:
    text = "".join(f"FROM s{n - 1} AS s{n}\nRUN a \\\n  {n}\nCOPY --from=s0 a b\nENV A=1 B='2 3'\n" for n in range(1, 1001))
    stages = parse(text, "B").stages
    assert len(stages) == 1000
    assert stages[-1].instructions[-1].span.line == 5000


def test_a_test_is_read_as_a_run_is() -> None:
    item = only("TEST --mount=type=tmpfs,target=/t --timeout=1m <<E\nmake check\nE\n")
    assert isinstance(item, ast.Test) and isinstance(item, ast.Run)
    assert item.command.is_script and item.command.heredocs[0].content == "make check\n"
    assert item.mounts == ((("type", "tmpfs"), ("target", "/t")),)
    exec_form = only('test ["a", "b"]')
    assert isinstance(exec_form, ast.Test) and exec_form.command.words == ("a", "b")
    assert "trigger" in fault("FROM x\nONBUILD TEST y").message

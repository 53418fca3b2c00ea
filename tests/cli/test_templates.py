"""Templates of ``--format``: what scripts for docker ask for comes out as it does there; what can't be read or filled is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.cli.template_functions import Names, NilList
from imgbuild.cli.templates import Template, listed, shown
from imgbuild.errors import UsageError

IMAGE: dict[str, Any] = {
    "Id": "sha256:1", "RepoTags": ["a:1", "a:2"], "Size": 1234, "Big": 2.5, "Here": True, "Gone": None, "None": [], "Huge": 10**400,
    "Config": {"Cmd": ["sh", "-c", "x y"], "Entrypoint": NilList(), "Labels": Names({"b": "2", "a": "1", "x.y": "dotted"}), "User": ""},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("", ""),
        ("plain } text", "plain } text"),
        ("{{.Id}}", "sha256:1"),
        ("<{{ .Id }}>", "<sha256:1>"),
        ("{{.Config.Cmd}}", "[sh -c x y]"),
        ("{{.Config.Entrypoint}} {{json .Config.Entrypoint}}", "[] null"),
        ("{{.Config.Labels}}", "map[a:1 b:2 x.y:dotted]"),
        ("{{.Config.Labels.a}} {{.Config.Labels.c}}", "1 <no value>"),
        ('{{index .Config.Labels "x.y"}}', "dotted"),
        ('{{index .Config.Labels "no"}}', ""),
        ("{{index .RepoTags 1}}", "a:2"),
        ('{{index .Config "Cmd" 0}}', "sh"),
        ("{{json .RepoTags}}", '["a:1","a:2"]'),
        ("{{.RepoTags | json}}", '["a:1","a:2"]'),
        ("{{len .RepoTags}}", "2"),
        ('{{len "\u00e9"}}', "2"),
        ("{{range .RepoTags}}{{.}} {{end}}", "a:1 a:2 "),
        ("{{range $i, $v := .RepoTags}}{{$i}}={{$v}};{{end}}", "0=a:1;1=a:2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 x.y=dotted "),
        ("{{range $v := .RepoTags}}{{$v}}{{end}}", "a:1a:2"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .RepoTags}}{{$.Size}}{{end}}", "12341234"),
        ("{{if .Config.User}}user{{else}}root{{end}}", "root"),
        ("{{if .Gone}}1{{else if .Here}}2{{else}}3{{end}}", "2"),
        ("{{if .Gone}}1{{else if .None}}2{{else}}3{{end}}!", "3!"),
        ("{{with .Config}}{{.User}}{{len .Cmd}}{{end}}", "3"),
        ("{{if and .Here (eq .Size 1234)}}yes{{end}}", "yes"),
        ("{{if or .Gone (not .Here)}}yes{{end}}", ""),
        ('{{eq .Id "a" "sha256:1"}} {{ne .Size 1}} {{lt 1 2}} {{ge 1.5 2}}', "true true true false"),
        ('{{join .Config.Cmd ", "}}', "sh, -c, x y"),
        ('{{index (split .Id ":") 0}}', "sha256"),
        ("{{upper .Id}} {{title `a b`}}", "SHA256:1 A B"),
        ("{{println .Size}}", "1234\n"),
        ('{{printf "%-6s|%5d|%q|%%|%.2f" "ab" .Size "a" .Big}}', 'ab    | 1234|"a"|%|2.50'),
        ("a {{- /* a comment */ -}} b", "ab"),
        ("x {{- .Size -}} y", "x1234y"),
        ("{{$x := .Size}}{{$x}}", "1234"),
        ("{{.Big}} {{.Here}} {{.Gone}}", "2.5 true <no value>"),
        ("{{nil}}{{true}}", "<no value>true"),
        ('{{"}}"}}', "}}"),
        ("<{{pad .Id 1 2}}|{{pad .Config.User 1 2}}>", "< sha256:1  |>"),
        ("{{truncate .Id 6}} {{truncate .Id 60}} {{slice .Id 7 8}}", "sha256 sha256:1 1"),
        ("{{slice .Id 7}} {{slice .RepoTags 1}} {{slice .RepoTags}}", "1 [a:2] [a:1 a:2]"),
        ('{{"a\tb\nc"}}', "a\tb\nc"),
        ('{{printf "%.99999f" 1.5}}', "1.5" + "0" * 999),
        ('{{printf "%.' + "9" * 5000 + 'f" 1.5}}', "1.5" + "0" * 999),
    ],
)
def test_what_comes_out(text: str, filled: str) -> None:
    assert Template(text).fill(IMAGE) == filled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Id", "does not end"),
        ("{{", "does not end"),
        ("{{.Nope}}", "there is no field 'Nope'"),
        ("{{.Id.x}}", "has no field 'x'"),
        ("{{nope}}", "there is no function nope"),
        ("{{if .Id}}x", "an {{end}} is missing"),
        ("{{end}}", "nothing for {{end}}"),
        ("{{else}}", "nothing for {{else}}"),
        ("{{}}", "a value is missing"),
        ("{{if}}x{{end}}", "a value is missing"),
        ("{{.Id | }}", "a value is missing"),
        ("{{(.Id}}", "not closed"),
        ("{{.Id)}}", "too many"),
        ("{{index .RepoTags 5}}", "there is no item 5"),
        ('{{index .RepoTags "x"}}', "has no x"),
        ("{{len .Size}}", "has no length"),
        ("{{join .Id}}", "is not a list"),
        ("{{json}}", "json does not take 0 arguments"),
        ("{{$x}}", "there is no variable $x"),
        ("{{range .Size}}x{{end}}", "can't go over"),
        ("{{.Id .Size}}", "only a function takes arguments"),
        ("{{lt .Id 5}}", "can't be compared"),
        ("{{printf `%s`}}", "no value for %s"),
        ("{{printf `x` 1}}", "more values"),
        ("{{if .Id}}{{else x}}{{end}}", "is not understood"),
        ("{{.Id ? 1}}", "'? 1' is not understood"),
        ("{{if .Id}}" * 60 + "{{end}}" * 60, "too deep"),
        ("{{" + "(" * 60 + ".Id" + ")" * 60 + "}}", "too deep"),
        ("x" * 30_000, "no more than"),
        ("{{range .RepoTags}}" * 40 + "{{end}}" * 40, None),
        ("{{range $a, $b, $c := .RepoTags}}{{end}}", "one or two variables"),
        ('{{"\\x"}}', "is not understood"),
        ('{{"\\ud800"}}', "is not understood"),
        ("{{" * 9_999, "does not end"),
        ("{{if .Gone}}" + "{{else if .Gone}}" * 1_000 + "{{end}}", "too deep"),
        ("{{$a := `xxxxxxxx`}}" + "{{$a := print $a $a}}" * 40, "makes more than"),
        ("{{$a := `xxxxxxxx`}}" + "{{$a := print $a $a}}" * 13 + "{{join (split $a ``) $a}}", "makes more than"),
        ("{{$a := `xxxxxxxx`}}" + "{{$a := print $a $a}}" * 20 + "{{$a}}" * 9, "makes more than"),
        ("{{pad .Id 1 100000000}}", "no number from 0 to 1000"),
        ("{{truncate .Id `1`}}", "no number from 0"),
        ("{{slice .Id 2 1}}", "is behind"),
        ("{{slice .Id 0 100}}", "no number from 0 to 8"),
        ("{{slice .Size 0}}", "is no text"),
        ("{{index .Config .RepoTags}}", "has no [a b]"),
        ("{{index .Config .Config}}", "has no map["),
        ("{{printf `%f` .Huge}}", "too large"),
    ],
)
def test_what_is_refused(text: str, words: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        Template(text).fill({**IMAGE, "RepoTags": ["a", "b"]} if words else {"RepoTags": NestedTags()})
    assert (words or "wants more than") in caught.value.message
    assert caught.value.exit_code == 2


class NestedTags(list[Any]):
    """A list whose items have it again."""

    def __init__(self) -> None:
        super().__init__([{"RepoTags": self}, {"RepoTags": self}])


@given(st.text('{}.$|()"`-:= aIid\\r/*', max_size=40).map(lambda text: f"{{{{{text}}}}}") | st.text(max_size=40))
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    try:
        assert isinstance(Template(text).fill(IMAGE), str)
    except UsageError as error:
        assert error.message.startswith("--format: ")


def test_lists() -> None:
    rows = [{"A": "1", "B": "x"}, {"A": "22", "B": ""}]
    heads = {"A": "AS", "B": "BS"}
    assert list(listed("{{.A}}\\t{{.B}}", rows, heads)) == ["1\tx", "22\t"]
    assert list(listed("table {{.A}}\\t{{.B}}", rows, heads)) == ["AS   BS\n1    x\n22"]
    assert list(listed("table {{.A}}", [], heads)) == ["AS"]
    assert list(listed('{{printf "%s\\t%s\\n" .A .B}}', rows, heads)) == ["1\tx\n", "22\t\n"]


def test_nothing_moves_a_cursor() -> None:
    assert shown("a\x1b[2J\tb\nc") == "a?[2J\tb\nc"

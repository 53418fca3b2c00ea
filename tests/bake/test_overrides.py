"""--set, and --print."""

from __future__ import annotations

import json

import pytest

from imgbuild.bake.show import shown

from .reading import read, refused

TEXT = """
targets:
  app: {args: {A: 1}, tags: [x], secrets: [id=s], buildfile-inline: FROM scratch}
  app-test: {inherits: [app], platforms: [linux/amd64]}
  lib: {}
"""


@pytest.mark.parametrize(
    ("sets", "key", "expected"),
    [
        (["app.args.A=2"], "args", {"A": "2"}),
        (["*.args.B=x=y"], "args", {"A": "1", "B": "x=y"}),
        (["ap?.args.A="], "args", {"A": ""}),
        (["app.args.HERE"], "args", {"A": "1", "HERE": "env"}),
        (["app.args.NOT_HERE"], "args", {"A": "1"}),
        (["app.tags=y"], "tags", ("y",)),
        (["app.tags=y", "app.tags=z"], "tags", ("y", "z")),
        (["app.tags+=y"], "tags", ("x", "y")),
        (["app.platform=linux/arm64"], "platforms", ("linux/arm64",)),
        (["app.secrets+=id=t"], "secret", ("id=s", "id=t")),
        (["app.no-cache=true"], "no-cache", True),
        (["app.no-cache=1", "app.no-cache=false"], "no-cache", False),
        (["app.target=s"], "target", "s"),
        (["app.push=true"], "output", ("type=registry",)),
        (["app.output=type=oci,dest=f", "app.push=true"], "output", ("type=oci,dest=f", "type=registry")),
        (["app.push=true", "app.push=false"], "output", ()),
        (["app.load=true"], "output", ()),
        (["app.contexts.b=docker-image://c"], "contexts", {"b": "docker-image://c"}),
        (["app.labels.l.m=1"], "labels", {"l.m": "1"}),
        (["app.annotations=a=1"], "annotations", ("a=1",)),
    ],
)
def test_set(sets: list[str], key: str, expected: object) -> None:
    assert read(TEXT, environ={"HERE": "env"}).values("app", sets=sets)[key] == expected


def test_set_of_what_is_inherited_is_inherited() -> None:
    assert read(TEXT).values("app-test", sets=["app.args.A=2"])["args"] == {"A": "2"}


def test_set_of_others_changes_nothing() -> None:
    assert read(TEXT).values("app", sets=["lib.args.A=2", "app-*.args.A=3"])["args"] == {"A": "1"}


def test_set_dockerfile_replaces_an_inline_one() -> None:
    assert "dockerfile-inline" not in read(TEXT).values("app", sets=["app.dockerfile=f"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app", "is not understood"),
        ("app.=1", "is not understood"),
        (".args.A=1", "is not understood"),
        ("app.args=1", "args needs a name"),
        ("app.tags.x=1", "tags has no names"),
        ("app.tag5=1", "did you mean tags?"),
        ("app.inherits=lib", "no key of a target"),
        ("ap.args.A=1", "no target is meant by 'ap' (did you mean app?)"),
        ("z*.args.A=1", "no target is meant by 'z*' (there are app, app-test, lib)"),
        ("app.target", "has no value"),
        ("app.target+=x", "only a list"),
        ("app.args.A+=x", "only a list"),
        ("app.no-cache=maybe", "neither true nor false"),
        ("app.push=x", "neither true nor false"),
    ],
)
def test_set_refused(text: str, message: str) -> None:
    said = refused(TEXT, words=["app"], sets=[text])
    assert said.startswith("--set ")
    assert message in said


def test_printed_form_can_be_read_again() -> None:
    text = """
groups: {default: [a], all: [a, b]}
targets:
  a:
    context: d
    buildfile-inline: "FROM scratch\\nENV A=${B}"
    args: {A: "1 $$ $${X} %{", B: }
    labels: {l: "$${}"}
    secrets: ["id=s,src=f"]
    outputs: ["type=oci,dest=o", here]
    pull: true
    no-cache: true
    contexts: {x: "target:b"}
    tags: [t]
    ulimits: {nofile: 5}
  b: {outputs: ["type=oci,dest=b"]}
"""
    first = shown(read(text).select("all"))
    json_text = json.dumps(first, indent=2)
    again = read(json_text)
    assert shown(again.select("all")) == first
    assert again.values("a")["args"] == {"A": "1 $ ${X} %{"}
    assert again.values("a")["dockerfile-inline"] == "FROM scratch\nENV A=${B}"
    target = json.loads(json_text)["target"]["a"]
    assert target["secret"] == [{"id": "s", "src": "f"}]
    assert target["output"] == [{"type": "oci", "dest": "o"}, {"type": "local", "dest": "here"}]
    assert target["pull"] is True


def test_printed_groups_and_defaults() -> None:
    found = shown(read("targets: {a: {}, b: {outputs: ['x'], contexts: {y: 'target:a'}}}").select("b"))
    assert found == {
        "group": {"default": {"targets": ["b"]}},
        "target": {
            "a": {"context": "."},
            "b": {"context": ".", "contexts": {"y": "target:a"}, "output": [{"type": "local", "dest": "x"}]},
        },
    }


def test_json_with_variables() -> None:
    text = (
        '{"variable": {"T": {"default": "x"}, "N": {}}, "group": {"default": {"targets": ["a"]}},'
        ' "target": {"a": {"tags": ["i:${T}", "$T"]}}}'
    )
    assert read(text).values("a") == {"tags": ("i:x", "$T")}
    assert read(text, environ={"T": "y"}).values("a") == {"tags": ("i:y", "$T")}


def test_json_refused() -> None:
    assert "can't be evaluated here" in refused('{"target": {"a": {"tags": ["${upper(T)}"]}}}', words=["a"])
    assert refused('{"target":\n {"a": {"contxt": "."}}}', words=["a"]) == (
        "file:2:9: unknown key 'contxt' in the target a (did you mean context?)"
    )
    assert "the word of docker-bake.json" in refused('{"target": {"a": {}}, "targets": {}}')

"""`imgbuild builds` and `explain` over records that nobody would write: each ends in words, or with an error of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.cli.builds import builds
from imgbuild.cli.explain import explain
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import CorruptError, ImgbuildError
from imgbuild.store import journal
from imgbuild.store.history import History
from imgbuild.store.store import Store

STEP: dict[str, Any] = {
    "number": 2, "stage": "a", "position": 1, "name": "[a 1/1] RUN true", "file": "Buildfile", "line": 2, "end_line": 3,
    "platform": "linux/amd64",
    "test": True, "key": "sha256:1", "outcome": "done", "started": 0.5, "seconds": 1.5, "build": "b", "parent": 1, "reads": [1],
    "log": "b/2",
    "layer": {"diff_id": "d", "digest": "e", "size": 5, "uncompressed": 6, "entries": 2}, "capture": 0.25, "waited": 0.25,
    "base": "sha256:2",
    "usage": {"cpu_user": 0.5, "cpu_system": 0.5, "peak_memory": 100, "network_received": 1, "oom_kills": 1, "throttled": 2},
    "error": {"message": "no", "detail": "words", "notes": "a", "hint": "b", "file": "Buildfile", "line": 3},
    "causes": [{"kind": "file", "subject": "a", "what": "content", "old_size": 1, "new_size": 2}], "more": 2,
    "differs": [{"kind": "variable", "subject": "A", "what": "x", "old": "1", "new": "2"}], "against": {"build": "c", "number": 3},
}  # fmt: skip
RECORD: dict[str, Any] = {
    "form": 1, "id": "b", "status": "failed", "started": 5.0, "ended": 7.5, "buildfile": "/Buildfile", "context": "/", "target": "t",
    "platforms": ["linux/amd64"], "names": ["x:latest"], "bake": {"id": "4567", "target": "app"}, "same": "c",
    "options": {"no_cache": True},
    "args": {"A": "1"}, "secrets": ["s"], "ssh": ["default"], "bases": [{"name": "b", "digest": "sha256:1", "platform": "linux/amd64"}],
    "image": "i", "digest": "d", "size": 4, "cached": 1, "performed": 1, "notices": ["n"], "version": "1",
    "error": {"message": "no", "line": 3},
    "warnings": [{"rule": "r", "message": "m", "file": "f", "line": 1}], "steps": [{**STEP, "number": 1, "parent": None}, STEP],
}  # fmt: skip

_ODD = st.sampled_from(["\x1b[2J", "\ud800", "../../x", 1 << 80, -1, "9" * 5000])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | _ODD
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _changed(value[path[0]], path[1:], new)
    return copy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of the test's own, as what one test's builds leave behind would be told in another."""
    with Store.open(tmp_path / "store"):
        return tmp_path / "store"


def _run(root: Path, command: click.Command, *arguments: str) -> ImgbuildError | None:
    try:
        command.main(list(arguments), obj=Invocation(dict(os.environ), root=str(root)), standalone_mode=False)
    except ImgbuildError as error:
        return error
    return None


def _ask(root: Path, build: str) -> None:
    for form in ("table", "json"):
        _run(root, builds, "ls", "-a", "--format", form)
        _run(root, builds, "show", build, "--format", form)
        _run(root, builds, "compare", build, "good", "--format", form)
    for form in ("text", "json"):
        _run(root, builds, "log", build, "--cached", "--format", form)
        _run(root, explain, build, "--format", form)
    _run(root, builds, "rm", build)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(list(_paths(RECORD))), new=_JSON)
def test_any_field_may_be_anything(root: Path, capfd: pytest.CaptureFixture[str], path: tuple[Any, ...], new: Any) -> None:
    assert journal.append(root, json.dumps({**RECORD, "id": "good", "same": ""}))
    assert journal.append(root, json.dumps(_changed(RECORD, path, new)))
    _ask(root, "b")
    assert "\x1b" not in capfd.readouterr().out
    with Store.open(root) as store:
        assert History(store).ids() == ["good"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(list(_paths([RECORD, STEP]))), new=_JSON, torn=st.integers(0, 300))
def test_what_a_killed_build_said_may_be_anything(
    root: Path, capfd: pytest.CaptureFixture[str], path: tuple[Any, ...], new: Any, torn: int
) -> None:
    lines = _changed([{**RECORD, "id": "dead"}, STEP], path, new)
    directory = root / "history" / "dead"
    directory.mkdir()
    data = "".join(f"\n{json.dumps(line)}\n" for line in lines) if isinstance(lines, list) else json.dumps(lines)
    (directory / "running").write_bytes(data.encode()[: len(data) - torn] + bytes(100))
    _ask(root, "dead")
    assert "\x1b" not in capfd.readouterr().out


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    line=st.binary() | st.lists(_JSON, max_size=6).map(lambda words: "\t".join(["=", *map(str, words)]).encode("utf-8", "surrogatepass"))
)
def test_any_line_of_the_journal_may_be_anything(root: Path, line: bytes) -> None:
    assert journal.append(root, json.dumps({**RECORD, "id": "good"}))
    with (root / "history" / "journal").open("ab") as stream:
        stream.write(b"\n" + line + b"\n")
    _ask(root, "good")


def test_a_record_that_is_damaged_in_the_index(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert journal.append(root, json.dumps({**RECORD, "id": "whole"}))
    assert journal.append(root, json.dumps({**RECORD, "id": "damaged"}))
    with Store.open(root) as store:
        History(store).take_in()
        with store.index.connections.writing() as connection:
            connection.execute("UPDATE history SET record = x'00112233' WHERE id = 'damaged'")
            connection.execute("UPDATE history_summaries SET summary = '{' WHERE id = 'damaged'")
    assert _run(root, builds, "ls", "-a", "-q") is None
    out, err = capfd.readouterr()
    assert out.split() == ["whole"]
    assert err == "imgbuild: notice: the record of the build damaged is damaged, and is left out\n"
    for command, arguments in ((builds, ["show"]), (builds, ["log"]), (builds, ["compare", "whole"]), (explain, [])):
        error = _run(root, command, *arguments, "damaged")
        assert isinstance(error, CorruptError)
        assert error.hint == "forget it: imgbuild builds rm damaged"
    assert _run(root, builds, "rm", "damaged", "whole") is None
    assert _run(root, builds, "ls", "-a", "-q") is None
    assert capfd.readouterr().err == ""


def test_a_list_takes_no_record_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        assert journal.append(root, json.dumps({**RECORD, "id": f"many{number}"}))
    with Store.open(root) as store:
        history = History(store)
        history.take_in()
        with store.index.connections.writing() as connection:  # what a version of before there were any takes in
            connection.execute("DELETE FROM history_summaries WHERE id = 'many3'")
        first = history.summaries()
        assert [(record["id"], record["count"], record["steps"]) for record in first] == [
            (record["id"], len(record["steps"]), []) for record in history.recent()
        ]
        monkeypatch.setattr("imgbuild.store.history.unpacked", None)
        assert history.summaries() == first
        assert [record["id"] for record in history.summaries(2)] == [record["id"] for record in first[:2]]
        history.remove(history.ids())
        with store.index.connections.reading() as connection:
            assert connection.execute("SELECT count(*) FROM history_summaries").fetchone() == (0,)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"form": 2, "version": "9.1"}, 21, "recorded by a newer imgbuild, in the form 2: this one knows 1"),
        ({"form": 0, "steps": [], "status": "done", "same": ""}, 13, "an older imgbuild did not record them"),
        ({"form": 0, "steps": [], "status": "done", "same": "lost"}, 13, "it was the same as the build lost, which is not kept"),
    ],
)
def test_records_of_other_versions(root: Path, capfd: pytest.CaptureFixture[str], more: dict[str, Any], code: int, words: str) -> None:
    for build, own in (("other", more), ("good", {})):
        assert journal.append(root, json.dumps({**RECORD, "id": build, **own}))
    for command, arguments in ((builds, ["log"]), (builds, ["compare", "good"]), (explain, [])):
        error = _run(root, command, *arguments, "other")
        assert error is not None
        assert error.exit_code == code
        assert words in error.message
    shown = _run(root, builds, "show", "other")
    assert words in (shown.message if shown is not None else capfd.readouterr().out)
    _run(root, builds, "rm", "other", "good")

"""In which fields two step records differ: exactly the one that was changed is named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from imgbuild.graph.key import key_record
from imgbuild.graph.ops import UNKEYED, CopyOp, DeviceOp, Document, FileText, MountOp, Op, RunOp, WorkdirOp
from imgbuild.graph.ops import TestOp as Trial
from imgbuild.insight.cause import Cause
from imgbuild.insight.causes import Words, record_causes
from imgbuild.insight.trees import Change
from imgbuild.store.nodes import Entry
from imgbuild.values import fields, replace

RUN = RunOp(
    ("/bin/sh", "-c", "make"), ("PATH=/bin", "V=1", "W=1"), "/src", "root", 0, mounts=(MountOp("bind", "/m"),), platform="linux/amd64"
)  # fmt: skip
COPY = CopyOp(("a",), "/x/", 0)
BASE = ("busybox:latest", "sha256:" + "1" * 64)
BY_PLACE = Words("RUN make", frozenset({"V"}), BASE)


def record(op: Op, parent: str = "sha256:0", inputs: dict[str, str] | None = None) -> dict[str, Any]:
    found = json.loads(key_record(op, parent, inputs or {}))
    assert isinstance(found, dict)
    return found


def causes(
    one: Op,
    other: Op,
    was: Words = BY_PLACE,
    now: Words | None = None,
    differ: Any = None,
    old: dict[str, str] | None = None,
    new: dict[str, str] | None = None,
) -> list[Cause]:
    return list(record_causes(record(one, inputs=old), record(other, inputs=new), was, now or was, differ))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"env": ("PATH=/bin", "V=2", "W=1")}, Cause("arg", "V", "value", old="1", new="2")),
        ({"env": ("PATH=/bin", "V=1", "W=2")}, Cause("env", "W", "value", old="1", new="2")),
        ({"env": ("PATH=/bin", "V=1")}, Cause("env", "W", "removed", old="1")),
        ({"env": ("PATH=/bin", "V=1", "W=1", "X=")}, Cause("env", "X", "added", new="")),
        ({"env": ("V=1", "PATH=/bin", "W=1")}, Cause("env", what="order")),
        ({"cwd": "/other"}, Cause("workdir", old="/src", new="/other")),
        ({"user": "ann"}, Cause("user", old="root", new="ann")),
        ({"argv": ("/bin/ash", "-c", "make")}, Cause("shell", old="/bin/sh, -c", new="/bin/ash, -c")),
        ({"argv": ("/bin/sh", "-c", "made")}, Cause("instruction", old="make", new="made")),
        ({"epoch": 5}, Cause("epoch", old="0", new="5")),
        ({"network": "none"}, Cause("option", "--network", old="default", new="none")),
        ({"security": "insecure"}, Cause("option", "--security", old="sandbox", new="insecure")),
        ({"devices": (DeviceOp("null"),)}, Cause("option", "--device", new="name=null")),
        ({"hosts": ("db",)}, Cause("option", "--add-host", new="db")),
        ({"shm_size": 65536}, Cause("option", "--shm-size", new="65536")),
        ({"ulimits": (("nofile", 1, 2),)}, Cause("option", "--ulimit", new="nofile, 1, 2")),
        ({"hostname": "other"}, Cause("option", "hostname", old="imgbuild", new="other")),
        ({"platform": "linux/arm64"}, Cause("option", "--platform", old="linux/amd64", new="linux/arm64")),
        ({"document": Document("EOF", "#!/bin/sh\n")}, Cause("flag", "heredoc", "heredoc", new="content=#!/bin/sh\n name=EOF")),
    ],
)
def test_each_field_of_a_run(changes: dict[str, Any], cause: Cause) -> None:
    assert causes(RUN, replace(RUN, **changes)) == [cause]


def test_every_keyed_field_is_named_by_something() -> None:
    other: dict[str, Any] = {"str": "other", "int": 7, "bool": True, "tuple": ("other",)}
    for op in (RUN, COPY, WorkdirOp("/x", "root", 0)):
        for item in fields(op):
            if item.metadata != UNKEYED and item.name not in ("mounts", "documents", "document", "remotes", "devices", "stage", "context"):
                value = getattr(op, item.name)
                kind = "int" if value is None else type(value).__name__
                changed = replace(op, **{item.name: (not value) if kind == "bool" else other[kind]})
                assert len(causes(op, changed)) == 1 or item.name == "env", item.name


def test_the_words_of_an_instruction() -> None:
    was, now = Words("RUN make"), Words("RUN make all")
    longer = replace(RUN, argv=("/bin/sh", "-c", "make all"))
    assert causes(RUN, longer, was, now) == [Cause("instruction", old="RUN make", new="RUN make all")]
    assert causes(RUN, COPY, was, Words("COPY a /")) == [Cause("instruction", old="RUN make", new="COPY a /")]
    assert causes(RUN, Trial(*(getattr(RUN, item.name) for item in fields(RUN))), was, Words("TEST make"))[0].kind == "instruction"
    # of the sources that became others, no files are told
    copies = Words("COPY a /x/"), Words("COPY b /x/")
    found = causes(COPY, replace(COPY, sources=("b",)), *copies, old={"0 a a": "sha256:1"}, new={"0 b b": "sha256:2"})
    assert found == [Cause("instruction", old="COPY a /x/", new="COPY b /x/")]
    # what is written otherwise and means the same is no reason
    assert causes(RUN, replace(RUN, cwd="/y"), was, Words("RUN  make")) == [Cause("workdir", old="/src", new="/y")]


def test_a_variable_in_the_words() -> None:
    words = Words("COPY --chown=${WHO}:5 $DIR/a /x/")
    assert causes(COPY, replace(COPY, chown="5:5"), words) == [Cause("variable", "WHO", "--chown", new="5:5")]
    assert causes(COPY, replace(COPY, sources=("b/a",)), words) == [Cause("variable", "DIR", "source", old="a", new="b/a")]
    assert causes(COPY, replace(COPY, documents=(FileText("f", "1"),)), Words("COPY <<f /x/")) == [
        Cause("flag", "heredoc", "heredoc", new="content=1 name=f")
    ]


def test_the_base() -> None:
    old, new = record(RUN, "sha256:0"), record(replace(RUN, epoch=9), "sha256:1")
    other = Words("RUN make", frozenset({"V"}), ("busybox:latest", "sha256:2"))
    renamed = Words("RUN make", frozenset({"V"}), ("alpine:latest", "sha256:2"))
    assert list(record_causes(old, new, BY_PLACE, other, _none)) == [
        Cause("base", "busybox:latest", "digest", old=BASE[1], new="sha256:2")
    ]
    assert list(record_causes(old, new, BY_PLACE, renamed, _none)) == [
        Cause("base", "alpine:latest", "name", old=BASE[0], new="alpine:latest")
    ]
    assert list(record_causes(old, new, Words("RUN make"), Words("RUN make"), _none)) == [Cause("parent")]


def _none(old: str, new: str) -> Iterable[Change]:
    return ()


FILE = Entry("file 644", "", "", "1" * 32, 1204)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            Change("app.py", ("content",), FILE, FILE._replace(body="2" * 32, size=1310)),
            Cause("file", "src/app.py", "content", old_size=1204, new_size=1310),
        ),
        (
            Change("app.py", ("mode",), FILE, FILE._replace(kind="file 755")),
            Cause("file", "src/app.py", "mode", old="644", new="755", old_size=1204, new_size=1204),
        ),
        (Change("app.py", ("added",), None, FILE), Cause("file", "src/app.py", "added", new_size=1204)),
        (Change("app.py", ("removed",), FILE, None), Cause("file", "src/app.py", "removed", old_size=1204)),
        (
            Change("l", ("target",), Entry("symlink 777", "", "", "a", 0), Entry("symlink 777", "", "", "b", 0)),
            Cause("file", "src/l", "target", old="a", new="b"),
        ),
        (
            Change("l", ("kind",), Entry("symlink 777", "", "", "a", 0), FILE),
            Cause("file", "src/l", "kind", old="symlink", new="file", new_size=1204),
        ),
        (
            Change("", ("owner",), FILE._replace(owner="0:0"), FILE._replace(owner="5:0")),
            Cause("file", "src", "owner", old="0:0", new="5:0", old_size=1204, new_size=1204),
        ),
        (Change("", ("unknown",)), Cause("file", "src", "unknown")),
    ],
)
def test_what_of_a_file(change: Change, cause: Cause) -> None:
    asked = []

    def differ(old: str, new: str) -> Iterable[Change]:
        asked.append((old, new))
        return (change,)

    inputs = {"0 src": "sha256:1", "1 other": "sha256:3"}
    assert causes(COPY, COPY, differ=differ, old=inputs, new={**inputs, "0 src": "sha256:2"}) == [cause]
    assert asked == [("sha256:1", "sha256:2")]


def test_inputs_that_a_pattern_finds_are_told_apart_by_name() -> None:
    old = {"0 a b.txt a b.txt": "sha256:1", "1 d/z.txt z.txt": "sha256:2"}
    new = {"0 a b.txt a b.txt": "sha256:1", "1 d/n.txt n.txt": "sha256:3", "2 d/z.txt z.txt": "sha256:2"}
    assert causes(COPY, COPY, differ=_none, old=old, new=new) == [Cause("file", "d/n.txt", "added")]
    assert causes(COPY, COPY, differ=_none, old=new, new=old) == [Cause("file", "d/n.txt", "removed")]


def test_what_is_read_of_other_places() -> None:
    words = Words("RUN make", sources=("", "stage lib"))
    found = causes(
        RUN, RUN, words, differ=lambda old, new: (Change("x", ("content",), FILE, FILE),),
        old={"mount 0 0 src": "sha256:1", "mount 1 usr/lib": "sha256:1"}, new={"mount 0 0 src": "sha256:1", "mount 1 usr/lib": "sha256:2"},
    )  # fmt: skip
    assert [(cause.subject, cause.where) for cause in found] == [("usr/lib/x", "stage lib")]


def test_another_form_of_records() -> None:
    old = {**record(RUN), "version": 1}
    assert [cause.kind for cause in record_causes(old, record(replace(RUN, user="x")), BY_PLACE, BY_PLACE, _none)] == ["version"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [({"secret a": "1"}, {"secret a": "2"}, "value"), ({}, {"secret a": "1"}, "added"), ({"secret a": "1"}, {}, "removed")],
)
def test_a_secret_is_named_by_its_id_alone(old: dict[str, str], new: dict[str, str], what: str) -> None:
    assert causes(RUN, RUN, old=old, new=new) == [Cause("secret", "a", what)]

"""Keys: every field of an op counts unless its declaration says otherwise."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from imgbuild.graph import ops
from imgbuild.graph.key import key_record, step_key
from imgbuild.graph.ops import CopyOp, DeviceOp, Document, FileText, Limits, MountOp, Op, RemoteSource, RunOp, WorkdirOp

RUN = RunOp(("a",), ("E=1",), "/", "", 0, mounts=(MountOp("cache", "/c", id="i"),))
COPY = CopyOp(("a",), "/b", 0)
WORKDIR = WorkdirOp("/w", "", 0)

CHANGES: list[tuple[Op, str, object]] = [
    (RUN, "argv", ("b",)),
    (RUN, "env", ("E=2",)),
    (RUN, "cwd", "/x"),
    (RUN, "user", "u"),
    (RUN, "epoch", 1),
    (RUN, "network", "none"),
    (RUN, "mounts", ()),
    (RUN, "document", Document("EOF", "#!x")),
    (RUN, "security", "insecure"),
    (RUN, "devices", (DeviceOp("/dev/fuse"),)),
    (RUN, "hosts", ("name",)),
    (RUN, "shm_size", 1),
    (RUN, "ulimits", (("nofile", 1, 1),)),
    (RUN, "hostname", "other"),
    (RUN, "platform", "linux/arm64"),
    (COPY, "sources", ("b",)),
    (COPY, "destination", "/b/"),
    (COPY, "epoch", 1),
    (COPY, "stage", 0),
    (COPY, "context", "c"),
    (COPY, "remotes", (RemoteSource("http", "https://a/b"),)),
    (COPY, "documents", (FileText("f", "x"),)),
    (COPY, "chown", "1"),
    (COPY, "chmod", "1"),
    (COPY, "unpack", True),
    (COPY, "link", True),
    (COPY, "parents", True),
    (COPY, "exclude", ("*.md",)),
    (WORKDIR, "path", "/x"),
    (WORKDIR, "user", "u"),
    (WORKDIR, "epoch", 1),
]


def key(op: Op, parent: str = "p", inputs: dict[str, str] | None = None) -> str:
    return step_key(key_record(op, parent, inputs or {}))


@pytest.mark.parametrize(("op", "name", "value"), CHANGES)
def test_a_field_that_counts(op: Op, name: str, value: object) -> None:
    assert key(replace(op, **{name: value})) != key(op)


def test_no_field_is_forgotten_here() -> None:
    for op in (RUN, COPY, WORKDIR):
        keyed = {item.name for item in fields(op) if item.metadata.get("keyed", True)}
        assert keyed == {name for other, name, _ in CHANGES if type(other) is type(op)}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "tmpfs"}, {"target": "/d"}, {"source": "/s"}, {"stage": 1}, {"context": "c"}, {"read_only": True}, {"id": "j"},
        {"sharing": "locked"}, {"mode": 1}, {"uid": 1}, {"gid": 1}, {"size": 1}, {"required": True}, {"env": "E"},
    ],
)  # fmt: skip
def test_every_field_of_a_mount_counts(change: dict[str, object]) -> None:
    assert key(replace(RUN, mounts=(replace(RUN.mounts[0], **change),))) != key(RUN)


def test_addresses_groups_and_what_is_saved_do_not_count() -> None:
    assert key(replace(RUN, addresses=("10.0.0.1",), cgroup_parent="/g", keep=("/report",))) == key(RUN)


def test_a_test_is_no_run() -> None:
    test = ops.TestOp(**{item.name: getattr(RUN, item.name) for item in fields(RUN)})
    assert key(test) != key(RUN)


def test_limits_proxies_and_places_do_not_count() -> None:
    assert key(replace(RUN, limits=Limits(memory=1, retry=2), proxy=("http_proxy=x",))) == key(RUN)


def test_that_a_source_may_be_missing_does_not_count() -> None:
    assert key(replace(COPY, optional=True)) == key(COPY)


def test_of_a_remote_source_only_its_kind_and_its_place_count() -> None:
    file = RemoteSource("http", "https://a/b", name="b")
    known = key(replace(COPY, remotes=(file,)))
    elsewhere = {"url": "https://c/d", "name": "d", "checksum": "x", "ref": "r", "subdir": "s", "keep_git_dir": True, "submodules": False}
    for name, value in elsewhere.items():
        assert key(replace(COPY, remotes=(replace(file, **{name: value}),))) == known
    for name, value in {"kind": "git", "position": 1, "unpack": True}.items():
        assert key(replace(COPY, remotes=(replace(file, **{name: value}),))) != known


def test_the_number_of_a_stage_does_not_count() -> None:
    assert key(replace(COPY, stage=1)) == key(replace(COPY, stage=2))


def test_parent_and_inputs_count_but_not_their_order() -> None:
    assert key(RUN) != key(RUN, "q")
    assert key(RUN) != key(RUN, inputs={"a": "1"})
    assert key(RUN, inputs={"a": "1", "b": "2"}) == key(RUN, inputs={"b": "2", "a": "1"})


def test_kinds_of_ops_do_not_meet() -> None:
    records = [json.loads(key_record(op, "p", {})) for op in (RUN, COPY, WORKDIR)]
    assert [record["op"] for record in records] == ["RunOp", "CopyOp", "WorkdirOp"]
    assert records[0]["fields"]["argv"] == ["a"]
    assert "limits" not in records[0]["fields"]

"""A store of thousands of images: what each command reads of those that it is not about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from counting import calls

from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import OCI_MANIFEST, Descriptor
from imgbuild.oci.reference import parse_reference
from imgbuild.store import fsck, garbage, tags
from imgbuild.store.fsck import check
from imgbuild.store.garbage import Policy, plan
from imgbuild.store.rows import BuildRow, LayerRow, SnapshotRow, StepRow
from imgbuild.store.store import Store

from .made import put_image


def fill(store: Store, count: int) -> Descriptor:
    """Names of `count` images that are not there, and of one that is."""
    image = put_image(store, {"a": b"1"})
    store.tags.set(parse_reference("hello"), image)
    path = store.root / "index.json"
    document = json.loads(path.read_text())
    for number in range(count):
        name = {"org.opencontainers.image.ref.name": f"registry.test/team/app-{number}:v1"}
        digest = f"sha256:{number:064x}"
        document["manifests"].append({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "annotations": name})
    path.write_text(json.dumps(document))
    return image


class Counted:
    """How often a function of a module is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        self.count = 0
        original: Callable[..., Any] = getattr(module, name)

        def counting(*arguments: Any, **more: Any) -> Any:
            self.count += 1
            return original(*arguments, **more)

        monkeypatch.setattr(module, name, counting)


def test_a_name_is_found_set_and_removed_without_reading_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = fill(store, 500)
    read = Counted(monkeypatch, tags, "parse_descriptor")
    assert store.tags.get(parse_reference("hello")) == image
    assert store.tags.get(parse_reference("unknown")) is None
    store.tags.set(parse_reference("hello"), image)
    store.tags.set(parse_reference("other"), image)
    store.tags.add_untagged(put_image(store, {"a": b"2"}))
    assert store.tags.remove(parse_reference("other")) == image
    assert len(store.tags.remove_untagged()) == 1
    assert len(store.tags.remove_digest(image.digest)) == 1
    assert read.count < 20
    assert len(store.tags.entries()) == 500


@pytest.mark.parametrize(
    "spelled", ["hello", "hello:latest", "library/hello", "docker.io/library/hello:latest", "index.docker.io/hello", "docker.io/hello"]
)
def test_a_name_that_another_tool_wrote_is_found_however_it_is_spelled(store: Store, spelled: str) -> None:
    image, other = put_image(store, {"a": b"1"}), put_image(store, {"a": b"2"})
    store.tags.set(parse_reference("hello"), image)
    path = store.root / "index.json"
    path.write_text(path.read_text().replace("hello:latest", spelled))
    hello = parse_reference("hello")
    assert store.tags.get(hello) == image
    assert store.tags.get(parse_reference(f"hello@{image.digest}")) == image
    store.tags.set(hello, other)
    assert store.tags.list() == ((None, image), (hello, other))
    path.write_text(path.read_text().replace("hello:latest", spelled))
    assert store.tags.remove(hello) == other


def test_the_plan_of_a_prune_reads_each_image_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_image(store, {"a": b"1"})
    for number in range(20):
        store.tags.set(parse_reference(f"name:{number}"), image)
    marked = Counted(monkeypatch, garbage, "_mark_image")
    assert plan(store, Policy(drop_untagged=True)).blobs == ()
    assert marked.count == 1


def test_the_plan_of_a_prune_compares_no_image_with_another(store: Store) -> None:
    def untag(count: int) -> Callable[[], object]:
        document = json.loads((store.root / "index.json").read_text())
        document["manifests"] = [{"mediaType": OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": 1} for number in range(count)]
        (store.root / "index.json").write_text(json.dumps(document))
        return lambda: plan(store, Policy(drop_untagged=True))

    store.tags.set(parse_reference("hello"), put_image(store, {"a": b"1"}))
    few = calls(untag(200))
    many = calls(untag(400))
    assert many < 2.3 * few


def test_a_check_makes_the_set_of_whole_snapshots_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.index.record_step(StepRow(f"k{number}", b"{}", None, "", True, "{}", "b", 0.0))
    given: set[int] = set()
    original = fsck._step_problem

    def watched(row: StepRow, held: set[DiffID], snapshots: set[str]) -> str:
        given.add(id(snapshots))
        alive.append(snapshots)
        return original(row, held, snapshots)

    alive: list[set[str]] = []
    monkeypatch.setattr(fsck, "_step_problem", watched)
    check(store)
    assert len(given) == 1


def test_no_question_of_a_build_goes_through_a_whole_table(store: Store) -> None:
    index = store.index
    digest, diff_id = Digest("sha256:" + "0" * 64), DiffID("sha256:" + "1" * 64)
    blob = Descriptor(OCI_MANIFEST, digest, 1)
    asked: list[str] = []
    with index.connections.reading() as connection:
        connection.set_trace_callback(asked.append)
        index.step("k")
        index.steps("build")
        index.record_step(StepRow("k", b"{}", None, "", True, "{}", "b", 0.0))
        index.layer(diff_id)
        index.layers_of(diff_id)
        index.record_layer(LayerRow(diff_id, blob, 1))
        index.diff_id_of(digest)
        index.snapshot("s")
        index.snapshots_for(diff_id)
        index.record_snapshot(SnapshotRow("s", diff_id, 1, 1))
        index.content_digest("owner", "path")
        index.record_content_digest("owner", "path", "x")
        index.stats("root")
        index.record_stats("root", {})
        index.sources(digest)
        index.record_build(BuildRow("b", 0.0, 1.0, "{}"))
        connection.set_trace_callback(None)
        assert len(asked) > 15
        for statement in asked:
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                assert not [step for step in steps if step.startswith("SCAN")], (statement, steps)

"""The commands on images: names, what is shown, what goes, and files there and back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import BASE_CREATED, EPOCH, PATIENCE, Bench, base_tar, clean_environ
from .peers import tree

TEXT = """
FROM busybox
RUN seq 100 > /a
LABEL made=here
ENV A=b
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["wc -l < /a"]
"""


@pytest.fixture
def built(bench: Bench) -> Bench:
    bench.build(TEXT)
    return bench


def _rows(bench: Bench) -> dict[str, str]:
    """ID by name, as `images` prints them."""
    lines = [line.split() for line in bench.run("images").out.splitlines()[1:]]
    return {f"{line[0]}:{line[1]}": line[2] for line in lines}


def test_templates_as_scripts_for_docker_have_them(built: Bench) -> None:
    built.run("tag", "x", "localhost:5000/y:1")
    assert built.run("inspect", "--format", "{{.Config.Cmd}} {{json .Config.Entrypoint}}", "x").out == '[wc -l < /a] ["/bin/sh","-c"]\n'
    assert built.run("inspect", "-f", '{{index .Config.Labels "made"}}{{.Config.Labels.none}}', "x").out == "here<no value>\n"
    assert built.run("inspect", "-f", "{{range $i, $e := .Config.Env}}{{if $i}}{{println $e}}{{end}}{{end}}", "x").out == "A=b\n\n"
    assert built.run("inspect", "-f", "{{.Id}}", "x", "busybox").out.split() == [built.inspect(name)["Id"] for name in ("x", "busybox")]
    assert built.run("inspect", "-f", "{{len .RootFS.Layers}} {{.Config.Volumes}} {{json .Config.Volumes}}", "x").out == "2 map[] null\n"
    names = built.run("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    assert sorted(names) == ["busybox:latest", "localhost:5000/y:1", "x:latest"]
    head, *rows = built.run("images", "--format", "table {{.ID}}\\t{{.Repository}}").out.splitlines()
    assert head.split() == ["IMAGE", "ID", "REPOSITORY"]
    assert [row.index(name) for row, name in zip(rows, (row.split()[1] for row in rows), strict=True)] == [head.index("REPOSITORY")] * 3
    assert built.run("images", "nothing-there", "--format", "{{.ID}}").out == ""
    built.run("run", "--name", "one", "busybox", "true")
    assert built.run("ps", "-a", "--format", "{{.Names}}{{if eq .State \"exited\"}} is over{{end}}").out == "one is over\n"


def test_templates_refused(built: Bench) -> None:
    for arguments, words in (
        (["images", "--format", "{{.Nope}}", "nothing-there"], "there is no field 'Nope'"),
        (["inspect", "--format", "{{.Config.Nope}}", "x"], "there is no field 'Nope'"),
        (["inspect", "--format", "{{.Id", "x"], "does not end"),
        (["images", "--format", "{{.Nope}}"], "hint: fields are: Repository, Tag"),
        (["images", "--format", "yaml"], "unknown format 'yaml'"),
    ):
        assert words in built.run(*arguments, code=2).err


def test_images_and_names(built: Bench) -> None:
    identity = built.inspect()["Id"]
    assert set(_rows(built)) == {"x:latest", "busybox:latest"}
    built.run("tag", "x", "x:1", "other/place:2", "registry.example:5000/deep/er/name:3", "docker.io/library/x:4")
    named = {"x:latest", "x:1", "other/place:2", "registry.example:5000/deep/er/name:3", "x:4"}
    rows = _rows(built)
    assert set(rows) == {*named, "busybox:latest"}
    assert {rows[name] for name in named} == {identity[7:19]}
    assert set(built.run("images", "-q", "--no-trunc").out.split()) == {identity, built.inspect("busybox")["Id"]}
    listed = json.loads(built.run("images", "--format", "json").out)
    assert {f"{row['Repository']}:{row['Tag']}": row["Digest"] for row in listed}["x:1"] == built.inspect()["Digest"]
    assert [line.split()[:2] for line in built.run("images", "x:4").out.splitlines()[1:]] == [["x", "4"]]
    assert {line.split()[1] for line in built.run("images", "docker.io/library/x").out.splitlines()[1:]} == {"latest", "1", "4"}
    assert built.run("images", "-q", "registry.example:5000/deep/er/name").out.split() == [identity[7:19]]
    assert built.run("images", "-q", "nothing").out == ""
    assert len(built.run("images", "UPPER", code=2).errors) == 1
    for word in ("x", "x:1", "docker.io/library/x:latest", identity, identity[7:], identity[7:15], f"x@{built.inspect()['Digest']}"):
        assert built.inspect(word)["Id"] == identity, word
    for bad in ("UPPER", "x:", "x/:1", "x y", "../x", "x@sha256:12", "", "a" * 300):
        assert len(built.run("tag", "x", bad, code=2).errors) == 1
    assert len(built.run("tag", "nothing", "y", code=13).errors) == 1
    assert len(built.run("tag", "x", f"y@{built.inspect()['Digest']}", code=2).errors) == 1


def test_inspect_and_history(built: Bench) -> None:
    image, base = json.loads(built.run("inspect", "x", "busybox").out)
    assert (image["RepoTags"], base["RepoTags"]) == (["x:latest"], ["busybox:latest"])
    assert image["RepoDigests"] == [f"x@{image['Digest']}"]
    assert image["Config"]["Labels"] == {"made": "here"}
    assert image["Config"]["Env"][-1] == "A=b"
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert image["Created"] == BASE_CREATED
    assert (image["Os"], image["Size"] > base["Size"]) == ("linux", True)
    assert len(built.run("inspect", "x", "nothing", code=13).errors) == 1
    said = built.run("inspect", "busybx", code=13).err
    assert "busybox" in said
    lines = built.run("history", "--no-trunc", "x").out
    assert [word in lines for word in ("seq 100 > /a", "LABEL made=here", "CMD", "ENTRYPOINT")] == [True] * 4
    rows = json.loads(built.run("history", "--format", "json", "x").out)
    assert rows[0]["CreatedBy"].startswith("CMD")
    assert [row["DiffID"] for row in rows if row["DiffID"]] == list(reversed(image["RootFS"]["Layers"]))


def test_a_name_that_moves_and_what_prune_takes(built: Bench) -> None:
    first = built.inspect()["Id"]
    built.build(TEXT.replace("100", "200"))
    assert built.inspect()["Id"] != first
    assert "<none>:<none>" in _rows(built)
    assert built.inspect(first[7:19])["RepoTags"] == []
    before = json.loads(built.run("du", "--format", "json").out)
    assert before["reclaimable"] > 0
    assert "Freed" in built.run("prune").out
    assert "<none>:<none>" not in _rows(built)
    built.run("inspect", first, code=13)
    # The cache stays: the first one is built again without performing a step.
    assert set(built.build(TEXT).steps.values()) == {"CACHED"}
    built.run("prune", "--all")
    after = json.loads(built.run("du", "--format", "json").out)
    # The index may grow: of what was evicted, it is remembered when.
    assert after["total"] - after["index"] < before["total"] - before["index"]
    built.assert_whole()


def test_rmi(built: Bench) -> None:
    built.run("tag", "x", "y")
    assert built.run("rmi", "x").out == "Untagged: x:latest\n"
    done = built.run("rmi", "y")
    assert "Untagged: y:latest" in done.out
    assert "Deleted: sha256:" in done.out
    assert len(built.run("rmi", "x", code=13).errors) == 1
    assert set(_rows(built)) == {"busybox:latest"}
    built.build(TEXT, "-t", "z")
    built.run("rmi", built.inspect()["Id"])
    assert set(_rows(built)) == {"busybox:latest"}
    built.run("rmi", "busybox")
    built.run("prune", "--all")
    assert os.listdir(built.root / "blobs" / "sha256") == os.listdir(built.root / "snapshots") == []
    built.assert_whole()


@pytest.fixture
def running(built: Bench) -> Iterator[Bench]:
    """With the container "c" of "x", which waits for a file."""
    script = "echo ready; until [ -e /go ]; do usleep 10000; done; cat /a | wc -l; ls /bin/busybox"
    built.run("run", "-d", "--name", "c", "x", script)
    try:
        yield built
    finally:
        built.run("rm", "-f", "c", code=None)


def test_what_a_container_stands_on_stays(running: Bench) -> None:
    assert "c" in running.run("rmi", "x", code=14).err
    running.run("rmi", "-f", "x")
    running.run("rmi", "busybox")
    assert running.run("images", "-q").out == ""
    running.run("prune", "--all")
    running.run("fsck")
    running.run("exec", "c", "touch", "/go", code=None)  # its end may be that of the container
    assert running.run("wait", "c").out == "0\n"
    assert running.run("logs", "c").out == "ready\n100\n/bin/busybox\n"
    running.run("rm", "c")
    running.run("prune", "--all")
    assert os.listdir(running.root / "snapshots") == []
    running.assert_whole()


# Files there and back


@pytest.fixture
def empty(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "empty", clean_environ(tmp_path / "empty" / "home"))
    bench.context.mkdir(parents=True)
    return bench


@pytest.mark.parametrize(
    ("format_", "directory", "compression"),
    [("oci", True, None), ("oci", False, None), ("oci", False, "none"), ("docker", True, None), ("docker", False, "none")],
)
def test_save_and_load(built: Bench, empty: Bench, format_: str, directory: bool, compression: str | None) -> None:
    built.run("tag", "x", "registry.example/y:1")
    place = built.place / "saved"
    options = [*(["--directory"] if directory else []), *(["--compression", compression] if compression else [])]
    built.run("save", "--format", format_, *options, "-o", place, "x", "registry.example/y:1", "busybox")
    loaded = empty.run("load", place).out
    assert sorted(loaded.splitlines()) == [f"Loaded image: {name}" for name in ("busybox:latest", "registry.example/y:1", "x:latest")]
    assert empty.inspect()["Id"] == empty.inspect("registry.example/y:1")["Id"] == built.inspect()["Id"]
    if format_ == "oci" and compression is None:
        assert empty.inspect()["Digest"] == built.inspect()["Digest"]
    assert empty.run("run", "--rm", "x").out == "100\n"
    empty.run("load", f"{place}:x:latest", "chosen:2")
    assert empty.inspect("chosen:2")["Id"] == built.inspect()["Id"]
    assert len(empty.run("load", f"{place}:nothing", code=13).errors) == 1
    empty.assert_whole()


def test_pipes(built: Bench, empty: Bench) -> None:
    with subprocess.Popen(built.command("save", "-o", "-", "x"), stdout=subprocess.PIPE, env=built.environ) as saving:
        done = subprocess.run(
            empty.command("load"), stdin=saving.stdout, env=empty.environ, capture_output=True, timeout=PATIENCE, check=False
        )
    assert (done.returncode, saving.returncode) == (0, 0), done.stderr
    assert empty.inspect()["Digest"] == built.inspect()["Digest"]
    # A directory of the store's own kind: one store out of another.
    empty.run("load", f"{built.root}:busybox:latest")
    assert empty.inspect("busybox")["Digest"] == built.inspect("busybox")["Digest"]


def test_import_and_unpack(empty: Bench, tmp_path: Path) -> None:
    digests = set()
    for name, command in (("plain", ["cat"]), ("gzip", ["gzip", "-c"]), ("xz", ["xz", "-c"]), ("zstd", ["zstd", "-c"])):
        data = subprocess.run(command, input=base_tar(), capture_output=True, check=True).stdout
        (tmp_path / name).write_bytes(data)
        digests.add(empty.run("import", tmp_path / name, name).out.strip())
    digests.add(empty.run("import", "-", "stdin", stdin=base_tar()).out.strip())
    assert len(digests) == 1
    empty.run("import", "-c", 'CMD ["id", "-un"]', "-c", "USER ann", "-c", "ENV A=b", "-m", "made by hand", tmp_path / "plain", "changed")
    assert empty.run("run", "--rm", "changed").out == "ann\n"
    assert empty.inspect("changed")["Comment"] == "made by hand"
    assert len(empty.run("import", "-c", "RUN true", tmp_path / "plain", "no", code=None).errors) == 1
    assert len(empty.run("import", tmp_path / "nothing", "no", code=2).errors) == 1
    empty.run("unpack", "plain", tmp_path / "tree")
    found = tree(tmp_path / "tree")
    assert found["bin/sh"][4] == b"busybox"
    assert found["home/ann"][:4] == ("0o40755", 1000, 1001, EPOCH)
    assert found["tmp"][0] == "0o41777"
    assert len(empty.run("unpack", "plain", tmp_path / "tree", code=None).errors) == 1
    empty.run("save", "--directory", "-o", tmp_path / "layout", "plain")
    empty.run("unpack", f"{tmp_path}/layout:plain:latest", tmp_path / "again")
    assert tree(tmp_path / "again") == found | {".": tree(tmp_path / "again")["."]}
    empty.assert_whole()


def test_what_is_no_image(built: Bench, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "directory").mkdir()
    for path in ("text", "directory", "missing"):
        assert len(built.run("load", tmp_path / path, code=None).errors) == 1
    assert built.run("load", stdin=b"", code=None).code in (18, 19)
    assert len(built.run("save", "-o", tmp_path / "no" / "where.tar", "x", code=None).errors) == 1
    assert len(built.run("save", "-o", tmp_path / "saved.tar", "x", "nothing", code=13).errors) == 1
    assert not (tmp_path / "saved.tar").exists()
    assert set(_rows(built)) == {"x:latest", "busybox:latest"}
    built.assert_whole()

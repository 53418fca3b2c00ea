"""docker buildx's options and keys: what they make, what is accepted without an effect, and what is refused."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_mock.client import Mock

from .harness import Bench, clean_environ

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER = "arm64" if MACHINE != "arm64" else "riscv64"
BOTH = f"linux/{MACHINE},linux/{OTHER}"
TEXT = "FROM scratch\nCOPY . /\n"


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


@pytest.fixture
def fresh(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "fresh", clean_environ(tmp_path / "home"))
    bench.context.mkdir(parents=True)
    return bench


def layout_index(layout: Path) -> dict[str, Any]:
    return json.loads((layout / "index.json").read_text())


def layout_blob(layout: Path, digest: str) -> dict[str, Any]:
    return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())


# Annotations


def test_annotations_of_one_image(bench: Bench) -> None:
    layout = bench.place / "layout"
    options = ("--annotation", "a=1", "--annotation", "manifest:b=2=3", "--annotation", "manifest-descriptor:c=4")
    bench.build(TEXT, *options, "--output", f"type=oci,dest={layout},tar=false,annotation.d=5,annotation-manifest-descriptor.e=6")
    assert bench.manifest()["annotations"] == {"a": "1", "b": "2=3"}
    (entry,) = layout_index(layout)["manifests"]
    assert {key: value for key, value in entry["annotations"].items() if len(key) == 1} == {"c": "4", "e": "6"}
    assert layout_blob(layout, entry["digest"])["annotations"] == {"a": "1", "b": "2=3", "d": "5"}
    bench.build(TEXT)
    assert "annotations" not in bench.manifest()


def test_annotations_of_an_index(bench: Bench) -> None:
    layout = bench.place / "layout"
    options = [
        "a=all", "manifest:b=x", f"manifest[linux/{OTHER}]:b=other", "index,manifest:c=both", "index:d=index",
        f"manifest-descriptor[linux/{MACHINE}]:e=here", "index-descriptor:f=listed",
    ]  # fmt: skip
    bench.build(
        TEXT, "--platform", BOTH, *(word for text in options for word in ("--annotation", text)), "-o", f"type=oci,dest={layout},tar=false"
    )
    index = bench.manifest()
    assert index["annotations"] == {"c": "both", "d": "index"}
    first, second = index["manifests"]
    assert (first.get("annotations"), second.get("annotations")) == ({"e": "here"}, None)
    manifests = [json.loads(bench.blob(entry["digest"]))["annotations"] for entry in (first, second)]
    assert manifests == [{"a": "all", "b": "x", "c": "both"}, {"a": "all", "b": "other", "c": "both"}]
    (entry,) = layout_index(layout)["manifests"]
    assert entry["annotations"]["f"] == "listed"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("novalue", "has no value"), ("=x", "has no key"), ("manifest:=x", "has no key"), ("shelf:a=b", "not a level"),
        ("index:a=b", "makes none"), ("index-descriptor:a=b", "makes none"), ("manifest[linux/s390x]:a=b", "which is not built"),
        ("manifest[]:a=b", "not a level"), ("manifest[a/b/c/d]:a=b", "invalid platform"),
    ],
)  # fmt: skip
def test_annotations_that_are_refused(shared: Bench, option: str, words: str) -> None:
    assert words in shared.refused(TEXT, "--annotation", option, code=2)


# Outputs


def test_several_outputs_with_their_own_names(bench: Bench, fresh: Bench, mock: Mock) -> None:
    one, two = f"{mock.authority}/me/one:1", f"{mock.authority}/me/two:2"
    bench.build(
        TEXT, "-o", f'type=image,"name={one},{two}",push=true,annotation.a=b', "-o", f"type=tar,dest={bench.place / 'x.tar'}",
        "-o", "type=image,name=three,name-canonical=true,store=true,unpack=false,rewrite-timestamp=true",
    )  # fmt: skip
    for name in (one, two):
        fresh.run("pull", name)
        assert fresh.manifest(name)["annotations"] == {"a": "b"}
    assert "annotations" not in bench.manifest("x:latest")
    assert bench.manifest("three:latest") == bench.manifest("x:latest")
    assert f"three@{bench.inspect()['Digest']}" in bench.inspect("three")["RepoDigests"]


@pytest.mark.parametrize("key", ["oci-mediatypes=false", "compression=uncompressed", "compression=zstd", "force-compression=true"])
def test_forms_of_a_pushed_image(bench: Bench, fresh: Bench, mock: Mock, key: str) -> None:
    name = f"{mock.authority}/me/x:1"
    bench.build("FROM busybox\nCOPY . /\n", "-o", f"type=image,name={name},push=true,{key}")
    fresh.run("pull", name)
    manifest = fresh.manifest(name)
    types = {layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]}
    if key == "oci-mediatypes=false":
        assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
        assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
        assert types == {"gzip"}
    else:
        assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert types == {{"compression=uncompressed": "tar", "compression=zstd": "tar+zstd"}.get(key, "tar+gzip")}


def test_a_push_by_digest_gives_no_tag(bench: Bench, fresh: Bench, mock: Mock) -> None:
    name = f"{mock.authority}/me/x"
    metadata = bench.place / "metadata.json"
    bench.build(TEXT, "-o", f"type=image,name={name},push-by-digest=true,push=true", "--metadata-file", metadata)
    digest = json.loads(metadata.read_text())["containerimage.digest"]
    fresh.run("pull", f"{name}@{digest}")
    assert fresh.run("pull", name, code=None).code != 0


def test_directories_of_platforms(bench: Bench) -> None:
    bench.write({"f": "x"})
    one, two = bench.place / "one", bench.place / "two"
    bench.build(TEXT, "-o", f"type=local,dest={one},platform-split=true", "-o", f"type=local,dest={two}")
    assert (one / f"linux_{MACHINE}/f").exists()
    assert (two / "f").exists()
    bench.build(TEXT, "--platform", BOTH, "-o", f"type=local,dest={bench.place / 'three'},platform-split=false")
    assert (bench.place / "three/f").exists()


@pytest.mark.parametrize("output", ["type=docker", "type=docker,name=y:1", "type=cacheonly"])
def test_outputs_that_are_the_store(bench: Bench, output: str) -> None:
    bench.write({"f": "x"})
    done = bench.build(TEXT, "-o", output)
    assert done.out == ""
    assert "f" in bench.files()
    assert bool(bench.run("images").out.count("y ")) == ("name=y" in output)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("type=oci,dest=x,oci-mediatypes=false", "OCI media types"), ("type=local,dest=x,push=true", "type=local has no push"),
        ("type=image,push=maybe", "neither true nor false"), ("type=image,compression=lzma", "'lzma' is not known"),
        ("type=image,compression-level=3", "settings file"), ("type=registry,registry.insecure=true", "settings file"),
        ("type=image,push-by-digest=true", "needs the name"), ("type=tar,dest=x,annotation.a=b", "has no annotations"),
        ("type=image,annotation-shelf.a=b", "not a level"), ("type=image,anotation.a=b", "not understood"),
        ("type=image,comprssion=gzip", "did you mean compression"), ("dest=x", "is not a type"),
        ("type=cacheonly,dest=x", "type=cacheonly has no dest"),
        ("type=image,annotation-index.a=b", "makes none"),
    ],
)  # fmt: skip
def test_outputs_that_are_refused(shared: Bench, output: str, words: str) -> None:
    assert words in shared.refused(TEXT, "--output", output, code=2)


# What is performed again


def test_stages_without_cache(bench: Bench) -> None:
    text = "FROM busybox AS One\nRUN echo one > /one\nFROM busybox\nRUN echo two > /two\nFROM busybox\nCOPY --from=one /one /\n"
    text += "COPY --from=1 /two /\n"
    bench.build(text)
    done = bench.build(text, "--no-cache-filter", "ONE")
    assert done.steps["RUN echo one > /one"] == "DONE"
    assert done.steps["RUN echo two > /two"] == "CACHED"
    done = bench.build(text, "--no-cache-filter", "one,stage-1")
    assert (done.steps["RUN echo one > /one"], done.steps["RUN echo two > /two"]) == ("DONE", "DONE")
    done = bench.build(text, "--no-cache-filter", "nothing")
    assert "no stage has the name that --no-cache-filter gives: nothing" in done.err
    assert set(done.steps.values()) == {"CACHED"}


# Options without an effect, and those that can't be had


def test_options_that_change_nothing(bench: Bench) -> None:
    done = bench.build(
        TEXT, "--provenance=false", "--sbom", "false", "--attest", "type=sbom,disabled=true", "--builder", "default", "--load", "--rm",
        "--force-rm", "--compress", "--isolation=default", "--disable-content-trust",
        environ={"DOCKER_BUILDKIT": "1", "BUILDX_BUILDER": "x"},
    )  # fmt: skip
    assert "notice" not in done.err
    done = bench.build(TEXT, "--cache-from", "type=registry,ref=x", "--cache-to", "type=inline")
    assert "notice: --cache-from is not read: steps are found in the store" in done.err
    assert "notice: --cache-to=type=inline has no effect" in done.err


@pytest.mark.parametrize(
    "options",
    [
        ["--provenance=true"], ["--provenance=mode=max"], ["--sbom=true"], ["--attest", "type=provenance,mode=max"], ["--squash"],
        ["--security-opt", "seccomp=x"], ["--cache-to", "type=local,dest=x"], ["--cache-to", "user/app:cache"], ["--isolation=hyperv"],
        ["--cpu-shares=2"], ["--cpuset-cpus", "0-1"],
    ],
)  # fmt: skip
def test_options_that_can_not_be_had(shared: Bench, options: list[str]) -> None:
    said = shared.refused(TEXT, *options, code=2)
    assert options[0].partition("=")[0] in said
    assert "hint:" in said


def test_what_the_hint_says_is_accepted(shared: Bench) -> None:
    for attest in ("type=provenance,mode=max", "type=sbom"):
        said = shared.refused(TEXT, "--attest", attest, code=2)
        shared.build(TEXT, said[said.index("or say ") + 7 :].split()[0])


def test_arguments_for_the_builder(bench: Bench) -> None:
    arguments = ("--build-arg=BUILDKIT_SANDBOX_HOSTNAME=my-host.example", "--build-arg=BUILDKIT_INLINE_CACHE=1")
    done = bench.build("FROM busybox\nRUN hostname; cat /etc/hosts\n", *arguments)
    assert done.output[0] == "my-host.example"
    assert "127.0.0.1\tlocalhost my-host.example" in done.output
    assert "notice" not in done.err
    assert bench.build(None).output[0] == "imgbuild"
    bench.refused(None, "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=two words", code=2)


# Progress


def test_progress_by_the_environment(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\n"})
    done = bench.run("build", "-t", "x", ".", environ={"BUILDKIT_PROGRESS": "quiet"})
    assert (done.out.strip(), done.err) == (bench.inspect()["Id"], "")
    done = bench.run("build", "--progress=plain", ".", environ={"BUILDKIT_PROGRESS": "quiet"})
    assert "CACHED" in done.err
    done = bench.run("build", "--progress=none", ".")
    assert (done.out, done.err) == ("", "")
    assert "loud" in bench.run("build", ".", environ={"BUILDKIT_PROGRESS": "loud"}, code=2).err


def test_raw_json(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\nRUN echo err >&2; exit 3\n"})
    done = bench.run("build", "--progress=rawjson", ".", code=1)
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    vertexes = [vertex for line in lines for vertex in line.get("vertexes", [])]
    logs = [log for line in lines for log in line.get("logs", [])]
    first = vertexes[0]
    assert (first["name"], "completed" in first) == ("[1/2] RUN echo out", False)
    assert [each["digest"] == first["digest"] for each in vertexes] == [True, True, False, False]
    assert "completed" in vertexes[1]
    assert vertexes[-1]["error"] == "failed"
    assert [(log["vertex"] == first["digest"], log["stream"], base64.b64decode(log["data"])) for log in logs] == [
        (True, 1, b"out\n"), (False, 2, b"err\n"),
    ]  # fmt: skip
    assert len(done.errors) == 1


# Bases of one platform


def test_a_registry_that_has_one_platform_only(bench: Bench, mock: Mock) -> None:
    """The image is taken for what it is, as BuildKit does; lint says so."""
    name = f"{mock.authority}/me/base:1"
    bench.build("FROM scratch\nLABEL a=b\nCOPY . /\n", "--platform", f"linux/{OTHER}")
    bench.run("push", "x", name)
    done = bench.build(f"FROM {name}\n", "--pull")
    assert "InvalidBaseImagePlatform" in done.err
    assert bench.config()["Labels"] == {"a": "b"}

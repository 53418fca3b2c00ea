"""Builds for several platforms, and for another one than this machine's."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .harness import Bench, copied

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER = "arm64" if MACHINE != "arm64" else "riscv64"
BOTH = f"linux/{MACHINE},linux/{OTHER}"
ARGS = "ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDARCH\n"


def platforms(index: dict[str, Any]) -> list[str]:
    found = [entry["platform"] for entry in index["manifests"]]
    return ["/".join(filter(None, (each["os"], each["architecture"], each.get("variant")))) for each in found]


def children(bench: Bench, name: str = "x:latest") -> dict[str, dict[str, Any]]:
    """The configs of an index's images, by platform."""
    index = bench.manifest(name)
    manifests = [json.loads(bench.blob(entry["digest"])) for entry in index["manifests"]]
    configs = [json.loads(bench.blob(manifest["config"]["digest"])) for manifest in manifests]
    return dict(zip(platforms(index), configs, strict=True))


def test_several_platforms_make_an_index(bench: Bench) -> None:
    text = f"FROM scratch\n{ARGS}COPY <<EOF /for\n$TARGETPLATFORM $TARGETARCH $TARGETVARIANT on $BUILDARCH\nEOF\nLABEL arch=$TARGETARCH\n"
    bench.build(text, "--platform", f"{BOTH},linux/arm/v6", "--platform", BOTH)
    index = bench.manifest()
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert platforms(index) == [f"linux/{MACHINE}", f"linux/{OTHER}", "linux/arm/v6"]
    configs = children(bench)
    assert [(each["os"], each["architecture"], each.get("variant")) for each in configs.values()] == [
        ("linux", MACHINE, None), ("linux", OTHER, None), ("linux", "arm", "v6"),
    ]  # fmt: skip
    assert configs["linux/arm/v6"]["config"]["Labels"] == {"arch": "arm"}
    out = bench.place / "out"
    bench.build(None, "--platform", f"{BOTH},linux/arm/v6", "--output", str(out))
    assert sorted(path.name for path in out.iterdir()) == sorted([f"linux_{MACHINE}", f"linux_{OTHER}", "linux_arm_v6"])
    assert (out / "linux_arm_v6/for").read_text() == f"linux/arm/v6 arm v6 on {MACHINE}\n"
    bench.assert_whole()


def test_one_platform_makes_a_manifest(bench: Bench) -> None:
    bench.build("FROM scratch\nCOPY <<EOF /f\nEOF\n", "--platform", f"linux/{OTHER}")
    assert "manifests" not in bench.manifest()
    assert bench.image()["architecture"] == OTHER
    out = bench.place / "out"
    bench.build(None, "--platform", f"linux/{OTHER}", "--output", f"type=local,dest={out}")
    assert (out / "f").exists()
    bench.build(None, "--platform", "local")
    assert bench.image()["architecture"] == MACHINE
    bench.build(None, environ={"DOCKER_DEFAULT_PLATFORM": f"linux/{OTHER}"})
    assert bench.image()["architecture"] == OTHER
    bench.build(None, "--platform", f"linux/{MACHINE}", environ={"DOCKER_DEFAULT_PLATFORM": f"linux/{OTHER}"})
    assert bench.image()["architecture"] == MACHINE


def test_an_index_of_one(bench: Bench) -> None:
    bench.build("FROM scratch\nCOPY <<EOF /f\nEOF\n", "--build-arg", "BUILDKIT_MULTI_PLATFORM=1")
    assert platforms(bench.manifest()) == [f"linux/{MACHINE}"]
    bench.refused(None, "--build-arg", "BUILDKIT_MULTI_PLATFORM=maybe", code=2)
    bench.refused(None, "--build-arg", "BUILDKIT_MULTI_PLATFORM=0", "--platform", BOTH, code=2)


@pytest.mark.parametrize(
    ("platform", "code"), [("what/ever/it/is", 2), ("toaster", 2), ("linux/", 2), ("", 2), ("linux/amd64,,", 2), ("windows/amd64", 11)]
)
def test_platforms_that_are_none(shared: Bench, platform: str, code: int) -> None:
    said = shared.refused("FROM scratch\nCOPY . /\n", f"--platform={platform}", code=code)
    assert "platform" in said


def test_steps_that_do_not_depend_on_the_target_run_once(bench: Bench) -> None:
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN echo common > /common\n"
        "FROM tools AS build\nRUN cat /proc/sys/kernel/random/uuid > /once\nARG TARGETARCH\nRUN echo $TARGETARCH > /program\n"
        "FROM scratch\nCOPY --from=build /once /program /\nENV X=y\n"
    )
    out = bench.place / "out"
    done = bench.build(text, "--platform", BOTH, "-o", str(out))
    assert (out / f"linux_{MACHINE}/once").read_text() == (out / f"linux_{OTHER}/once").read_text()
    assert (out / f"linux_{MACHINE}/program").read_text() == f"{MACHINE}\n"
    assert (out / f"linux_{OTHER}/program").read_text() == f"{OTHER}\n"
    starts = [line.partition(" ")[2] for line in done.err.splitlines() if line.startswith("#") and "[" in line]
    assert sum("echo common" in line for line in starts) == 1
    assert f"[linux/{MACHINE}->{OTHER} build 2/2] RUN echo $TARGETARCH > /program" in starts
    assert f"[linux/{OTHER} stage-2 1/1] COPY --from=build /once /program /" in starts
    again = bench.build(None, "--platform", BOTH)
    assert ", 0 performed" in again.err
    alone = bench.build(None, "--platform", f"linux/{OTHER}")
    assert ", 0 performed" in alone.err


def test_each_platform_gets_its_own_base(bench: Bench) -> None:
    bench.build(f"FROM scratch\n{ARGS}COPY <<EOF /arch\n$TARGETARCH\nEOF\nENV ARCH=$TARGETARCH\n", "-t", "base", "--platform", BOTH)
    text = "FROM base\nCOPY <<EOF /more\n$ARCH\nEOF\n"
    out = bench.place / "out"
    bench.build(text, "--platform", BOTH, "-o", str(out))
    for arch in (MACHINE, OTHER):
        assert (out / f"linux_{arch}/arch").read_text() == (out / f"linux_{arch}/more").read_text() == f"{arch}\n"
    configs = children(bench)
    assert "ARCH=" + OTHER in configs[f"linux/{OTHER}"]["config"]["Env"]
    # A stage says for itself which of them it wants; its image says what the build was for.
    bench.build("FROM --platform=$BUILDPLATFORM base\n", "--platform", f"linux/{OTHER}")
    assert f"ARCH={MACHINE}" in bench.config()["Env"]
    assert bench.image()["architecture"] == OTHER
    bench.build(f"FROM --platform=linux/{OTHER} base AS a\nFROM a\n")
    assert bench.image()["architecture"] == OTHER
    said = bench.refused("FROM busybox\nFROM --platform=linux/s390x base\nCOPY --from=0 /bin /bin\n", code=19)
    assert "Buildfile:2" in said
    assert f"linux/{MACHINE}, linux/{OTHER}" in said


def test_files_of_other_images_are_those_of_the_target(bench: Bench) -> None:
    bench.build(f"FROM scratch\n{ARGS}COPY <<EOF /arch\n$TARGETARCH\nEOF\n", "-t", "base", "--platform", BOTH)
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN --mount=from=base,target=/b cp /b/arch /mounted\n"
        "FROM scratch AS copies\nCOPY --from=base /arch /copied\n"
        "FROM copies\nCOPY --from=tools /mounted /\nCOPY --from=copies /copied /again\n"
    )
    out = bench.place / "out"
    bench.build(text, "--platform", BOTH, "-o", str(out))
    for arch in (MACHINE, OTHER):
        assert [(out / f"linux_{arch}" / name).read_text() for name in ("copied", "mounted", "again")] == [f"{arch}\n"] * 3


def test_an_index_is_the_same_bytes_everywhere(bench: Bench, template: Bench, tmp_path: Path) -> None:
    text = "FROM --platform=$BUILDPLATFORM busybox AS b\nARG TARGETARCH\nRUN echo $TARGETARCH > /f\nFROM scratch\nCOPY --from=b /f /\n"
    other = copied(template, tmp_path / "other")
    for each in (bench, other):
        each.build(text, "--platform", BOTH, "--annotation", "index:a=b")
    other.build(text, "--platform", BOTH, "--annotation", "index:a=b", "--no-cache")
    assert bench.manifest() == other.manifest()


def test_a_base_for_another_platform_only(bench: Bench) -> None:
    """As the test has no registry to ask, the store's own image is what can be told of."""
    said = bench.refused("FROM busybox\n", "--platform", f"linux/{OTHER}", "--offline", code=19)
    assert f"is for linux/{MACHINE}, not for linux/{OTHER}" in said
    assert "Buildfile:1" in said


@pytest.mark.parametrize(
    ("flag", "words"), [("$NOPE", "empty"), ("linux/a/b/c", "invalid platform"), ("toaster", "not the name of a known")]
)
def test_from_with_a_platform_that_is_none(shared: Bench, flag: str, words: str) -> None:
    said = shared.refused(f"FROM --platform={flag} busybox\n", code=10)
    assert words in said
    assert "Buildfile:1:6" in said


def test_a_tar_of_several_platforms(bench: Bench) -> None:
    path = bench.place / "out.tar"
    bench.write({"f": "x"})
    bench.build("FROM busybox AS b\nFROM scratch\nCOPY f /d/\n", "--platform", BOTH, "-o", f"type=tar,dest={path}")
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert names == [f"linux_{arch}{rest}" for arch in (MACHINE, OTHER) for rest in ("", "/d", "/d/f")]


def test_a_link_that_an_image_left_is_not_followed_by_a_directory_of_several(bench: Bench) -> None:
    out, outside = bench.place / "out", bench.place / "outside"
    outside.mkdir()
    bench.build(f"FROM busybox\nRUN ln -s {outside} /linux_{OTHER}\n", "--output", f"type=local,dest={out}")
    assert (out / f"linux_{OTHER}").is_symlink()
    text = "FROM scratch\nCOPY Buildfile /\n"
    bench.build(text, "--platform", BOTH, "--output", f"type=local,dest={out}")
    assert list(outside.iterdir()) == []
    assert (out / f"linux_{OTHER}" / "Buildfile").read_text() == text


def test_what_was_built_is_said_of_an_index(bench: Bench) -> None:
    iid, metadata = bench.place / "iid", bench.place / "metadata.json"
    done = bench.build("FROM scratch\nCOPY . /\n", "--platform", BOTH, "--iidfile", iid, "--metadata-file", metadata)
    facts = json.loads(metadata.read_text())
    assert iid.read_text() == facts["containerimage.digest"] == facts["containerimage.descriptor"]["digest"]
    assert facts["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert "containerimage.config.digest" not in facts
    assert facts["containerimage.digest"] in done.err
    assert json.loads(Path(bench.root / "blobs" / iid.read_text().replace(":", "/")).read_text()) == bench.manifest()


def test_tests_of_each_platform(bench: Bench) -> None:
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN echo data > /data\n"
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n"
        "TEST --mount=from=tools,target=/t grep data /t/data\nTEST test $(cat /arch) = $TARGETARCH\n"
    )
    done = bench.build(text, "--platform", BOTH)
    assert sum("test 2/2" in line for line in done.err.splitlines()) == 2
    said = bench.refused(text.replace("= $TARGETARCH", f"= {MACHINE}"), "--platform", BOTH, code=1)
    assert "Buildfile:7" in said


def test_targets_of_a_build_file_for_several_platforms(bench: Bench) -> None:
    text = "FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN echo > /t\nFROM scratch\nCOPY --from=tools /t /\n"
    targets = f"""targets:
  app:
    tags: [app]
    platforms: [linux/{MACHINE}, linux/{OTHER}]
    annotations: ["index:a=b"]
    no-cache-filter: [tools]
  more:
    tags: [more]
    platforms: [linux/{OTHER}]
    contexts: {{app: "target:app"}}
    buildfile-inline: |
      FROM app
      ENV more=yes
"""
    bench.write({"Buildfile": f"{text}ARG TARGETARCH\nLABEL arch=$TARGETARCH\n", "imgbuild.yaml": targets})
    bench.run("bake", "app", "more")
    assert platforms(bench.manifest("app:latest")) == [f"linux/{MACHINE}", f"linux/{OTHER}"]
    assert bench.manifest("app:latest")["annotations"] == {"a": "b"}
    assert (bench.image("more:latest")["architecture"], bench.config("more")["Labels"]) == (OTHER, {"arch": OTHER})
    assert "DONE" in [line.split()[1] for line in bench.run("bake", "--progress=plain", "app").err.splitlines() if line.startswith("#")]

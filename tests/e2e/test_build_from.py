"""FROM: which image or stage a name means, and which names stages may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .harness import Bench


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


def test_a_digest_says_which_image(bench: Bench, mock: Mock) -> None:
    name = f"{mock.authority}/me/base"
    digests = []
    for label in ("one", "two"):
        bench.build(f"FROM scratch\nLABEL which={label}\nCOPY . /\n")
        digests.append(bench.run("push", "-q", "x", f"{name}:v").out.strip())
    bench.run("rmi", "x")
    for reference in (f"{name}@{digests[0]}", f"{name}:v@{digests[0]}", f"{name}:other@{digests[0]}"):
        bench.build(f"FROM {reference}\n")
        assert bench.config()["Labels"] == {"which": "one"}
    bench.build(f"ARG DIGEST={digests[0]}\nFROM {name}@${{DIGEST}} AS base\nFROM base\n")
    assert bench.config()["Labels"] == {"which": "one"}
    # What is here by its digest needs no registry, not even with --pull's other policies.
    bench.build(f"FROM {name}@{digests[0]}\n", "--offline")
    bench.build(f"FROM {name}:v\n", "--pull")
    assert bench.config()["Labels"] == {"which": "two"}
    absent = "sha256:" + "0" * 64
    assert "Buildfile:1" in bench.refused(f"FROM {name}@{absent}\n", code=15)


@pytest.mark.parametrize("text", ["busybox@sha256:123", "busybox@md5:" + "0" * 32, "busybox:a b", "Busy/Box", "busybox:", "a//b", "-x"])
def test_names_that_are_no_image(shared: Bench, text: str) -> None:
    assert "Buildfile:1" in shared.refused(f"FROM {text}\n", code=10)


@pytest.mark.parametrize("name", ["1st", "0", "a/b", "a:b", "$x", "_a", "-a", "ä"])
def test_names_that_no_stage_may_have(shared: Bench, name: str) -> None:
    said = shared.refused(f"FROM busybox AS {name}\n", code=10)
    assert "Buildfile:1" in said


def test_stage_names_do_not_mind_their_case(bench: Bench) -> None:
    bench.write({"f": "x"})
    bench.build("FROM scratch AS Build-1.a_b\nCOPY f /a\nFROM BUILD-1.A_B AS next\nCOPY --from=build-1.A_b /a /b\n", "--target", "NEXT")
    assert set(bench.files()) - {"."} == {"a", "b"}


def test_a_stage_hides_the_image_of_its_name(bench: Bench) -> None:
    bench.write({"f": "x"})
    bench.build("FROM busybox AS busybox\nLABEL stage=yes\nFROM busybox\nRUN true\n")
    assert bench.config()["Labels"] == {"stage": "yes"}
    # Before the stage is there, and with a tag, it is the image that is meant.
    bench.build("FROM busybox:latest AS busybox\nLABEL stage=yes\nFROM busybox:latest\n")
    assert bench.config()["Labels"] is None
    done = bench.build("FROM busybox AS scratch\nLABEL stage=yes\nFROM scratch\nRUN true\n")
    assert "ReservedStageName" in done.err
    assert bench.config()["Labels"] == {"stage": "yes"}


def test_the_last_stage_of_a_name_counts_from_then_on(bench: Bench) -> None:
    bench.write({"f": "x"})
    text = "FROM scratch AS a\nLABEL n=1\nCOPY f /1\nFROM a AS b\nFROM scratch AS a\nLABEL n=2\nCOPY f /2\nFROM a AS c\n"
    text += "FROM scratch\nCOPY --from=a / /\n"
    done = bench.build(text)
    assert "DuplicateStageName" in done.err
    assert set(bench.files()) - {"."} == {"2"}
    for target, label in (("a", "2"), ("b", "1"), ("c", "2"), ("0", "1")):
        bench.build(text, "--target", target)
        assert bench.config()["Labels"] == {"n": label}


def test_scratch_is_for_the_target_whatever_it_says(bench: Bench) -> None:
    bench.write({"f": "x"})
    bench.build("FROM --platform=linux/s390x scratch\nCOPY f /\n", "--platform", "linux/riscv64")
    assert bench.image()["architecture"] == "riscv64"
    bench.build("FROM --platform=linux/s390x scratch\nCOPY f /\n")
    assert bench.image()["architecture"] != "s390x"


@pytest.mark.parametrize(
    ("platform", "architecture", "variant"),
    [("linux/arm", "arm", "v7"), ("linux/arm/v5", "arm", "v5"), ("linux/arm64/v8", "arm64", None), ("linux/amd64/v2", "amd64", "v2"),
     ("linux/aarch64", "arm64", None), ("linux/x86_64", "amd64", None), ("armhf", "arm", "v7")],
)  # fmt: skip
def test_variants(bench: Bench, platform: str, architecture: str, variant: str | None) -> None:
    bench.write({"f": "x"})
    text = "FROM scratch\nARG TARGETARCH TARGETVARIANT TARGETPLATFORM\n"
    text += "LABEL arch=$TARGETARCH variant=$TARGETVARIANT platform=$TARGETPLATFORM\n"
    bench.build(text, "--platform", platform)
    image = bench.image()
    assert (image["architecture"], image.get("variant")) == (architecture, variant)
    whole = "/".join(filter(None, ("linux", architecture, variant)))
    assert image["config"]["Labels"] == {"arch": architecture, "variant": variant or "", "platform": whole}


def test_a_later_variant_takes_what_was_made_for_an_earlier_one(bench: Bench) -> None:
    bench.write({"f": "x"})
    text = "FROM scratch\nARG TARGETPLATFORM\nLABEL for=$TARGETPLATFORM\nCOPY f /\n"
    bench.build(text, "-t", "base", "--platform", "linux/arm/v5,linux/arm/v6,linux/amd64,linux/amd64/v2")
    fitting = {"arm/v7": "arm/v6", "arm/v5": "arm/v5", "amd64/v3": "amd64/v2", "amd64/v2": "amd64/v2", "amd64": "amd64"}
    for wanted, found in fitting.items():
        bench.build("FROM base\n", "--platform", f"linux/{wanted}")
        assert bench.config()["Labels"] == {"for": f"linux/{found}"}
        image = bench.image()
        assert "/".join(filter(None, (image["architecture"], image.get("variant")))) == wanted

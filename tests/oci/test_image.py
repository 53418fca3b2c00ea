"""Manifests, indexes and configs: round trips, what contradicts itself, and the published schemas."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import ImageError
from imgbuild.oci.config import Healthcheck, History, ImageConfig, RunConfig, config_bytes, parse_config
from imgbuild.oci.digest import DiffID, Digest, chain_id, digest_of, parse_digest
from imgbuild.oci.image import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    canonical_json,
    index_bytes,
    manifest_bytes,
    parse_index,
    parse_manifest,
    select_platform,
)
from imgbuild.oci.platform import Platform, normalize, parse_platform
from imgbuild.oci.times import format_time, parse_time

SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "oci-schemas" / "image"
AMD64 = Platform("linux", "amd64")
DIGEST = Digest("sha256:" + "1" * 64)
CONFIG = ImageConfig(
    platform=AMD64,
    config=RunConfig(
        user="me",
        env=("A=b", "PATH=/bin"),
        entrypoint=("/x",),
        cmd=(),
        working_dir="/w",
        exposed_ports=("80/tcp",),
        volumes=("/v",),
        labels=(("k", "v"),),
        stop_signal="SIGINT",
        healthcheck=Healthcheck(("CMD", "true"), interval=10**9, retries=2),
        on_build=("RUN x",),
        shell=("/bin/bash", "-c"),
    ),
    diff_ids=(DiffID(DIGEST),),
    history=(History("2020-01-01T00:00:00Z", "RUN x", "c", "a"), History(created_by="ENV A=b", empty_layer=True)),
    created="2020-01-01T00:00:00Z",
    author="a",
)
MANIFEST = Manifest(
    config=Descriptor(OCI_CONFIG, DIGEST, 3),
    layers=(Descriptor(OCI_LAYER_ZSTD, DIGEST, 5, annotations=(("a", "b"),)),),
    annotations=(("x", "y"),),
)


def test_what_is_written_reads_back() -> None:
    assert parse_config(config_bytes(CONFIG)) == CONFIG
    assert parse_manifest(manifest_bytes(MANIFEST), OCI_MANIFEST) == MANIFEST
    index = Index((Descriptor(OCI_MANIFEST, DIGEST, 7, platform=Platform("linux", "arm", "v7")),))
    assert parse_index(index_bytes(index)) == index


@pytest.mark.parametrize(("name", "data"), [("config-schema", config_bytes(CONFIG)), ("image-manifest-schema", manifest_bytes(MANIFEST))])
def test_what_is_written_fits_the_schemas(name: str, data: bytes) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("needs the OCI schemas beside the checkout")
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    schemas = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    resources = [(key, referencing.Resource.from_contents(value, referencing.jsonschema.DRAFT4)) for key, value in schemas.items()]
    by_id = [(value["id"], resource) for (_, resource), value in zip(resources, schemas.values(), strict=True) if "id" in value]
    prefixed = [(f"https://opencontainers.org/schema/image/{key}", resource) for key, resource in resources]
    registry = referencing.Registry().with_resources([*resources, *by_id, *prefixed])
    jsonschema.Draft4Validator(schemas[f"{name}.json"], registry=registry).validate(json.loads(data))


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"manifests": []},
        {"layers": {}},
        {"config": None},
        {"config": {"mediaType": OCI_CONFIG, "digest": "sha256:zz", "size": 1}},
        {"layers": [{"mediaType": OCI_LAYER_ZSTD, "digest": DIGEST, "size": -1}]},
        {"layers": [{"mediaType": OCI_LAYER_ZSTD, "digest": DIGEST, "size": True}]},
        {"layers": [{"digest": DIGEST, "size": 1}]},
        {"annotations": {"a": 1}},
        {"mediaType": "text/plain"},
    ],
)
def test_a_manifest_that_is_none(change: dict[str, Any]) -> None:
    value = json.loads(manifest_bytes(MANIFEST)) | change
    with pytest.raises(ImageError):
        parse_manifest(canonical_json(value))


def test_a_manifest_does_not_change_its_kind_on_the_way() -> None:
    with pytest.raises(ImageError):
        parse_manifest(manifest_bytes(MANIFEST), DOCKER_MANIFEST)
    assert parse_manifest(manifest_bytes(replace(MANIFEST, media_type=DOCKER_MANIFEST)), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST


def test_an_index_with_layers_reads_as_two_things() -> None:
    value = json.loads(index_bytes(Index(()))) | {"layers": []}
    with pytest.raises(ImageError):
        parse_index(canonical_json(value), OCI_INDEX)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_no_json_is_a_crash(value: object) -> None:
    for key in ("config", "rootfs", "history", "manifests", "layers"):
        for parse in (parse_config, parse_manifest, parse_index):
            with suppress(ImageError):
                parse(canonical_json({key: value, "schemaVersion": 2}))


def test_the_exact_platform_wins_over_one_that_fits() -> None:
    entries = [Descriptor(OCI_MANIFEST, DIGEST, 1, platform=Platform("linux", "arm", v)) for v in ("v6", "v7")]
    assert select_platform(entries, Platform("linux", "arm", "v7"), "x").platform == Platform("linux", "arm", "v7")
    assert select_platform(entries[:1], Platform("linux", "arm", "v7"), "x").platform == Platform("linux", "arm", "v6")
    with pytest.raises(ImageError, match="no image for"):
        select_platform(entries, AMD64, "x")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", AMD64),
        ("amd64", AMD64),
        ("linux", AMD64),
        ("x86_64", AMD64),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("arm", Platform("linux", "arm", "v7")),
        ("LINUX/ARM/v6", Platform("linux", "arm", "v6")),
    ],
)
def test_platforms(text: str, platform: Platform) -> None:
    assert parse_platform(text, AMD64) == platform
    assert normalize(*str(platform).split("/")) == platform


def test_the_chain_of_one_layer_is_the_layer() -> None:
    one, two = DiffID(digest_of(b"1")), DiffID(digest_of(b"2"))
    assert chain_id([one]) == one
    assert chain_id([one, two]) == digest_of(f"{one} {two}".encode())
    assert chain_id([]) == ""


@pytest.mark.parametrize(
    "text", ["sha256:" + "A" * 64, "sha256:" + "0" * 63, "md5:" + "0" * 32, "0" * 64, None, 5, "sha256:" + "0" * 64 + "\n"]
)
def test_what_is_no_digest(text: object) -> None:
    with pytest.raises(ImageError):
        parse_digest(text)


@given(st.integers(min_value=0, max_value=253402300799))
def test_times_read_back(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T12:00:00.123456789+02:00", 1709200800),
        ("1969-01-01T00:00:00Z", None),
        ("", None),
        ("x", None),
        ("2020-13-01T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times(text: str, seconds: int | None) -> None:
    assert parse_time(text) == seconds

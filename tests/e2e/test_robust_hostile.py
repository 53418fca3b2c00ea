"""Hostile images: tars that lead out, configs that lie, indexes that never end. Nothing is written outside; one error says what it is."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .harness import Bench, base_tar
from .peers import differences, tree

Members = list[tuple[str, dict[str, Any], bytes]]
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def _tar(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _symlink(target: str) -> dict[str, Any]:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def _hard_link(target: str) -> dict[str, Any]:
    return {"type": tarfile.LNKTYPE, "linkname": target}


def _attacks(canary: str) -> dict[str, Members]:
    """Tars that would write, read or remove something in `canary`, if an unpacker let them."""
    up = "../" * 30 + canary.lstrip("/")
    directory = {"type": tarfile.DIRTYPE, "mode": 0o755}
    redirect = {"SCHILY.xattr.trusted.overlay.redirect": canary, "SCHILY.xattr.trusted.overlay.opaque": "y"}
    return {
        "dots": [(f"{up}/written", {}, b"evil")],
        "dots inside": [(f"a/b/../../../../../../../{up}/written", {}, b"evil")],
        "absolute": [(f"{canary}/written", {}, b"evil")],
        "symlink": [("link", _symlink(canary), b""), ("link/written", {}, b"evil")],
        "symlink up": [("link", _symlink(up), b""), ("link/written", {}, b"evil")],
        "symlinks": [("a", _symlink("b"), b""), ("b", _symlink(f"/proc/1/root{canary}"), b""), ("a/written", {}, b"evil")],
        "proc": [("link", _symlink("/proc/self/cwd"), b""), ("link/written", {}, b"evil")],
        "file through symlink": [("link", _symlink(f"{canary}/secret"), b""), ("link", {}, b"evil")],
        "hard link": [("stolen", _hard_link(f"{canary}/secret"), b"")],
        "hard link up": [("stolen", _hard_link(f"{up}/secret"), b"")],
        "hard link through symlink": [("link", _symlink(canary), b""), ("stolen", _hard_link("link/secret"), b""), ("stolen", {}, b"evil")],
        "whiteout up": [(f"{up}/.wh.secret", {}, b"")],
        "whiteout through symlink": [("link", _symlink(canary), b""), ("link/.wh.secret", {}, b"")],
        "opaque through symlink": [("link", _symlink(canary), b""), ("link/.wh..wh..opq", {}, b"")],
        "whiteout of the parent": [("a", directory, b""), ("a/.wh...", {}, b"")],
        "directory mode": [("link", _symlink(canary), b""), ("link/", {"type": tarfile.DIRTYPE, "mode": 0o777, "uid": 7}, b"")],
        "overlay attributes": [
            ("d", directory | {"pax_headers": redirect}, b""),
            ("whiteout", {"type": tarfile.CHRTYPE, "devmajor": 0, "devminor": 0}, b""),
        ],
        "device": [("disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}, b""), ("disk", {}, b"evil")],
    }  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    directory = tmp_path / "canary"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    return directory


def _blob(root: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    place = root / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    (place / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _layout(root: Path, descriptor: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    annotations = {"org.opencontainers.image.ref.name": "evil"}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{**descriptor, "annotations": annotations}]}))
    return root


def _image(
    root: Path, layers: list[bytes], change: Callable[[dict[str, Any], dict[str, Any]], object] = lambda config, manifest: None
) -> Path:
    """A layout with one image, whose config and manifest `change` may change."""
    config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}
    config["architecture"] = machine.get(os.uname().machine, "amd64")
    config["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    descriptors = [_blob(root, gzip.compress(layer, mtime=0), LAYER) for layer in layers]
    manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors}
    change(config, manifest)
    manifest.setdefault("config", _blob(root, json.dumps(config).encode(), CONFIG))
    return _layout(root, _blob(root, json.dumps(manifest).encode(), MANIFEST))


@pytest.mark.parametrize("attack", _attacks("/canary"))
def test_tars(shared: Bench, canary: Path, tmp_path: Path, attack: str) -> None:
    """As a layer above a base, as a base, and as an archive of ADD: refused or contained."""
    evil = _tar(_attacks(str(canary))[attack])
    before = tree(canary)
    (tmp_path / "evil.tar").write_bytes(evil)
    layout = _image(tmp_path / "layout", [base_tar(), evil])
    loaded = shared.run("load", f"{layout}:evil", "evil", code=None)
    if not loaded.code:
        for command in (("run", "--rm", "evil", "true"), ("unpack", "evil", tmp_path / "unpacked")):
            done = shared.run(*command, code=None)
            assert done.code in (0, 18, 125), done.err
            assert done.err.count("imgbuild: error: ") == (1 if done.code else 0)
    imported = shared.run("import", tmp_path / "evil.tar", "evil-base", code=None)
    assert imported.code in (0, 18), imported.err
    if not imported.code:
        shared.run("unpack", "evil-base", tmp_path / "unpacked-base")
    shared.write({"evil.tar": evil})
    added = shared.build("FROM busybox\nADD evil.tar /in/side/\nRUN true\n", code=None)
    # 18: a file named as the mark of a deleted one can't be in a layer.
    assert added.code in (0, 12, 18), added.err
    for done in (loaded, imported, added):
        assert done.err.count("imgbuild: error: ") == (1 if done.code else 0), done.err
    assert differences(before, tree(canary)) == []
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.glob("unpacked*/**/stolen") if path.is_file())


def test_tars_that_are_too_much(shared: Bench, tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 100)
    header = tarfile.TarInfo("huge")
    header.size = 1 << 60
    circle: Members = [("a", _symlink("b"), b""), ("b", _symlink("a"), b""), ("a/x", {}, b"")]
    tars = {
        "deep": _tar([(deep, {}, b"x")]),
        "long": _tar([("n" * 300, {}, b"x")]),
        "huge": header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10_240,
        "circle": _tar(circle),
        "cut": base_tar()[:-20_000],
        "noise": bytes(range(256)) * 100,
        "empty": b"",
    }
    for name, data in tars.items():
        (tmp_path / "evil.tar").write_bytes(data)
        done = shared.run("import", tmp_path / "evil.tar", f"evil-{name}", code=None)
        assert done.code in (0, 18), (name, done.err)
        layout = _image(tmp_path / name, [base_tar(), data])
        ran = shared.run("load", f"{layout}:evil", "evil", code=None)
        if not ran.code:
            ran = shared.run("run", "--rm", "evil", "true", code=None)
        assert ran.code in (0, 17, 18, 125), (name, ran.err)
        for each in (done, ran):
            assert each.err.count("imgbuild: error: ") == (1 if each.code else 0), (name, each.err)
        if name != "deep":
            assert ran.code or name == "empty", name
    # Of two entries the last one counts, here as everywhere.
    (tmp_path / "twice.tar").write_bytes(_tar([("a", {}, b"1"), ("./a", {}, b"2"), ("b", {}, b""), ("b", {"type": tarfile.DIRTYPE}, b"")]))
    shared.run("import", tmp_path / "twice.tar", "twice")
    shared.run("unpack", "twice", tmp_path / "twice")
    assert (tmp_path / "twice" / "a").read_text() == "2"
    assert (tmp_path / "twice" / "b").is_dir()


def _set(**fields: object) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda config, manifest: config["config"].update(fields)


CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "env is text": _set(Env="A=b"),
    "env of numbers": _set(Env=[1, 2]),
    "env without names": _set(Env=["=x", "y", "A\0B=c"]),
    "cmd is a map": _set(Cmd={"a": 1}),
    "entrypoint of lists": _set(Entrypoint=[["a"]]),
    "user is a list": _set(User=["root"]),
    "user of newlines": _set(User="root\nx:y:z"),
    "workdir leads out": _set(WorkingDir="../../../../tmp"),
    "workdir is null": _set(WorkingDir="/a\0b"),
    "labels is a list": _set(Labels=["a"]),
    "volumes lead out": _set(Volumes={"../../../etc": {}, "/a/../../..": {}}),
    "ports of nothing": _set(ExposedPorts={"99999999/xyz": {}}),
    "stop signal": _set(StopSignal="SIGNONE"),
    "healthcheck": _set(Healthcheck={"Test": "x", "Interval": "soon"}),
    "config is a list": lambda config, manifest: config.update(config=[]),
    "no rootfs": lambda config, manifest: config.pop("rootfs"),
    "diff ids of another": lambda config, manifest: config["rootfs"].update(diff_ids=["sha256:" + "0" * 64]),
    "diff ids too many": lambda config, manifest: config["rootfs"]["diff_ids"].append("sha256:" + "0" * 64),
    "diff ids of no form": lambda config, manifest: config["rootfs"].update(diff_ids=["../../../../etc/passwd"]),
    "history of numbers": lambda config, manifest: config.update(history=[1, {"created": 7, "empty_layer": "x"}]),
    "created": lambda config, manifest: config.update(created="yesterday"),
    "architecture is a map": lambda config, manifest: config.update(architecture={}),
    "layer lies about size": lambda config, manifest: manifest["layers"][0].update(size=7),
    "layer of a huge size": lambda config, manifest: manifest["layers"][0].update(size=1 << 62),
    "layer of a negative size": lambda config, manifest: manifest["layers"][0].update(size=-1),
    "layer's digest leads out": lambda config, manifest: manifest["layers"][0].update(digest="sha256:../../../../etc/passwd"),
    "layer's digest of another kind": lambda config, manifest: manifest["layers"][0].update(digest="md5:" + "0" * 32),
    "layer is missing": lambda config, manifest: manifest["layers"][0].update(digest="sha256:" + "0" * 64),
    "layer's type": lambda config, manifest: manifest["layers"][0].update(mediaType="text/plain"),
    "layers is a map": lambda config, manifest: manifest.update(layers={}),
    "no layers": lambda config, manifest: manifest.pop("layers"),
    "config is missing": lambda config, manifest: manifest.update(config={"mediaType": CONFIG, "digest": "sha256:" + "0" * 64, "size": 7}),
    "schema": lambda config, manifest: manifest.update(schemaVersion=1),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_configs_and_manifests(shared: Bench, tmp_path: Path, kind: str) -> None:
    layout = _image(tmp_path / "layout", [base_tar()], CHANGES[kind])
    done = shared.run("load", f"{layout}:evil", "evil", code=None)
    if not done.code:
        inspected = shared.run("inspect", "evil", code=None)
        done = shared.run("run", "--rm", "--pull", "never", "evil", "true", code=None)
        built = shared.build("FROM evil\nRUN true\n", "--offline", code=None)
        for each in (inspected, built):
            assert each.code in (0, 1, 10, 17, 18, 19, 20), each.err
            assert each.err.count("imgbuild: error: ") == (1 if each.code else 0)
        shared.run("rmi", "evil")
    assert done.code in (0, 17, 18, 19, 125), done.err
    assert done.err.count("imgbuild: error: ") == (1 if done.code else 0), done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize("kind", ["itself", "nested", "wide", "of nothing", "huge", "not json", "deep json"])
def test_indexes(shared: Bench, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "layout"
    empty = {"mediaType": INDEX, "digest": "sha256:" + "0" * 64, "size": 100}
    texts = {
        "itself": json.dumps({"schemaVersion": 2, "manifests": [empty]}).encode(),
        "of nothing": b'{"schemaVersion": 2, "manifests": []}',
        "huge": b'{"schemaVersion": 2, "manifests": [' + b" " * (8 << 20) + b"]}",
        "not json": b"\x1f\x8b" * 100,
        "deep json": b"[" * 100_000,
        "wide": json.dumps(
            {"schemaVersion": 2, "manifests": [empty | {"platform": {"os": "plan9", "architecture": str(n)}} for n in range(9999)]}
        ).encode(),
    }
    if kind == "nested":
        descriptor = _blob(root, texts["of nothing"], INDEX)
        for _ in range(100):
            descriptor = _blob(root, json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(), INDEX)
    else:
        descriptor = _blob(root, texts[kind], INDEX)
    done = shared.run("load", f"{_layout(root, descriptor)}:evil", "evil", code=None)
    assert done.code in (13, 17, 19), done.err
    assert done.err.count("imgbuild: error: ") == 1


def test_the_store_is_whole_after_all_that(shared: Bench) -> None:
    shared.run("prune")
    shared.assert_whole()
    shared.build("FROM busybox\nRUN echo fine > /fine\n")

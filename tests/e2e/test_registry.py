"""pull, push, login and logout against a registry: what works, what is left out, and each way in which a registry can fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_mock.client import Mock

from .harness import PATIENCE, Bench, Done, clean_environ, copied, ended

BIG = 3_000_000


@pytest.fixture(scope="module")
def source(template: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A store with "x": the base, a big layer and a small one. It is only read."""
    bench = copied(template, tmp_path_factory.mktemp("source") / "bench")
    bench.write({"big": os.urandom(BIG)})
    bench.build("FROM busybox\nCOPY big /\nRUN echo small > /small\nCMD cat /small\n")
    return bench


@pytest.fixture
def fresh(tmp_path: Path) -> Bench:
    """An empty store, and settings that lose patience soon."""
    bench = Bench(tmp_path / "fresh", clean_environ(tmp_path / "home"))
    bench.context.mkdir(parents=True)
    settings = tmp_path / "imgbuild.yaml"
    settings.write_text("network: {attempts: 2, connect-timeout: 5s, read-timeout: 1s, longest-wait: 1s}\n")
    bench.environ["IMGBUILD_CONFIG"] = str(settings)
    return bench


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


def _set(mock: Mock, words: str) -> None:
    """Let the registry fail from now on: ``key=value`` words; without a count, always."""
    fault: dict[str, Any] = {"count": 0}
    for key, _, value in (word.partition("=") for word in words.split()):
        fault[key] = value if key in ("do", "method", "path", "retry_after") else json.loads(value)
    mock.fault(**fault)


def _wait_for(mock: Mock, method: str, part: str) -> None:
    """Return when the registry has got such a request."""
    deadline = time.monotonic() + PATIENCE
    while not any(request["method"] == method and part in request["path"] for request in mock.requests()):
        assert time.monotonic() < deadline


def _failed(done: Done, code: int) -> str:
    assert done.code == code, done.err
    assert done.err.count("imgbuild: error: ") == 1, done.err
    return done.err


def test_there_and_back(source: Bench, fresh: Bench, mock: Mock) -> None:
    name = f"{mock.authority}/team/x:1"
    pushed = source.run("push", "x", name)
    assert pushed.out.strip() == source.inspect()["Digest"]
    assert fresh.run("pull", name).out.strip() == source.inspect()["Digest"]
    assert fresh.inspect(name)["Id"] == source.inspect()["Id"]
    assert fresh.run("run", "--rm", name).out == "small\n"
    by_digest = f"{mock.authority}/team/x@{pushed.out.strip()}"
    assert fresh.run("pull", "-q", by_digest).out == pushed.out
    assert fresh.run("run", "--rm", by_digest).out == "small\n"
    fresh.build(f"FROM {by_digest}\nRUN cat /small > /copy\n")
    fresh.assert_whole()


def test_what_is_there_is_not_sent_again(source: Bench, mock: Mock) -> None:
    source.run("push", "x", f"{mock.authority}/one:1")
    again = source.run("push", "--progress", "plain", "x", f"{mock.authority}/one:2")
    assert "sent" not in again.err
    other = source.run("push", "--progress", "plain", "x", f"{mock.authority}/two:1")
    assert "mounted" in other.err
    assert "sent" not in other.err


def test_compression_and_format(source: Bench, fresh: Bench, mock: Mock) -> None:
    for compression, format_ in (("gzip", "oci"), ("zstd", "oci"), ("none", "oci"), ("gzip", "docker")):
        name = f"{mock.authority}/{format_}:{compression}"
        source.run("push", "--compression", compression, "--format", format_, "x", name)
        fresh.run("pull", name)
        types = {layer["mediaType"] for layer in fresh.manifest(name)["layers"]}
        assert all(("docker" in media_type) == (format_ == "docker") for media_type in types)
        assert fresh.run("run", "--rm", name).out == "small\n"
    ids = {fresh.image(f"{mock.authority}/{name}")["rootfs"]["diff_ids"][0] for name in ("oci:gzip", "oci:zstd", "oci:none", "docker:gzip")}
    assert len(ids) == 1
    assert _failed(source.run("push", "--compression", "zstd", "--format", "docker", "x", f"{mock.authority}/no:1", code=2), 2)
    fresh.assert_whole()


def test_logins(source: Bench, fresh: Bench, tmp_path: Path) -> None:
    for scheme in ("basic", "bearer"):
        with Mock(tmp_path / scheme, "--auth", scheme, "--user", "ann:secret-word", "--reader", "bob:other-word") as mock:
            name = f"{mock.authority}/x:1"
            said = _failed(fresh.run("pull", name, code=16), 16)
            assert "imgbuild login" in said
            _failed(fresh.run("login", "-u", "ann", "--password-stdin", mock.authority, stdin=b"wrong", code=16), 16)
            assert not (tmp_path / "home" / ".docker" / "config.json").exists() or mock.authority not in _config(tmp_path)
            fresh.run("login", "-u", "ann", "--password-stdin", mock.authority, stdin=b"secret-word\n")
            assert (tmp_path / "home" / ".docker" / "config.json").stat().st_mode & 0o77 == 0
            environ = {"HOME": fresh.environ["HOME"]}
            done = source.run("push", "x", name, environ=environ)
            assert "secret-word" not in done.err + done.out
            fresh.run("pull", name)
            fresh.run("logout", mock.authority)
            assert mock.authority not in _config(tmp_path)
            _failed(fresh.run("pull", name, code=16), 16)
            _failed(fresh.run("logout", mock.authority, code=13), 13)
            fresh.run("login", "-u", "bob", "-p", "other-word", mock.authority)
            fresh.run("pull", name)
            _failed(source.run("push", "x", f"{mock.authority}/y:1", environ=environ, code=16), 16)
            fresh.run("logout", mock.authority)


def _config(tmp_path: Path) -> str:
    return (tmp_path / "home" / ".docker" / "config.json").read_text()


def test_credential_helpers(source: Bench, tmp_path: Path) -> None:
    with Mock(tmp_path / "registry", "--auth", "basic", "--user", "ann:from-a-helper") as mock:
        programs = tmp_path / "bin"
        programs.mkdir()
        helper = programs / "docker-credential-test"
        answer = '{"ServerURL": "any", "Username": "ann", "Secret": "from-a-helper"}'
        helper.write_text(f"#!/bin/sh\nread server\necho '{answer}'\n")
        helper.chmod(0o755)
        config = tmp_path / "docker"
        config.mkdir()
        (config / "config.json").write_text(json.dumps({"credHelpers": {mock.authority: "test"}}))
        environ = {"DOCKER_CONFIG": str(config), "PATH": f"{programs}:{os.environ['PATH']}"}
        source.run("push", "x", f"{mock.authority}/x:1", environ=environ)
        helper.write_text("#!/bin/sh\necho credentials not found in native keychain\nexit 1\n")
        _failed(source.run("push", "x", f"{mock.authority}/y:1", environ=environ, code=16), 16)
        helper.unlink()
        assert _failed(source.run("push", "x", f"{mock.authority}/z:1", environ=environ, code=None), 16)


# A registry that fails. What passes in time is not noticed; what does not is one error, and the store stays whole.

PASSING = [
    "do=status status=500 count=1",
    "do=status status=503 count=1 retry_after=0",
    "do=status status=429 count=1 retry_after=0",
    "do=drop count=1",
    "do=cut after=100000 path=/blobs/ count=1",
    "do=cut after=0 path=/blobs/ count=1 reset=true",
]
LASTING = {
    "do=status status=500": (15, "500"),
    "do=status status=429 retry_after=86400": (15, "429"),
    "do=status status=404 path=/blobs/": (15, "404"),
    "do=status status=418": (15, "418"),
    "do=drop": (15, ""),
    "do=cut after=1000 path=/blobs/": (15, ""),
    "do=corrupt path=/blobs/": (17, "digest"),
    "do=corrupt path=/manifests/": (None, ""),
    "do=length delta=100 path=/blobs/": (None, ""),
    "do=slow rate=1 path=/blobs/": (15, ""),
}


@pytest.mark.parametrize("fault", PASSING)
def test_pulls_that_come_through(source: Bench, fresh: Bench, mock: Mock, fault: str) -> None:
    name = f"{mock.authority}/x:1"
    source.run("push", "x", name)
    _set(mock, fault)
    assert fresh.run("pull", "-q", name).out.strip() == source.inspect()["Digest"]
    fresh.assert_whole()


@pytest.mark.parametrize("fault", LASTING)
def test_pulls_that_fail(source: Bench, fresh: Bench, mock: Mock, fault: str) -> None:
    code, words = LASTING[fault]
    name = f"{mock.authority}/x:1"
    source.run("push", "x", name)
    _set(mock, fault)
    done = fresh.run("pull", name, code=None)
    assert done.code in ((code,) if code else (15, 17, 19)), done.err
    assert words in _failed(done, done.code)
    assert fresh.run("images", "-q").out == ""
    fresh.run("fsck")
    assert os.listdir(fresh.root / "tmp") == []
    mock.call("DELETE", "/_faults")
    assert fresh.run("pull", "-q", name).out.strip() == source.inspect()["Digest"]
    fresh.assert_whole()


@pytest.mark.parametrize(
    "fault", ["do=status status=500 count=1 method=POST,PUT,PATCH", "do=lose count=1 method=PUT", "do=drop count=1 method=PATCH"]
)
def test_pushes_that_come_through(source: Bench, mock: Mock, fault: str) -> None:
    _set(mock, fault)
    assert source.run("push", "-q", "x", f"{mock.authority}/x:1").out.strip() == source.inspect()["Digest"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("do=status status=500 method=PUT path=/manifests/", 15),
        ("do=status status=403 method=POST", 16),
        ("do=status status=413 method=PUT,PATCH path=/blobs/", 15),
        ("do=cut-upload after=1000 path=/blobs/", 15),
        ("do=slow-upload rate=1 path=/blobs/", 15),
    ],
)
def test_pushes_that_fail(source: Bench, fresh: Bench, mock: Mock, fault: str, code: int) -> None:
    _set(mock, fault)
    name = f"{mock.authority}/x:1"
    _failed(source.run("push", "x", name, environ={"IMGBUILD_CONFIG": fresh.environ["IMGBUILD_CONFIG"]}, code=None), code)
    # No name is there before all that it needs is.
    mock.call("DELETE", "/_faults")
    _failed(fresh.run("pull", name, code=None), 15)
    source.assert_whole()


def test_registries_that_are_none(source: Bench, fresh: Bench, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{listener.getsockname()[1]}"
        said = _failed(fresh.run("pull", f"{closed}/x", code=15), 15)
        assert closed in said
        _failed(source.run("push", "x", f"{closed}/x", environ={"IMGBUILD_CONFIG": fresh.environ["IMGBUILD_CONFIG"]}, code=15), 15)
    _failed(fresh.run("pull", "no-such-host.invalid/x", code=15), 15)
    with Mock(tmp_path / "registry") as mock:
        said = _failed(fresh.run("pull", f"{mock.authority}/nothing/here:1", code=None), 15)
        assert "nothing/here" in said
        _failed(source.run("push", "nothing", f"{mock.authority}/x", code=13), 13)
        for bad in ("a/UPPER", "x:", "x@sha256:zz", "-x", "a//b", ""):
            assert fresh.run("pull", "--", bad, code=None).code == 2, bad
    fresh.assert_whole()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(source: Bench, fresh: Bench, mock: Mock, tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """At once, and with nothing left, while a blob is on its way."""
    name = f"{mock.authority}/x:1"
    source.run("push", "x", name)
    fresh.environ.pop("IMGBUILD_CONFIG")
    _set(mock, "do=slow rate=1000 path=/blobs/")
    with fresh.started("pull", "--progress=plain", name) as process:
        _wait_for(mock, "GET", "/blobs/")
        ended_with, err = ended(process, signum)
    assert ended_with == code, err
    assert "Traceback" not in err
    fresh.assert_whole()
    assert fresh.run("images", "-q").out == ""
    with Mock(tmp_path / "other") as slow:
        _set(slow, "do=slow-upload rate=1000 path=/blobs/")
        with source.started("push", "--progress=plain", "x", f"{slow.authority}/x:1") as process:
            _wait_for(slow, "POST", "/blobs/")
            ended_with, err = ended(process, signum)
        assert ended_with == code, err
        assert "Traceback" not in err
    source.assert_whole()


AHEAD = (
    "FROM busybox AS other\nCOPY seed /seed\nRUN cat /seed /seed > /unused\nFROM busybox\nCOPY seed /seed\nRUN cat /seed /seed > /large\n"
)


@pytest.mark.parametrize("fault", ["", "do=cut-upload after=9000000 method=PATCH count=1", "do=status status=400 method=PATCH count=1"])
def test_large_layers_are_sent_while_they_are_made(bench: Bench, fresh: Bench, mock: Mock, fault: str) -> None:
    """Those of the image alone, and once; where that fails, the push does it."""
    bench.write({"seed": os.urandom(6 << 20), "Buildfile": "FROM busybox\nCOPY seed /seed\n"})
    name = f"{mock.authority}/team/x:1"
    bench.run("build", "-q", "--push", "-t", name, bench.context)  # so that the large ones alone are left to be sent, whoever is first
    before = len(_patches(mock))
    if fault:
        _set(mock, fault)
    bench.write({"Buildfile": f"{AHEAD}COPY --from=other /unused /also\n"})
    bench.run("build", "-q", "--push", "-t", name, bench.context)
    sent = _patches(mock)[before:]
    assert len([request for request in sent if request["headers"].get("transfer-encoding") == "chunked"]) == 2
    assert len(sent) == 2 + bool(fault)
    large = [layer for layer in bench.manifest(name)["layers"] if layer["size"] > 8 << 20]
    assert len(large) == 2
    fresh.run("pull", "-q", name)
    assert all(fresh.blob(layer["digest"]) == bench.blob(layer["digest"]) for layer in large)
    bench.assert_whole()


def _patches(mock: Mock) -> list[Any]:
    return [request for request in mock.requests() if request["method"] == "PATCH"]


def test_a_build_that_fails_names_nothing_in_the_registry(bench: Bench, mock: Mock) -> None:
    bench.write({"seed": os.urandom(6 << 20), "Buildfile": f"{AHEAD}RUN exit 3\n"})
    done = bench.run("build", "-q", "--push", "-t", f"{mock.authority}/team/x:1", bench.context, code=None)
    assert done.code != 0
    assert not [request for request in mock.requests() if "/manifests/" in request["path"]]
    bench.assert_whole()

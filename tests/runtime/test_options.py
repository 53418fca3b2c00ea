"""What the words of a command line become."""

from __future__ import annotations

import signal

import pytest

from imgbuild.errors import UsageError
from imgbuild.runtime.mounts import parse_mount, parse_tmpfs, parse_volume
from imgbuild.runtime.names import check_name, random_name
from imgbuild.runtime.options import (
    MountRequest,
    parse_env,
    parse_env_file,
    parse_host,
    parse_hostname,
    parse_labels,
    parse_network,
    parse_signal,
    parse_ulimit,
)


def test_env_takes_values_from_the_caller() -> None:
    assert parse_env(["A=1", "B", "C=", "D"], {"B": "two", "A": "x"}) == ("A=1", "B=two", "C=", "D")


@pytest.mark.parametrize("word", ["", "=x", "A=\0"])
def test_env_needs_a_name(word: str) -> None:
    with pytest.raises(UsageError):
        parse_env([word], {})


def test_env_file() -> None:
    text = "\ufeff# comment\n\n  A=1 # kept\nB\nC=\"quoted\"\nD= spaced \nMISSING\n"
    assert parse_env_file(text, "f", {"B": "b"}) == ("A=1 # kept", "B=b", 'C="quoted"', "D= spaced ", "MISSING")
    with pytest.raises(UsageError, match="f:2"):
        parse_env_file("A=1\nexport B=2\n", "f", {})
    assert parse_env_file("A=1\r\nB=\x85\u2028\x0c2\r\n", "f", {}) == ("A=1", "B=\x85\u2028\x0c2")


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("TERM", 15), ("sigterm", 15), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMAX-1", signal.SIGRTMAX - 1), ("CLD", 17),
        ("POLL", 29),
    ],
)  # fmt: skip
def test_signals(word: str, number: int) -> None:
    assert parse_signal(word) == number


@pytest.mark.parametrize("word", ["", "0", "NO", "99", "-9", "_BLOCK", "SIGSIGTERM"])
def test_unknown_signals(word: str) -> None:
    with pytest.raises(UsageError):
        parse_signal(word)


def test_hosts_labels_networks_and_limits() -> None:
    assert parse_host("db:10.0.0.1") == ("db", "10.0.0.1")
    assert parse_host("db=::1") == ("db", "::1")
    assert parse_host("db:[::1]") == ("db", "::1")
    assert parse_host("me:host-gateway") == ("me", "127.0.0.1")
    assert parse_labels(["b=1", "a", "b=2=3"]) == (("a", ""), ("b", "2=3"))
    assert (parse_network("none"), parse_network("default"), parse_network("host")) == ("none", "host", "host")
    assert parse_ulimit("nofile=10:20") == ("nofile", 10, 20)
    assert parse_ulimit("core=-1") == ("core", -1, -1)
    assert parse_hostname("a-1.b") == "a-1.b"


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        (parse_host, "a\udcff:1"), (parse_host, "a\n:1"),
        (parse_host, "db"), (parse_host, "a b:1"), (parse_network, "bridge"), (parse_ulimit, "x=1"), (parse_ulimit, "nofile=5:1"),
        (parse_ulimit, "nofile=a"), (parse_hostname, "a_b"), (parse_hostname, "-a"), (check_name, "a b"), (check_name, "../x"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant(parse: object, word: str) -> None:
    with pytest.raises(UsageError):
        parse(word)  # type: ignore[operator]


def test_volumes() -> None:
    assert parse_volume("/a/../b:/c/", "/d") == MountRequest("bind", "/c", "/b", create_source=True)
    assert parse_volume("./a:/c:ro,z", "/d") == MountRequest("bind", "/c", "/d/a", True, create_source=True)
    assert parse_volume(".:/c", "/d") == MountRequest("bind", "/c", "/d", create_source=True)
    assert parse_volume("data:/c", "/d") == MountRequest("volume", "/c", "data")
    assert parse_volume("/c", "/d") == MountRequest("volume", "/c")
    assert parse_volume("data:/c:nocopy", "/d") == MountRequest("volume", "/c", "data", seed=False)


@pytest.mark.parametrize("word", ["", "a", "a:b", "/a:/b:/c:/d", "/a::ro", "x y:/b", "/a:/b:odd", "a/b:/c", "/a:/", "/a:/.."])
def test_bad_volumes(word: str) -> None:
    with pytest.raises(UsageError):
        parse_volume(word, "/")


def test_mounts() -> None:
    assert parse_mount("type=bind,source=x,target=/y,readonly", "/d") == MountRequest("bind", "/y", "/d/x", True)
    assert parse_mount("src=vol,dst=/y", "/d") == MountRequest("volume", "/y", "vol")
    assert parse_mount("type=volume,dst=/y,ro=false", "/d") == MountRequest("volume", "/y")
    assert parse_mount("type=tmpfs,dst=/y,tmpfs-size=1m,ro", "/d").options == (("mode", "1777"), ("size", "1m"))
    assert parse_mount("type=tmpfs,dst=/y,tmpfs-size=1m,ro", "/d").read_only


@pytest.mark.parametrize(
    "word",
    [
        "type=odd,dst=/a", "type=bind,dst=/a", "type=bind,src=/a", "dst=/a,dst=/b", "dst=/a,what=1", "type=tmpfs,dst=/a,src=b",
        "dst=/a,ro=perhaps",
    ],
)  # fmt: skip
def test_bad_mounts(word: str) -> None:
    with pytest.raises(UsageError):
        parse_mount(word, "/")


def test_tmpfs() -> None:
    plain = parse_tmpfs("/run")
    assert (plain.target, plain.options, plain.nosuid, plain.nodev, plain.noexec) == ("/run", (("mode", "1777"),), True, True, True)
    rich = parse_tmpfs("/run:size=64m,mode=0755,exec,uid=1")
    assert (rich.options, rich.noexec) == ((("mode", "0755"), ("size", "64m"), ("uid", "1")), False)
    for word in ("run", "/run:size=x", "/run:nonsense", "/run:mode=9"):
        with pytest.raises(UsageError):
            parse_tmpfs(word)


def test_made_up_names_are_names_and_new() -> None:
    taken: set[str] = set()
    for _ in range(500):
        name = check_name(random_name(taken))
        assert name not in taken
        taken.add(name)

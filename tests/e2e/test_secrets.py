"""Secrets and keys: a changed secret is a miss that is named, by a digest that only the store can make."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from .harness import Bench, ended

STEP = "RUN --mount=type=secret,id=k,env=K true"
ENV = f"FROM busybox\n{STEP}\n"
FILE = "FROM busybox\nRUN --mount=type=secret,id=k true\n"
FIRST, SECOND = "the-first-of-two-secrets", "the-other-of-two-secrets"
GIVEN = ("--secret", "id=k,env=K")


def _build(bench: Bench, value: str | None, text: str = ENV, option: str = "id=k,env=K") -> str:
    """What a build says of the step, given the secret or not: CACHED, or why it is performed."""
    given = ("--secret", option) if value is not None else ()
    done = bench.build(text, *given, environ={"K": value or ""})
    assert FIRST not in done.err
    assert SECOND not in done.err
    assert "hmac" not in done.err
    return next(iter(done.misses.values()), None) or next(iter(done.steps.values()))


@pytest.mark.parametrize("text", [ENV, FILE])
def test_a_changed_secret_is_a_miss_that_is_named(bench: Bench, text: str) -> None:
    _build(bench, FIRST, text)
    assert _build(bench, FIRST, text) == "CACHED"
    assert _build(bench, SECOND, text) == "secret k changed"
    assert _build(bench, FIRST, text) == "CACHED"


def test_a_secret_that_comes_or_goes(bench: Bench) -> None:
    _build(bench, None)
    assert _build(bench, FIRST) == "secret k added"
    assert _build(bench, None) == "CACHED"
    _build(bench, FIRST, FILE)
    assert _build(bench, None, FILE) == "secret k removed"


def test_a_plan_and_an_explanation_agree(bench: Bench) -> None:
    _build(bench, FIRST)
    plan = bench.run("plan", *GIVEN, bench.context, environ={"K": SECOND}).out
    assert "MISS: secret k changed" in plan
    assert "CACHED" in bench.run("plan", *GIVEN, bench.context, environ={"K": FIRST}).out
    _build(bench, SECOND)
    assert "MISS: secret k changed" in bench.run("explain").out
    said = bench.run("explain", "--format", "json").out
    assert json.loads(said)["steps"][0]["causes"] == [{"kind": "secret", "subject": "k", "what": "value"}]
    assert "hmac" not in said


def test_one_that_is_not_keyed_is_docker_s(bench: Bench) -> None:
    option = "id=k,env=K,keyed=false"
    _build(bench, None)
    assert _build(bench, FIRST, option=option) == "CACHED"
    assert _build(bench, SECOND, option=option) == "CACHED"
    said = bench.refused(ENV, "--secret", "id=k,env=K,keyed=perhaps", code=2, environ={"K": FIRST})
    assert "keyed is true or false, not 'perhaps'" in said


def test_one_that_is_not_keyed_in_a_build_file(bench: Bench) -> None:
    target = "targets: {default: {secrets: [{id: k, env: K, keyed: KEYED}]}}"
    bench.write({"Buildfile": ENV})
    outcomes = []
    for keyed, value in (("false", FIRST), ("false", SECOND), ("true", FIRST), ("true", SECOND)):
        bench.write({"imgbuild.yaml": target.replace("KEYED", keyed)})
        done = bench.run("bake", "--progress=plain", environ={"K": value}, cwd=bench.context)
        outcomes.append("CACHED" in done.err)
    assert outcomes == [False, True, False, False]


def test_one_that_only_authorizes_is_in_no_key(bench: Bench) -> None:
    _build(bench, None)
    for value in (FIRST, SECOND):
        done = bench.build(ENV, "--secret", "id=GIT_AUTH_TOKEN,env=K", environ={"K": value})
        assert list(done.steps.values()) == ["CACHED"]


def test_equal_bytes_under_two_ids_are_not_told(bench: Bench) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=a,env=A --mount=type=secret,id=b,env=B true\n"
    bench.build(text, "--secret", "id=a,env=K", "--secret", "id=b,env=K", environ={"K": FIRST})
    with sqlite3.connect(bench.root / "index.db") as connection:
        ((record,),) = connection.execute("SELECT record FROM steps WHERE CAST(record AS TEXT) LIKE '%hmac%'").fetchall()
    inputs = json.loads(record)["inputs"]
    assert sorted(inputs) == ["secret a", "secret b"]
    assert inputs["secret a"] != inputs["secret b"]


def test_several_platforms_share_the_digest(bench: Bench) -> None:
    text = "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nRUN --mount=type=secret,id=k,env=K echo $TARGETARCH\n"
    both = ("--platform", "linux/amd64,linux/arm64")
    bench.build(text, *GIVEN, *both, environ={"K": FIRST})
    done = bench.build(text, *GIVEN, *both, environ={"K": SECOND})
    assert set(done.misses.values()) == {"secret k changed"}
    assert len([line for line in done.err.splitlines() if "MISS: secret k changed" in line]) == 2


def test_the_key_is_the_store_s_own_and_stays(bench: Bench) -> None:
    key = bench.root / "secret-key"
    _build(bench, None)
    assert not key.exists()  # a store that was never given a secret has none, and can be read
    _build(bench, FIRST)
    found = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    bench.run("prune", "--all")
    assert key.read_bytes() == found
    _build(bench, None)
    key.unlink()
    assert _build(bench, None) == "CACHED"
    assert not key.exists()
    assert _build(bench, FIRST) == "secret k added"
    assert key.read_bytes() != found
    bench.assert_whole()


def test_builds_that_need_the_first_key_at_once_agree(bench: Bench) -> None:
    bench.write({"Buildfile": ENV, "secret": FIRST})
    with ExitStack() as stack:
        builds = [stack.enter_context(bench.started("build", "--secret", "id=k,src=secret", ".")) for _ in range(5)]
        assert [ended(build)[0] for build in builds] == [0] * 5
    with sqlite3.connect(bench.root / "index.db") as connection:
        assert connection.execute("SELECT count(*) FROM steps WHERE CAST(record AS TEXT) LIKE '%hmac%'").fetchone() == (1,)
    assert _build(bench, FIRST) == "CACHED"


def _cut(key: Path) -> None:
    key.write_bytes(key.read_bytes()[:40])


def _flip(key: Path) -> None:
    data = bytearray(key.read_bytes())
    data[3] ^= 1
    key.write_bytes(data)


def _link(key: Path) -> None:
    key.unlink()
    key.symlink_to("/dev/zero")


def _directory(key: Path) -> None:
    key.unlink()
    key.mkdir()


@pytest.mark.parametrize("damage", [_cut, _flip, _link, _directory])
def test_a_damaged_key_is_said_and_repaired(bench: Bench, damage: Callable[[Path], None]) -> None:
    _build(bench, FIRST)
    damage(bench.root / "secret-key")
    said = bench.refused(ENV, *GIVEN, code=17, environ={"K": FIRST})
    assert "secret-key, which digests of secrets are made with, is damaged" in said
    assert "imgbuild fsck --repair" in said
    assert _build(bench, None) != ""  # nothing else needs it
    assert "damaged: key" in bench.run("fsck", code=17).out
    bench.run("fsck", "--repair")
    bench.assert_whole()
    _build(bench, FIRST)
    assert _build(bench, FIRST) == "CACHED"


def test_a_key_that_others_may_read_is_found(bench: Bench) -> None:
    _build(bench, FIRST)
    key = bench.root / "secret-key"
    key.chmod(0o644)
    assert "its mode is 0644" in bench.run("fsck", code=17).out
    bench.run("fsck", "--repair")
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    assert _build(bench, FIRST) == "CACHED"

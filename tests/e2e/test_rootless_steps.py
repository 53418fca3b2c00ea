"""RUN and TEST without being root: what works is the same, and what can't work says so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import PATIENCE, base_tar
from .test_build_ssh import needs_client, with_client
from .visitor import VisitorBench, needs_namespaces, visitor


@pytest.fixture(params=[True, False], ids=["range", "one-id"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VisitorBench]:
    """The bench of a user without rights, with "busybox"."""
    with visitor(tmp_path / "visitor", request.param) as bench:
        needs_namespaces(bench)
        (bench.place / "base.tar").write_bytes(base_tar())
        bench.give(bench.place / "base.tar")
        bench.run("import", bench.place / "base.tar", "busybox")
        yield bench


@needs_client
def test_keys_are_forwarded(guest: VisitorBench) -> None:
    with_client(guest)
    key = guest.context / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", key], check=True, timeout=PATIENCE)
    guest.give(guest.context)
    text = "FROM busybox\nCOPY root /\nCOPY ssh-add /bin/\nRUN --mount=type=ssh ssh-add -l > /keys\n"
    guest.build(text, "--ssh", f"default={key}")
    assert guest.files()["keys"].data.split()[2] == b"mine"
    owned = f"{text}RUN --mount=type=ssh,uid=1000 true\n"
    done = guest.build(owned, "--ssh", f"default={key}", code=None)
    if done.code:
        assert done.code == 10
        assert "can't belong to 1000:0" in done.err
        assert "Buildfile:5" in done.err


def test_insecure_is_all_rights_of_the_user_namespace(guest: VisitorBench) -> None:
    text = """
FROM busybox
RUN --security=insecure grep -E '^(CapEff|Seccomp):' /proc/self/status > /open; ! mknod /tmp/null c 1 3 2> /dev/null
RUN --security=insecure mkdir /m && mount -t tmpfs none /m && umount /m && rmdir /m
"""
    guest.build(text, "--allow", "security.insecure")
    words = guest.files()["open"].data.split()
    assert int(words[1], 16) & 1 << 21
    assert words[3] == b"0"


def test_a_device_keeps_the_rights_that_it_has(guest: VisitorBench) -> None:
    device = Path("/dev/loop-control")
    if not device.exists() or device.stat().st_mode & 0o007:
        pytest.skip("needs a device that sandboxes do not have")
    guest.build(f"FROM busybox\nRUN --device={device} [ -c {device} ] && ! sh -c ': < {device}'\n", "--allow", "device")


def test_tests_and_what_they_are_given(guest: VisitorBench) -> None:
    saved = guest.context / "saved"
    text = "FROM busybox\nTEST --network=none --mount=type=tmpfs,target=/t [ $(id -u) = 0 ]\nTEST --on-failure=save=/r echo > /r; false\n"
    done = guest.build(text, "--failure-dir", saved, "--output", f"type=junit,dest={guest.context / 'report.xml'}", code=1)
    assert "Buildfile:3" in done.err
    assert (saved / "line-3/r").read_text() == "\n"
    assert (saved / "line-3/r").stat().st_uid == guest.context.stat().st_uid
    assert 'failures="1"' in (guest.context / "report.xml").read_text()


@pytest.mark.parametrize("flag", ["--memory=64m", "--io-read-bps=1m", "--io-weight=100"])
def test_limits_that_can_not_be_held_are_said(guest: VisitorBench, flag: str) -> None:
    done = guest.build(f"FROM busybox\nRUN {flag} true\n", code=None)
    if done.code:
        assert done.code == 20
        assert "can't be" in done.err
        assert "Buildfile:2" in done.err


def test_failed_steps_are_kept_and_entered(guest: VisitorBench) -> None:
    guest.write({"file": "in the context\n"})
    mounts = "--mount=type=cache,target=/c --mount=target=/src,rw"
    text = f"FROM busybox\nRUN rm /etc/group; echo below > /below\nRUN {mounts} rm /etc/passwd; echo x > /c/x; echo y > /src/y; gti\n"
    done = guest.build(text, code=1)
    assert "'gti' was not found in PATH" in done.err
    script = "cat /below /c/x /src/y /src/file; ls /etc; rm -r /below /c/x /src/y; touch /etc/passwd"
    for _ in range(2):
        done = guest.run("debug", "last", "sh", "-c", script)
        shown = done.out.split()
        assert shown[:6] == ["below", "x", "y", "in", "the", "context"]
        assert "passwd" not in shown
        assert "group" not in shown
    guest.run("cp", "failed:last:/below", guest.place / "context" / "out")
    assert (guest.context / "out").read_text() == "below\n"
    guest.assert_whole()


def test_secrets_are_keyed_and_looked_for(guest: VisitorBench) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=k,env=K true\n"
    for value in ("a-first-secret", "another-secret"):
        done = guest.build(text, "--secret", "id=k,env=K", environ={"K": value})
    assert list(done.misses.values()) == ["secret k changed"]
    assert (guest.root / "secret-key").stat().st_mode & 0o777 == 0o600
    guest.build(None, "--secret", "id=k,env=K", environ={"K": "a-first-secret"})
    done = guest.build(f"{text}RUN --mount=type=secret,id=k cp /run/secrets/k /k\n", "--secret", "id=k,env=K", code=1, environ={"K": value})
    assert "'k' has the secret 'k' in it" in done.err
    for path in guest.root.rglob("*"):
        assert not path.is_file() or path.is_symlink() or value.encode() not in path.read_bytes()


def test_what_no_command_opens_is_known_without_rights(guest: VisitorBench) -> None:
    guest.write({"src/main": "1", "docs/page": b"x" * 2_000_000})
    guest.give(guest.context)
    guest.build("FROM busybox AS build\nCOPY . /app\nRUN cat /app/src/main > /made\nFROM busybox\nCOPY --from=build /made /\n")
    ((found),) = json.loads(guest.run("advise", "--format", "json").out)
    (advice,) = [each for each in found["advice"] if each["kind"] == "unopened"]
    assert [row["path"] for row in advice["facts"]["paths"]] == ["docs", "Buildfile"]

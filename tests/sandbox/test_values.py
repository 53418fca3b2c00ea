"""The pure parts: capabilities, plans and their words, messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgbuild.errors import UsageError
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.sandbox import capabilities as caps
from imgbuild.sandbox import wire
from imgbuild.sandbox.describe import describe
from imgbuild.sandbox.plan import Entry, make_plan
from imgbuild.sandbox.spec import DEFAULT_CAPABILITIES, ExitStatus, Identity, Limits, Process, SandboxSpec, Usage

FEATURES = Features(
    root=True, rootless=False, kernel=(6, 12), machine="x86_64", new_mount_api=True, lowerdir_plus=True, mount_setattr=True, clone3=True,
    openat2=True, cgroup="v2", erofs=True,
)  # fmt: skip
SPEC = SandboxSpec(
    Filesystem("overlay", (("lowerdir+", "/l"), ("volatile", None)), source="overlay"),
    Process(("sh", "-c", "echo $A"), ("A=secret", "PATH=/bin"), "/w", Identity(1, 2, (3,), "/h"), rlimits=(("NOFILE", 1, 2),)),
    (Mount(Bind("/src"), "/t", "part", read_only=True), Mount(File(b"secret"), "/run/secret")),
    network="none",
    limits=Limits(pids=5),
)


def test_masks() -> None:
    assert caps.mask(DEFAULT_CAPABILITIES) == 0xA80425FB
    assert caps.names(0xA80425FB) == DEFAULT_CAPABILITIES
    assert caps.mask(caps.ALL) == (1 << 41) - 1


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), DEFAULT_CAPABILITIES),
        (("cap_net_admin",), (), DEFAULT_CAPABILITIES | {"NET_ADMIN"}),
        ((), ("CHOWN",), DEFAULT_CAPABILITIES - {"CHOWN"}),
        (("ALL",), (), caps.ALL),
        (("all",), ("CAP_SYS_ADMIN",), caps.ALL - {"SYS_ADMIN"}),
        ((), ("ALL",), frozenset()),
        (("CHOWN",), ("ALL",), {"CHOWN"}),
        (("CHOWN",), ("CHOWN",), DEFAULT_CAPABILITIES - {"CHOWN"}),
    ],
)
def test_select(add: tuple[str, ...], drop: tuple[str, ...], expected: frozenset[str]) -> None:
    assert caps.select(add, drop) == expected


def test_unknown_capability() -> None:
    with pytest.raises(UsageError, match="unknown capability 'FLY'"):
        caps.select(("FLY",), ())


def test_describe() -> None:
    lines = describe(make_plan(SPEC, FEATURES, b"x" * 80))
    assert lines[:3] == ("namespaces mount pid uts ipc cgroup net", "limit pids 5", "root overlay (lowerdir+=/l,volatile)")
    assert "mount /t bind /src part part ro,nodev" in lines
    assert "no other devices" in lines
    assert "mount /run/secret file of 6 bytes, mode 0400, owner 0:0 nodev" in lines
    assert "mask /proc/kcore" in lines
    assert "user 1:2,3" in lines
    assert "environment A HOME PATH" in lines
    assert lines[-1] == "execute sh -c 'echo $A'"
    assert "secret" not in " ".join(lines).replace("/run/secret", "")


def test_describe_what_is_not_the_machines() -> None:
    lines = describe(make_plan(replace(SPEC, time_offset=5, processors=1), FEATURES, b""))
    assert {"clocks since boot ahead by 5 s", "processors 1"} <= set(lines)


def test_a_root_that_is_made_of_mounts() -> None:
    """They are made in the sandbox's own process: what is sent there says how, and so does --debug."""
    layer = Filesystem("erofs", (("device", "/l/layer.tar"), ("ro", None)), source="/l/index.erofs")
    root = Filesystem("overlay", (("lowerdir+", "/stubs"), ("lowerdir+", layer), ("volatile", None)), source="overlay")
    plan = make_plan(replace(SPEC, root=root), FEATURES, b"")
    assert wire.unpack(wire.pack(plan)) == plan
    shown = "root overlay (lowerdir+=/stubs,lowerdir+=[erofs /l/index.erofs (device=/l/layer.tar,ro)],volatile)"
    assert shown in describe(plan)


def test_plan_of_a_privileged_sandbox() -> None:
    plan = make_plan(replace(SPEC, privileged=True), FEATURES, b"filter")
    assert (plan.masked, plan.read_only, plan.seccomp) == ((), (), b"")
    assert caps.names(plan.capabilities) == caps.ALL
    assert not next(mount for mount in plan.system_mounts if mount.target == "/sys").read_only


def test_plan_in_a_user_namespace() -> None:
    rootless = replace(FEATURES, rootless=True)
    plan = make_plan(replace(SPEC, network="host"), rootless, b"", tty_group=False)
    assert plan.bind_devices
    assert next(mount for mount in plan.system_mounts if mount.target == "/sys").what == Bind("/sys", recursive=True)
    assert isinstance(next(mount for mount in make_plan(SPEC, rootless, b"").system_mounts if mount.target == "/sys").what, Filesystem)
    terminals = next(mount for mount in plan.device_mounts if mount.target == "/dev/pts").what
    assert isinstance(terminals, Filesystem)
    assert "gid" not in dict(terminals.options)


def test_messages() -> None:
    odd = replace(SPEC, process=replace(SPEC.process, argv=("\udcff\n", ""), env=()))
    for value in (
        make_plan(odd, FEATURES, b"\0\1"),
        Entry(SPEC.process, 5, b"", 3, ("/a",)),
        wire.Exited(ExitStatus(137, 9, True, Usage(1, 0.5, None, 2.0), "")),
        wire.Started(7),
        wire.Refused("why", None),
    ):
        assert wire.unpack(wire.pack(value)) == value


def test_messages_come_back_as_they_were() -> None:
    plan = make_plan(replace(SPEC, limits=Limits(cpus=0.5)), FEATURES, b"\0x")
    orders = wire.Orders(b"plan", ("/a/tasks",), 2)
    for message in (plan, Entry(plan.process, 1, b"", 2, ()), wire.Expected(plan, 3, 2), orders, wire.Running()):
        assert wire.unpack(wire.pack(message)) == message

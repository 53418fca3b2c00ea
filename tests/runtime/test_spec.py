"""From an image config and options to a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgbuild.errors import ImageError, UsageError
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.oci.config import RunConfig
from imgbuild.runtime import spec
from imgbuild.runtime.options import ExecOptions, MountRequest, RunOptions
from imgbuild.runtime.outcome import Outcome, outcome_of
from imgbuild.sandbox.spec import DEFAULT_PATH, ExitStatus, Identity, Limits, Process, SandboxSpec

BOTH = RunConfig(entrypoint=("entry", "-x"), cmd=("cmd", "-y"))


@pytest.mark.parametrize(
    ("config", "options", "argv"),
    [
        (BOTH, RunOptions(), ("entry", "-x", "cmd", "-y")),
        (BOTH, RunOptions(command=("a", "b")), ("entry", "-x", "a", "b")),
        (BOTH, RunOptions(entrypoint=("sh",)), ("sh",)),
        (BOTH, RunOptions(entrypoint=("sh",), command=("-c", "x")), ("sh", "-c", "x")),
        (BOTH, RunOptions(entrypoint=(), command=("x",)), ("x",)),
        (RunConfig(cmd=("cmd",)), RunOptions(), ("cmd",)),
        (RunConfig(cmd=("cmd",)), RunOptions(command=("a",)), ("a",)),
    ],
)
def test_command_line(config: RunConfig, options: RunOptions, argv: tuple[str, ...]) -> None:
    assert spec.command_line(config, options) == argv


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (RunConfig(), RunOptions()),
        (BOTH, RunOptions(entrypoint=())),
        (RunConfig(cmd=("",)), RunOptions()),
        (RunConfig(cmd=()), RunOptions()),
    ],
)
def test_no_command(config: RunConfig, options: RunOptions) -> None:
    with pytest.raises(UsageError, match="no command"):
        spec.command_line(config, options)


def test_environment_order_and_precedence() -> None:
    config = RunConfig(cmd=("x",), env=("A=image", "PATH=/image", "B=image", "GONE=1"))
    options = RunOptions(terminal=True, env=("B=user", "NEW=1", "GONE", "A"))
    process = spec.container_process(config, options, Identity(1, 2, (3,), "/home/u"), "host")
    assert process.env == ("PATH=/image", "B=user", "HOSTNAME=host", "TERM=xterm", "NEW=1", "HOME=/home/u")
    assert process.identity == Identity(1, 2, (3,), "/home/u")


def test_defaults_of_a_process() -> None:
    process = spec.container_process(RunConfig(cmd=("x",), working_dir="srv"), RunOptions(env=("HOME=/mine",)), Identity(), "h")
    assert process.env == (f"PATH={DEFAULT_PATH}", "HOSTNAME=h", "HOME=/mine")
    assert process.cwd == "/srv"
    assert not process.terminal
    bare = spec.container_process(RunConfig(cmd=("x",)), RunOptions(), Identity(), "h")
    assert (bare.cwd, bare.env[-1]) == ("/", "HOME=/")
    with pytest.raises(UsageError, match="absolute"):
        spec.container_process(RunConfig(cmd=("x",)), RunOptions(working_dir="a"), Identity(), "h")


def test_capabilities() -> None:
    process = spec.container_process(RunConfig(cmd=("x",)), RunOptions(cap_drop=("ALL",), cap_add=("net_admin",)), Identity(), "h")
    assert process.capabilities == {"NET_ADMIN"}


def test_exec_process() -> None:
    container = Process(("init",), ("PATH=/bin", "HOME=/root", "A=1"), "/srv", Identity(0, 0, (), "/root"))
    same = spec.exec_process(container, ExecOptions(("ls",), env=("A=2",)), None)
    assert (same.argv, same.env, same.cwd, same.identity) == (("ls",), ("PATH=/bin", "HOME=/root", "A=2"), "/srv", container.identity)
    other = spec.exec_process(container, ExecOptions(("ls",), terminal=True, working_dir="/x"), Identity(5, 5, (), "/home/five"))
    assert (other.env, other.cwd, other.terminal) == (("PATH=/bin", "A=1", "TERM=xterm", "HOME=/home/five"), "/x", True)
    with pytest.raises(UsageError):
        spec.exec_process(container, ExecOptions(()), None)


def test_image_volumes_become_anonymous_unless_something_else_is_mounted_there() -> None:
    asked = (MountRequest("bind", "/data", "/host"),)
    own = (MountRequest("volume", "/cache"), MountRequest("volume", "/log"))
    assert spec.plan_mounts(("/data", "/log/", "cache"), asked) == (*own, *asked)
    with pytest.raises(UsageError, match="two mounts"):
        spec.plan_mounts((), (*asked, MountRequest("tmpfs", "/data")))


def placed(target: str, kind: str = "bind", source: str = "/s") -> spec.PlacedMount:
    return spec.PlacedMount(MountRequest(kind, target, source), target, source)  # type: ignore[arg-type]


def test_mounts_are_made_parents_first() -> None:
    assert [mount.target for mount in spec.in_order(map(placed, ("/a/b/c", "/b", "/a", "/a/b")))] == ["/a", "/b", "/a/b", "/a/b/c"]
    with pytest.raises(UsageError, match="one place"):
        spec.in_order([placed("/run"), replace(placed("/run"), request=MountRequest("tmpfs", "/var/run"))])


def test_enclosing() -> None:
    mounts = (placed("/a"), placed("/a/b"), placed("/ab"))
    assert spec.enclosing(mounts, "/a/b/c") == mounts[1]
    assert spec.enclosing(mounts, "/a/b") == mounts[0]
    assert spec.enclosing(mounts, "/abc") is None


def test_the_whole_spec() -> None:
    options = RunOptions(network="none", read_only=True, limits=Limits(memory=1 << 30), sysctl=(("net.core.x", "1"),))
    process = spec.container_process(RunConfig(cmd=("x",)), options, Identity(), "h")
    memory = spec.PlacedMount(MountRequest("tmpfs", "/t", noexec=True), "/t")
    mounts = spec.sandbox_mounts([placed("/data"), placed("/vol", "volume"), memory])
    assert mounts == (
        Mount(Bind("/s", recursive=True), "/data"),
        Mount(Bind("/s"), "/vol"),
        Mount(Filesystem("tmpfs", source="tmpfs"), "/t", noexec=True),
    )
    root = Filesystem("overlay")
    assert spec.container_spec(root, process, mounts, options, hostname="h", cgroup_name="c") == SandboxSpec(
        root=root,
        process=process,
        mounts=mounts,
        hostname="h",
        network="none",
        read_only_root=True,
        limits=Limits(memory=1 << 30),
        cgroup_name="c",
        sysctl=(("net.core.x", "1"),),
    )


def test_stop_signal() -> None:
    assert spec.stop_signal(RunConfig(stop_signal="QUIT"), RunOptions()) == ("SIGQUIT", "")
    assert spec.stop_signal(RunConfig(stop_signal="QUIT"), RunOptions(stop_signal="10")) == ("SIGUSR1", "")
    assert spec.stop_signal(RunConfig(stop_signal="SIGRTMIN+3"), RunOptions()) == ("37", "")
    assert spec.stop_signal(RunConfig(), RunOptions()) == ("SIGTERM", "")
    name, notice = spec.stop_signal(RunConfig(stop_signal="SIGFOO"), RunOptions())
    assert name == "SIGTERM"
    assert "'SIGFOO'" in notice
    assert spec.stop_signal(RunConfig(stop_signal="SIGFOO"), RunOptions(stop_signal="INT")) == ("SIGINT", "")
    with pytest.raises(UsageError, match="unknown signal 'SIGBAR'"):
        spec.stop_signal(RunConfig(stop_signal="SIGFOO"), RunOptions(stop_signal="SIGBAR"))


def test_odd_words_of_an_images_environment() -> None:
    env = ("PATH=/bin", "A=1", "A", "BARE", "", "=x", "=C:=x", "B=1=2", "C=")
    process = spec.container_process(RunConfig(cmd=("x",), env=env), RunOptions(), Identity(), "h")
    assert process.env == ("PATH=/bin", "B=1=2", "C=", "HOSTNAME=h", "HOME=/")


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(env=("A\0=1",)),
        RunConfig(cmd=("x", "\0")),
        RunConfig(entrypoint=("\0",)),
        RunConfig(working_dir="/\0"),
        RunConfig(volumes=("/\0",)),
    ],
)
def test_what_no_kernel_can_be_told(config: RunConfig) -> None:
    with pytest.raises(ImageError, match="NUL"):
        spec.check_config(config)


def test_generated_files() -> None:
    host = {"/etc/hosts": "10.0.0.1 intern", "/etc/resolv.conf": "nameserver 127.0.0.53\n"}
    on_host = spec.generated_files(host, RunOptions(extra_hosts=(("db", "10.0.0.2"),)), "box")
    assert on_host == {
        "/etc/hostname": "box\n",
        "/etc/hosts": "10.0.0.1 intern\n127.0.1.1\tbox\n10.0.0.2\tdb\n",
        "/etc/resolv.conf": "nameserver 127.0.0.53\n",
    }
    alone = spec.generated_files(host, RunOptions(network="none"), "box")
    assert "intern" not in alone["/etc/hosts"]
    assert alone["/etc/hosts"].startswith("127.0.0.1\tlocalhost\n")
    assert alone["/etc/resolv.conf"] == ""


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (ExitStatus(0), Outcome(0)),
        (ExitStatus(7), Outcome(7)),
        (ExitStatus(0, signal=15), Outcome(143)),
        (ExitStatus(127, setup_error="not found"), Outcome(127, "can't run 'x': not found", True)),
        (ExitStatus(0, signal=9, oom=True), Outcome(137, "c ran out of memory (its limit is 64 MiB): the kernel killed a process in it")),
        (ExitStatus(0, oom=True), Outcome(0)),
    ],
)
def test_outcomes(status: ExitStatus, outcome: Outcome) -> None:
    assert outcome_of(status, "c", "x", Limits(memory=64 << 20)) == outcome

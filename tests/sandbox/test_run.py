"""What a process in a sandbox finds, in every way that features allow."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.sandbox.command import set_limits
from imgbuild.sandbox.spec import DEFAULT_CAPABILITIES, DEFAULT_RLIMITS, Identity, Process
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, USER, Run, finish, spawn, spec_of

pytestmark = ROOT


def test_exit_code(run: Run) -> None:
    result = run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status.code, result.status.signal, result.out) == (7, None, "out\nerr\n")
    assert result.status.setup_error == ""


def test_signal(zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(zygote, root, "sleep", "100")
    assert sandbox.wait_running() is None
    sandbox.kill(signal.SIGKILL)
    status = sandbox.wait()
    assert (status.code, status.signal) == (137, signal.SIGKILL)
    assert sandbox.wait() is status
    sandbox.kill()


def test_wait_with_timeout(zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(zygote, root, "sleep", "100")
    assert sandbox.wait(timeout=0.01) is None
    sandbox.kill()
    assert sandbox.wait(timeout=60) is not None


def test_pid_is_ours(zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(zygote, root, "sleep", "100")
    assert sandbox.wait_running() is None
    assert Path(f"/proc/{sandbox.pid}/cmdline").read_bytes() == b"sleep\x00100\x00"
    sandbox.kill()
    sandbox.wait()


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("nothing",), 127, "nothing: not found in $PATH"),
        (("/bin/nothing",), 127, "/bin/nothing: no such file"),
        (("/bin",), 126, "/bin: is a directory"),
        (("not-executable",), 126, "is not executable (mode 0644)"),
        (("no-interpreter",), 127, "its interpreter '/missing/sh' does not exist"),
        (("no-format",), 126, "is neither a program nor a script"),
        (("empty",), 126, "is an empty file"),
        (("foreign",), 126, "is a program for s390x, and this is"),
        ((), 127, "the command is empty"),
    ],
)
def test_cannot_be_executed(run: Run, argv: tuple[str, ...], code: int, words: str) -> None:
    status = run(*argv).status
    assert status.code == code
    assert words in status.setup_error


@pytest.mark.parametrize("way", ["itself", "symlink", "script", "script of a script", "root"])
def test_nothing_of_the_host_is_executed(plain: Run, tmp_path: Path, way: str) -> None:
    (tmp_path / "upper/link").symlink_to("/proc/self/exe")
    (tmp_path / "upper/circle").symlink_to("circle")
    scripts = (("script", "#! \t/proc/1/exe -x"), ("second", "#!/link"), ("third", "#!/second\t3"), ("rooted", "#!/proc/self/root/bin/sh"))
    for name, first in scripts:
        (tmp_path / "upper" / name).write_text(f"{first}\n")
        (tmp_path / "upper" / name).chmod(0o755)
    program = {"itself": "/proc/self/exe", "symlink": "/link", "script": "/script", "script of a script": "/third", "root": "/rooted"}[way]
    status = plain(program).status
    assert (status.code, status.setup_error) == (126, f"{program}: leads through a magic link of /proc")
    assert "magic" not in plain("/circle").status.setup_error


def test_setup_fails(run: Run) -> None:
    status = run("true", mounts=(Mount(Bind("/nowhere/at/all"), "/mnt"),)).status
    assert status.code == 125
    assert "mounting /mnt" in status.setup_error
    assert "No such file" in status.setup_error


def test_root_that_cannot_be_mounted(zygote: Zygote) -> None:
    root = Filesystem("overlay", (("lowerdir", "/nowhere"),), source="overlay")
    status = spawn(zygote, root, "true").wait()
    assert status.code == 125
    assert "mounting the root" in status.setup_error


def test_environment(run: Run) -> None:
    result = run("env", env=("PATH=/bin", "A=1", "A=2", "B= x=y "), identity=Identity(home="/root"))
    assert sorted(result.lines) == ["A=2", "B= x=y ", "HOME=/root", "PATH=/bin"]


def test_path_is_the_processs_own(run: Run) -> None:
    assert run("true", env=("PATH=/sbin:/bin",)).status.code == 0
    assert run("true", env=("PATH=/sbin",)).status.code == 127
    assert run("true", env=()).status.code == 0


def test_working_directory_is_made(run: Run, tmp_path: Path) -> None:
    result = run("sh", "-c", "pwd; umask", cwd="/work/dir")
    assert result.lines == ["/work/dir", "0022"]
    assert (tmp_path / "upper/work/dir").stat().st_mode & 0o7777 == 0o755


def test_no_descriptor_leads_out(run: Run) -> None:
    assert run("sh", "-c", "ls /proc/self/fd").lines == ["0", "1", "2", "3"]  # 3 is that of the listing
    for number in range(3, 12):
        assert run("pwd", cwd=f"/proc/self/fd/{number}/../../..").status.code in (125, 0)
        assert "/" + run("pwd", cwd=f"/proc/self/fd/{number}").out.strip() != os.getcwd()


def test_user_and_groups(run: Run) -> None:
    result = run("sh", "-c", "id -u; id -g; id -G; echo $HOME; grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status", identity=USER)
    assert result.lines[:4] == ["1000", "1000", "1000 2000", "/home/user"]
    assert [line.split()[1] for line in result.lines[4:]] == ["0000000000000000"] * 4


def test_user_may_open_its_stdout_again(zygote: Zygote, root: Filesystem) -> None:
    read, write = os.pipe()
    try:
        status = zygote.spawn(spec_of(root, ("sh", "-c", "echo hello > /dev/stdout"), identity=USER), 0, write, write).wait()
        os.close(write)
        assert (status.code, os.read(read, 100)) == (0, b"hello\n")
    finally:
        os.close(read)


def _capabilities(run: Run, **changes: object) -> dict[str, int]:
    result = run("grep", "-E", "Cap|NoNew|Seccomp:", "/proc/self/status", **changes)
    return {line.split(":")[0]: int(line.split()[1], 16) for line in result.lines}


def test_capabilities(run: Run) -> None:
    found = _capabilities(run)
    assert found == {
        "CapInh": 0, "CapPrm": 0xA80425FB, "CapEff": 0xA80425FB, "CapBnd": 0xA80425FB, "CapAmb": 0, "NoNewPrivs": 0, "Seccomp": 2,
    }  # fmt: skip
    assert _capabilities(run, capabilities=frozenset({"CHOWN"}))["CapEff"] == 1
    assert _capabilities(run, capabilities=frozenset({"CHOWN"}), identity=USER)["CapBnd"] == 1


def test_no_new_privileges(run: Run) -> None:
    found = _capabilities(run, no_new_privileges=True, identity=USER)
    assert (found["NoNewPrivs"], found["Seccomp"]) == (1, 2)


def test_privileged(run: Run) -> None:
    ours = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapPrm")).split()[1], 16)
    found = _capabilities(run, privileged=True)
    assert (found["CapEff"], found["Seccomp"]) == (ours, 0)
    result = run("sh", "-c", "mount -t tmpfs none /mnt && grep ' /sys ' /proc/self/mounts", privileged=True)
    assert result.status.code == 0
    assert " rw," in result.out


def test_devices(run: Run) -> None:
    names = ["core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    assert run("ls", "/dev").lines == names
    assert run("sh", "-c", "echo x > /dev/null && head -c 3 /dev/zero | wc -c && echo y > /dev/shm/f", identity=USER).lines == ["3"]
    assert run("sh", "-c", "readlink /dev/stdout; readlink /dev/ptmx").lines == ["/proc/self/fd/1", "pts/ptmx"]


def test_system_mounts(run: Run) -> None:
    flags = {line.split()[1]: set(line.split()[3].split(",")) for line in run("cat", "/proc/self/mounts").lines}
    assert {"nosuid", "nodev", "noexec"} <= flags["/proc"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= flags["/sys"]
    assert "nosuid" in flags["/dev"]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= flags["/dev/pts"]
    assert {"mode=1777"} <= flags["/dev/shm"] or "nodev" in flags["/dev/shm"]
    assert "ro" in flags["/proc/sys"]
    assert "rw" in flags["/"]


def test_masked_and_read_only_paths(run: Run) -> None:
    result = run("sh", "-c", "cat /proc/keys /proc/interrupts /proc/timer_list; ls /sys/firmware; echo 1 > /proc/sys/kernel/panic")
    assert "Read-only file system" in result.out
    assert len(result.lines) == 1


def test_processes_are_alone(run: Run) -> None:
    result = run("sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l")
    assert result.lines[0] == "1"
    assert int(result.lines[1]) <= 4


def test_network_none(run: Run) -> None:
    result = run("ip", "-o", "addr", network="none")
    assert {line.split()[1] for line in result.lines} == {"lo"}
    assert "127.0.0.1/8" in result.out


def test_network_host(run: Run) -> None:
    assert run("readlink", "/proc/self/ns/net").out.strip() == os.readlink("/proc/self/ns/net")


def test_hostname(run: Run) -> None:
    assert run("hostname", hostname="box").out == "box\n"
    assert os.uname().nodename != "box"


def test_clocks_since_boot_are_ahead(run: Run) -> None:
    if not os.path.exists("/proc/self/ns/time"):
        pytest.skip("needs time namespaces")
    before = float(Path("/proc/uptime").read_text().split()[0])
    seconds = float(run("cat", "/proc/uptime", time_offset=5_000_000).out.split()[0])
    assert before + 5_000_000 <= seconds < float(Path("/proc/uptime").read_text().split()[0]) + 5_000_001
    assert float(run("cat", "/proc/uptime").out.split()[0]) < before + 1_000_000


def test_numbers_of_processes_begin_where_they_are_told_to(run: Run) -> None:
    if not os.path.exists("/proc/sys/kernel/ns_last_pid"):
        pytest.skip("needs kernel.ns_last_pid")
    script = "echo $$; sh -c 'echo $$; :'; :"
    assert run("sh", "-c", script, sysctl=(("kernel.ns_last_pid", "9000"),)).lines == ["1", "9001"]
    assert run("sh", "-c", script).lines == ["1", "2"]


def test_fewer_processors(run: Run) -> None:
    mask = run("grep", "Cpus_allowed_list", "/proc/self/status", processors=1).out.split()[1]
    assert mask.isdigit()


def test_read_only_root(run: Run) -> None:
    result = run("sh", "-c", "touch /x; echo y > /dev/shm/y", read_only_root=True)
    assert "Read-only" in result.out
    assert len(result.lines) == 1


def test_mounts_in_order(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("content\n")
    (source / "escape").symlink_to("/etc")
    mounts = (
        Mount(Filesystem("tmpfs", (("mode", "0711"),)), "/mnt/dir", nosuid=True, nodev=True),
        Mount(Bind(str(source)), "/mnt/dir/../dir", subpath="deep", read_only=True, noexec=True),
        Mount(File(b"secret", 0o440, 0, 1000), "/mnt/file"),
    )
    result = run("sh", "-c", "cat /mnt/dir/file /mnt/file; touch /mnt/dir/x; stat -c ' %a %g' /mnt/file", mounts=mounts)
    assert result.out.startswith("content\nsecret")
    assert "Read-only" in result.out
    assert result.lines[-1].endswith(" 440 1000")
    flags = {line.split()[1]: line.split()[3] for line in run("cat", "/proc/self/mounts", mounts=mounts).lines}
    assert {"ro", "noexec"} <= set(flags["/mnt/dir"].split(","))


def test_subpath_stays_inside(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source/etc").mkdir(parents=True)
    (tmp_path / "source/etc/mine").touch()
    (tmp_path / "source/escape").symlink_to("/etc")
    for subpath in ("escape", "../../../etc", "/etc"):
        assert run("ls", "/mnt/dir", mounts=(Mount(Bind(str(tmp_path / "source")), "/mnt/dir", subpath),)).lines == ["mine"]


def test_subpath_of_a_file_system(run: Run, lower: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    stack = Filesystem("overlay", (("lowerdir", f"{tmp_path / 'empty'}:{lower}"),), source="overlay")
    result = run("ls", "/mnt/dir", mounts=(Mount(stack, "/mnt/dir", "mnt", read_only=True),))
    assert result.lines == ["dir", "file"]


def test_target_behind_a_symlink_stays_inside(run: Run, tmp_path: Path) -> None:
    (tmp_path / "upper/link").symlink_to("/mnt/dir")
    result = run("ls", "/mnt/dir", mounts=(Mount(Bind(str(tmp_path / "upper")), "/link"),))
    assert result.lines == ["link"]


def test_recursive_read_only_bind(run: Run) -> None:
    mounts = (Mount(Bind("/proc", recursive=True), "/mnt/dir", read_only=True),)
    result = run("sh", "-c", "ls /mnt/dir/self/comm && echo x > /mnt/dir/self/comm", mounts=mounts)
    assert "Read-only" in result.out


def test_sysctl(run: Run) -> None:
    sysctl = (("net.ipv4.ip_unprivileged_port_start", "80"),)
    assert run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", network="none", sysctl=sysctl).out == "80\n"


def test_resource_limits(run: Run) -> None:
    assert run("sh", "-c", "ulimit -n", rlimits=(("NOFILE", 100, 100),)).out == "100\n"
    assert run("true", rlimits=(("NOFILE", 200, 100),)).status.code == 125


NAMES = {
    "NOFILE": "Max open files", "STACK": "Max stack size", "CORE": "Max core file size", "NPROC": "Max processes",
    "MEMLOCK": "Max locked memory", "MSGQUEUE": "Max msgqueue size", "AS": "Max address space",
}  # fmt: skip


def test_what_a_process_has_does_not_depend_on_the_host(features: Features, root: Filesystem) -> None:
    # Soft limits only: where root lacks CAP_SYS_RESOURCE there is no way back for hard ones.
    changed = (("NOFILE", 777), ("STACK", 4 << 20), ("NPROC", 5000), ("AS", 1 << 40))
    numbers = [getattr(resource, f"RLIMIT_{name}") for name, _ in changed]
    before = [resource.getrlimit(number) for number in numbers]
    ours = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in NAMES}
    score = Path("/proc/self/oom_score_adj").read_text()
    try:
        for number, (_, soft), (_, hard) in zip(numbers, changed, before, strict=True):
            resource.setrlimit(number, (soft, hard))
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        Path("/proc/self/oom_score_adj").write_text("100")
        zygote = Zygote.start(features)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        Path("/proc/self/oom_score_adj").write_text(score)
        for number, limits in zip(numbers, before, strict=True):
            resource.setrlimit(number, limits)
    with zygote:
        script = "cat /proc/self/limits; echo; cat /proc/self/oom_score_adj; cut -d ' ' -f 19 /proc/self/stat"
        table, rest = finish(zygote, spec_of(root, ("sh", "-c", script))).out.split("\n\n")
        asked = finish(zygote, spec_of(root, ("sh", "-c", "ulimit -n; ulimit -Hn"), rlimits=(("rlimit_nofile", 50, 60),)))
    found = {line[:26].strip(): line[26:].split()[:2] for line in table.splitlines()}
    defaults = {name: (soft, hard) for name, soft, hard in DEFAULT_RLIMITS}
    for name, column in NAMES.items():
        soft, hard = defaults[name]
        # What may not be raised stays what it is.
        bounded = [min(limit, ours[name], key=lambda value: value % 2**64) for limit in (soft, hard)]
        assert found[column] in [["unlimited" if limit == -1 else str(limit) for limit in limits] for limits in ((soft, hard), bounded)]
    assert rest.split() == ["0", "0"]
    assert asked.lines == ["50", "60"]


@pytest.mark.parametrize(("hard", "expected"), [(4096, (1024, 4096)), (512, (512, 512))])
def test_limits_that_may_not_be_raised(hard: int, expected: tuple[int, int]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            resource.setrlimit(resource.RLIMIT_NPROC, (400, 500))
            os.setresuid(12345, 12345, 12345)
            set_limits(Process((), ()))
            found = (resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_NPROC))
            code = 0 if found == (expected, (500, 500)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


TARGETS = ("/proc", "/proc/", "/proc/self/attr", "/sys", "//sys/./fs", "/mnt/../proc/1", "/dev", "/dev/.", "/", "/..")


@pytest.mark.parametrize("target", TARGETS)
def test_the_sandboxs_own_mounts_are_not_covered(zygote: Zygote, root: Filesystem, target: str) -> None:
    with pytest.raises(SandboxError) as caught:
        spawn(zygote, root, "true", mounts=(Mount(Filesystem("tmpfs"), target),))
    assert f"nothing can be mounted at {target}" in caught.value.message


@pytest.mark.parametrize(("link", "target"), [("/proc", "/link/tty"), ("/proc/sys", "/link"), ("/sys/fs", "/link"), ("/dev", "/link")])
def test_nor_are_they_behind_a_symlink(run: Run, tmp_path: Path, link: str, target: str) -> None:
    (tmp_path / "upper/link").symlink_to(link)
    status = run("true", mounts=(Mount(Filesystem("tmpfs"), target),)).status
    assert status.code == 125
    assert f"nothing can be mounted at {target} (it leads to {target.replace('/link', link)})" in status.setup_error


def test_below_dev_there_can_be_mounts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "upper/processes").touch()
    mounts = (Mount(Filesystem("tmpfs", (("size", "1m"),)), "/dev/shm"), Mount(File(b"text"), "/dev/file"), Mount(File(b""), "/processes"))
    result = run("sh", "-c", "cat /dev/file; grep -c ' /dev/shm .*size=1024k' /proc/self/mounts", mounts=mounts)
    assert result.out == "text1\n"


def test_nothing_is_written_to_the_root(run: Run, tmp_path: Path) -> None:
    assert run("true").status.code == 0
    assert list((tmp_path / "upper").iterdir()) == []


def test_signals_are_default(run: Run) -> None:
    result = run("grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status")
    assert {line.split()[1] for line in result.lines} == {"0000000000000000"}


def test_namespaces_are_its_own(run: Run) -> None:
    names = ("mnt", "pid", "uts", "ipc", "cgroup")
    found = run("sh", "-c", f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done").lines
    assert len(found) == len(names)
    assert not {os.readlink(f"/proc/self/ns/{name}") for name in names} & set(found)


def test_usage(run: Run) -> None:
    usage = run("sh", "-c", "dd if=/dev/zero of=/tmp/f bs=1M count=8; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").status.usage
    assert usage.cpu_seconds > 0
    assert usage.wall_seconds > 0
    assert usage.peak_memory
    assert usage.bytes_written is not None
    assert usage.bytes_written >= 8 << 20
    assert usage.cpu_user is not None
    assert usage.cpu_system is not None
    assert usage.cpu_user + usage.cpu_system == pytest.approx(usage.cpu_seconds)
    assert usage.bytes_read is not None


def test_what_was_held_is_without_the_page_cache(run: Run) -> None:
    usage = run("dd", "if=/dev/zero", "of=/tmp/f", "bs=1M", "count=64").status.usage
    assert usage.peak_held is not None
    # A forked process has at first what this one has, which is much where many tests ran before.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    assert usage.peak_held < max(48 << 20, own + (16 << 20))
    held = run("sh", "-c", "head -c 64m /dev/zero | tail | true").status.usage.peak_held
    assert held is not None
    assert held > 48 << 20


def test_default_capabilities_are_dockers() -> None:
    assert len(DEFAULT_CAPABILITIES) == 14

"""``run`` as users and scripts know it: exit codes, streams, environment, users, mounts, limits."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from imgbuild.oci.config import RunConfig
from imgbuild.store.store import Store

from .conftest import BUSYBOX, Shop, add_image, tar_of


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("box", "true"), 0, ""),
        (("box", "sh", "-c", "exit 42"), 42, ""),
        (("box", "no-such-command"), 127, "not found"),
        (("box", "/no/such/path"), 127, "no such file"),
        (("box", "/script"), 127, "interpreter"),
        (("box", "/noexec"), 126, "not executable"),
        (("box", "/etc"), 126, "is a directory"),
        (("no-such-image-at-all", "true"), 125, "no-such-image-at-all"),
        (("--network", "bridge", "box", "true"), 125, "bridge"),
        (("-p", "80:80", "box", "true"), 125, "--publish"),
        (("--memory", "much", "box", "true"), 125, "--memory"),
        (("--no-such-option", "box", "true"), 125, "no-such-option"),
        (("-u", "nobody-here", "box", "true"), 125, "nobody-here"),
        (("-v", "/etc/passwd:/etc", "box", "true"), 125, "is a directory in the image"),
        (("--mount", "type=bind,src=/no/such,dst=/x", "box", "true"), 125, "does not exist"),
        (("--cap-add", "MUCH", "box", "true"), 125, "MUCH"),
        (("--hostname", "a b", "box", "true"), 125, "host name"),
    ],
)
def test_exit_codes(shop: Shop, words: tuple[str, ...], code: int, error: str | None) -> None:
    done = shop("run", "--rm", "--pull", "never", *words, check=False)
    assert done.returncode == code, done.stderr
    if error == "":
        assert done.stderr == ""
    elif error is not None:
        assert error in done.stderr
        assert done.stderr.startswith(("imgbuild: ", "Usage: "))
        assert "Traceback" not in done.stderr


def test_streams_are_the_callers(shop: Shop) -> None:
    done = shop.run("box", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert shop.run("box", "cat", text="ignored").stdout == ""
    assert shop.run("-i", "box", "cat", text="passed on\n").stdout == "passed on\n"


def test_output_of_a_kept_container_comes_whole(shop: Shop) -> None:
    done = shop("run", "--name", "big", "box", "sh", "-c", "seq 200000; seq 3 >&2")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001))
    assert done.stderr == "1\n2\n3\n"
    logged = shop("logs", "big")
    assert (logged.stdout, logged.stderr) == (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--rm", "box", "yes"), 1),  # told, but not killed: a first process has no default actions
        (("box", "sh", "-c", "seq 100000; exit 3"), 3),  # goes on into its log
    ],
)
def test_a_reader_that_goes_away(shop: Shop, words: tuple[str, ...], code: int) -> None:
    with shop.start("run", *words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait() == code


def test_closed_stdin(shop: Shop) -> None:
    script = 'exec "$@" <&-'
    words = [*shop.command, "run", "--rm", "-i", "box", "sh", "-c", "cat; echo x; exit 5"]
    done = subprocess.run(["sh", "-c", script, "sh", *words], env=shop.environ, capture_output=True, check=False, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"x\n", b"")


def test_environment(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# file\nFILE=1\nBOTH=file\nINHERITED\n")
    shop.environ |= {"INHERITED": "yes", "SECRET": "never"}
    lines = shop.run("--hostname", "here", "--env-file", str(tmp_path / "env"), "-e", "BOTH=word", "-e", "IMAGE", "box", "env").stdout
    assert sorted(lines.split()) == ["BOTH=word", "FILE=1", "HOME=/root", "HOSTNAME=here", "INHERITED=yes", "PATH=/bin"]


def test_entrypoint_and_command(shop: Shop) -> None:
    shop.image("entry", entrypoint=("echo", "entry"), cmd=("cmd",))
    assert shop.run("entry").stdout == "entry cmd\n"
    assert shop.run("entry", "word", "--rm", "-x").stdout == "entry word --rm -x\n"
    assert shop.run("--entrypoint", "printf", "entry", "%s|", "a", "b").stdout == "a|b|"
    assert shop.run("--entrypoint", "", "entry", "true").stdout == ""
    assert "no command" in shop.run("--entrypoint", "", "entry", check=False).stderr


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), "uid=0(root) gid=0(root) /root"),
        (("-u", "ann"), "uid=1000(ann) gid=1000(ann) groups=50(staff),1000(ann) /home/ann"),
        (("-u", "1000:50"), "uid=1000(ann) gid=50(staff) groups=50(staff) /home/ann"),
        (("-u", "77"), "uid=77 gid=0(root) /"),
    ],
)
def test_users(shop: Shop, options: tuple[str, ...], wanted: str) -> None:
    assert " ".join(shop.sh("id; echo $HOME", *options).split()).replace(" groups=0(root)", "") == wanted


def test_another_user_may_reopen_its_streams(shop: Shop) -> None:
    assert shop.sh("echo again > /dev/stdout", "-u", "ann") == "again\n"


def test_working_directory(shop: Shop) -> None:
    shop.image("there", working_dir="/srv")
    assert shop.run("there", "pwd").stdout == "/srv\n"
    assert shop.run("-w", "/made/new", "there", "pwd").stdout == "/made/new\n"
    assert shop.run("-w", "relative", "there", "pwd", check=False).returncode == 125


def test_files_that_every_container_has(shop: Shop) -> None:
    script = "hostname; cat /etc/hostname; grep -c box /etc/hosts; grep db /etc/hosts; test -e /etc/resolv.conf && echo yes"
    text = shop.sh(script, "--hostname", "box", "--add-host", "db:10.1.2.3")
    assert text == "box\nbox\n1\n10.1.2.3\tdb\nyes\n"
    assert shop.sh("hostname") != shop.sh("hostname")


def test_no_network(shop: Shop) -> None:
    assert shop.sh("ls /sys/class/net", "--network", "none").split() == ["lo"]
    assert shop.sh("cat /etc/resolv.conf", "--network", "none") == ""


def test_what_a_container_writes_is_its_own(shop: Shop) -> None:
    assert shop.sh("echo x > /new; rm /bin/vi; cat /new") == "x\n"
    assert shop.sh("test -e /new || echo none; ls /bin/vi") == "none\n/bin/vi\n"
    assert shop.sh("stat -c '%a %U' / /root /tmp") == "755 root\n700 root\n1777 root\n"


def test_read_only(shop: Shop) -> None:
    script = "touch /x 2>&1; touch /etc/hosts 2>&1; touch /tmp/x /data/x && echo written"
    text = shop.sh(script, "--read-only", "--tmpfs", "/tmp", "-v", "/data")
    assert text.count("Read-only file system") == 2
    assert text.endswith("written\n")


def test_bind_mounts(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    options = ("-v", f"{tmp_path}/file:/etc/file:ro", "-v", "./made:/x/y", "--mount", f"type=bind,src={tmp_path},dst=/all,ro")
    text = shop.run(*options, "box", "sh", "-c", "cat /etc/file /all/file; echo new > /x/y/z; echo > /etc/file", check=False, cwd=tmp_path)
    assert text.stdout == "host\nhost\n"
    assert text.returncode == 1
    assert (tmp_path / "made/z").read_text() == "new\n"


def test_mounts_inside_mounts(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "file").write_text("inner\n")
    text = shop.sh("cat /o/deep/file; ls /o/dir", "-v", f"{tmp_path}/file:/o/deep/file", "-v", f"{tmp_path}/outer:/o", "-v", "/o/dir")
    assert text == "inner\n"
    assert sorted(os.listdir(tmp_path / "outer")) == ["deep", "dir"]
    refused = shop.run("--tmpfs", "/t", "-v", f"{tmp_path}:/t/x", "box", "true", check=False)
    assert refused.returncode == 125
    assert "inside the tmpfs" in refused.stderr


def test_tmpfs(shop: Shop) -> None:
    script = "stat -c %a /run; grep ' /run ' /proc/mounts; df -k /dev/shm | tail -1"
    text = shop.sh(script, "--tmpfs", "/run:size=1m,mode=0700", "--shm-size", "2m")
    mode, mounts, shm = text.splitlines()
    assert mode == "700"
    assert "size=1024k" in mounts
    assert "noexec" in mounts
    assert shm.split()[1] == "2048"


def test_named_volumes_are_seeded_once_and_stay(shop: Shop) -> None:
    look = "stat -c '%a %u %g' /srv /srv/seed; cat /srv/seed; readlink /srv/link"
    assert shop.sh(look + "; echo changed > /srv/seed", "-v", "data:/srv") == "750 1000 50\n640 1000 50\nfrom the image\nseed\n"
    assert shop.sh("cat /srv/seed", "-v", "data:/srv:ro") == "changed\n"
    assert shop.sh("ls /srv", "-v", "other:/srv:nocopy") == ""
    assert shop.sh("cat /srv/seed") == "from the image\n"


def test_image_volumes_are_anonymous_and_go_with_the_container(shop: Shop) -> None:
    shop.image("vol", volumes=("/srv", "/cache"))
    text = shop("run", "--name", "v", "vol", "sh", "-c", "cat /srv/seed; grep -c -e ' /srv ' -e ' /cache ' /proc/mounts").stdout
    assert text == "from the image\n2\n"
    record = json.loads(next((shop.root / "containers").glob("*/container.json")).read_text())
    assert [mount["target"] for mount in record["mounts"]] == ["/cache", "/srv"]
    shop("rm", "v")
    assert not (shop.root / "volumes").exists()


def test_mount_points_that_layers_took_away(shop: Shop) -> None:
    layer = tar_of([("etc", "/", {}), ("etc/.wh..wh..opq", b"", {}), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n", {}), (".wh.srv", b"", {})])
    shop.image("bare", layer)
    text = shop.run("-v", "/srv/deep", "bare", "sh", "-c", "ls /etc; ls -d /srv/deep; grep -c localhost /etc/hosts").stdout
    assert text.split()[:-1] == ["hostname", "hosts", "passwd", "resolv.conf", "/srv/deep"]


def test_symlinked_resolv_conf(shop: Shop) -> None:
    layer = tar_of([("etc/resolv.conf", "-> ../run/systemd/resolve/stub-resolv.conf", {})])
    shop.image("systemd", layer)
    script = "readlink /etc/resolv.conf; cat /etc/resolv.conf > /dev/null && echo readable"
    assert shop.run("systemd", "sh", "-c", script).stdout.endswith("stub-resolv.conf\nreadable\n")


def test_image_without_anything(shop: Shop) -> None:
    with Store.open(shop.root) as store:
        add_image(store, "nothing", [], RunConfig())
    done = shop.run("-v", f"{BUSYBOX}:/busybox", "nothing", "/busybox", "ls", "/")
    assert done.stdout.split() == ["busybox", "dev", "etc", "proc", "sys"]


def test_capabilities_and_privileges(shop: Shop) -> None:
    assert shop.sh("grep CapEff /proc/self/status", "--cap-drop", "all").split()[1] == "0" * 16
    assert int(shop.sh("grep CapEff /proc/self/status", "--cap-drop", "ALL", "--cap-add", "CAP_CHOWN").split()[1], 16) == 1
    assert shop.sh("grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges").split()[1] == "1"
    assert shop.sh("ulimit -n", "--ulimit", "nofile=77:88") == "77\n"
    assert shop.sh("cat /proc/sys/net/ipv4/ip_forward", "--network", "none", "--sysctl", "net.ipv4.ip_forward=1") == "1\n"


def test_memory_limit_is_said_in_words(shop: Shop) -> None:
    script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x | wc -c"
    done = shop.run("--memory", "32m", "--memory-swap", "32m", "box", "sh", "-c", script, check=False)
    assert done.returncode in (137, 2, 1)
    assert "ran out of memory (its limit is 32 MiB)" in done.stderr


def test_pids_limit(shop: Shop) -> None:
    done = shop.run("--pids-limit", "5", "box", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done", check=False)
    assert "can't fork" in done.stderr


def test_by_id_and_digest(shop: Shop) -> None:
    digest = json.loads((shop.root / "index.json").read_text())["manifests"][0]["digest"]
    assert shop.run("--pull", "never", digest.removeprefix("sha256:")[:12], "echo", "x").stdout == "x\n"
    assert shop.run("--pull", "never", f"box@{digest}", "echo", "x").stdout == "x\n"


def test_cidfile(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    shop("run", "--name", "a", "--cidfile", str(file), "box", "true")
    assert shop("ps", "-aq", "--no-trunc").stdout.strip() == file.read_text()
    again = shop("run", "--name", "b", "--cidfile", str(file), "box", "true", check=False)
    assert again.returncode == 125
    assert shop("ps", "-aq").stdout.count("\n") == 1


def test_a_failure_before_the_start_leaves_no_container(shop: Shop) -> None:
    shop("run", "-u", "nobody-here", "box", "true", check=False)
    assert shop("ps", "-a", "-q").stdout == ""


def test_twenty_at_once(shop: Shop) -> None:
    words = ("run", "--rm", "-v", "shared:/srv", "box", "sh", "-c")
    running = [shop.start(*words, f"cat /srv/seed; exit {number}", stdout=subprocess.PIPE) for number in range(20)]
    for number, process in enumerate(running):
        out, _ = process.communicate(timeout=100)
        assert (process.returncode, out) == (number, b"from the image\n")


def test_an_image_with_odd_words(shop: Shop) -> None:
    shop.image("odd", stop_signal="SIGFOO", env=("PATH=/bin", "BARE", "=x", "A=1"))
    done = shop.run("odd", "env")
    assert "A=1\n" in done.stdout
    assert "BARE" not in done.stdout
    assert done.stderr.startswith("imgbuild: notice: the image's stop signal 'SIGFOO' is not known here")
    assert shop("run", "-d", "--rm", "odd", "true").stderr == done.stderr
    assert shop.run("--stop-signal", "INT", "odd", "true").stderr == ""
    shop.image("nul", volumes=("/a\0b",))
    done = shop.run("nul", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("imgbuild: error: the image's config has a NUL character in Volumes: '/a")


def test_environment_files_that_are_none(shop: Shop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (
        (str(tmp_path / "pipe"), "is a named pipe"),
        ("/dev/zero", "is too large"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "missing"), "No such file"),
    ):
        done = shop.run("--env-file", name, "box", "true", check=False)
        assert done.returncode == 125
        assert done.stderr.startswith("imgbuild: error: ")
        assert name in done.stderr
        assert why in done.stderr
    read_end, write_end = os.pipe()
    os.write(write_end, b"GIVEN=by a shell\n")
    os.close(write_end)
    words = ("--env-file", f"/dev/fd/{read_end}", "--env-file", "/dev/null", "box", "env")
    assert "GIVEN=by a shell\n" in shop.run(*words, pass_fds=(read_end,)).stdout
    os.close(read_end)

"""The same without being root: with a range of ids and with one id, with the digests that root gets."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Bases
from demo.cli import Imgbuild
from demo.examples import ALL
from registry_mock.client import Mock

from .aftermath import wait_for_the_end_of
from .harness import PATIENCE, Bench, base_tar, ended, wait_for_line, wait_until_old
from .servers import serving_files, serving_git
from .visitor import UID, VisitorBench, needs_namespaces, visitor

BUILDFILE = """
FROM busybox AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t \\
    cat file sub/file > /out && cp /out /cache && chmod 6755 /out && ln /out /hard
RUN rm /etc/group && rm -r /home && mkdir /home && echo 1 > /home/one && mkfifo /fifo
RUN --network=none [ $(ls /sys/class/net | wc -l) -le 1 ] && id -u > /id
FROM busybox
COPY --from=build /out /hard /id /fifo /
COPY --from=build /home /home
COPY --link --parents sub/file /linked/
COPY --link --exclude=l* . /linked
RUN ls /linked > /listed
ENV A=b
VOLUME /data
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat /out; id -u; echo $A"]
"""
FILES = {"Buildfile": BUILDFILE, "file": "1\n", "sub/file": "2\n", "link": "-> sub/file", ".dockerignore": "*.log"}


@pytest.fixture(params=[True, False], ids=["range", "one-id"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VisitorBench]:
    """The bench of a user without rights, with "busybox"."""
    with visitor(tmp_path / "visitor", request.param) as bench:
        needs_namespaces(bench)
        (bench.place / "base.tar").write_bytes(base_tar())
        bench.give(bench.place / "base.tar")
        bench.run("import", bench.place / "base.tar", "busybox")
        try:
            yield bench
        finally:
            left = bench.run("ps", "-aq", code=None).out.split()
            if left:
                bench.run("rm", "-f", *left, code=None)
            wait_for_the_end_of(lambda: _others(bench))


def _others(bench: VisitorBench) -> list[int]:
    """The visitor's processes."""
    return [pid for pid in bench.processes() if pid != bench.holder and os.path.exists(f"/proc/{pid}/uid_map") and _is_ours(pid)]


def _is_ours(pid: int) -> bool:
    try:
        return b"imgbuild" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_build_and_run_with_the_digest_that_root_gets(guest: VisitorBench, bench: Bench) -> None:
    guest.write(FILES)
    bench.write(FILES)
    done = guest.build(None)
    bench.build(None)
    assert guest.inspect("busybox")["Digest"] == bench.inspect("busybox")["Digest"]
    assert guest.inspect()["Digest"] == bench.inspect()["Digest"]
    assert set(done.steps.values()) == {"DONE"}
    assert set(guest.build(None).steps.values()) == {"CACHED"}
    assert guest.run("run", "--rm", "x").out == bench.run("run", "--rm", "x").out == "1\n2\n0\nb\n"
    assert (guest.root / "index.json").stat().st_uid == guest.place.stat().st_uid
    assert guest.run("fsck").out.count("damaged") == 0


def test_a_bake_with_the_digests_that_root_gets(guest: VisitorBench, bench: Bench) -> None:
    targets = """
groups: {default: [one, two]}
targets:
  one: {context: ., tags: [one]}
  two: {buildfile-inline: "FROM lib\\nRUN cat /out > /again\\n", contexts: {lib: "target:one"}, tags: [two]}
  three: {buildfile-inline: "FROM busybox\\nRUN id -u > /three\\n", tags: [three]}
"""
    for each in (guest, bench):
        each.write({**FILES, "imgbuild.yaml": targets})
        each.run("bake", "--progress=plain", "default", "three")
    for name in ("one", "two", "three"):
        assert guest.inspect(name)["Digest"] == bench.inspect(name)["Digest"]


def test_containers(guest: VisitorBench) -> None:
    script = f"echo started; echo kept > /data/file; sleep {PATIENCE * 10}"
    guest.run("run", "-d", "--name", "c", "-v", "data:/data", "busybox", "sh", "-c", script)
    assert guest.run("exec", "c", "sh", "-c", "until [ -s /data/file ]; do usleep 1000; done; id -u; cat /data/file").out == "0\nkept\n"
    assert guest.run("logs", "c").out == "started\n"
    assert "c" in guest.run("ps").out
    assert len(guest.run("rmi", "busybox", code=14).errors) == 1
    guest.run("kill", "--signal", "KILL", "c")
    assert guest.run("wait", "c").out.strip() == "137"
    guest.run("rm", "c")
    assert guest.run("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file").out == "kept\n"
    assert guest.run("run", "--rm", "-i", "busybox", "cat", stdin=b"piped").out == "piped"
    assert guest.run("run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", "touch /tmp/x; touch /x", code=1).out == ""
    assert guest.run("run", "--rm", "--network", "none", "busybox", "true").out == ""
    guest.run("run", "-d", "--name", "d", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do usleep 10000; done")
    guest.run("stop", "d")
    assert guest.run("ps", "-aq").out.split() != []
    guest.run("rm", "d")
    assert guest.run("ps", "-aq").out == ""


def test_images_and_the_store(guest: VisitorBench) -> None:
    guest.write(FILES)
    guest.build(None)
    digest = guest.inspect()["Digest"]
    assert {line.split()[0] for line in guest.run("images").out.splitlines()[1:]} == {"x", "busybox"}
    assert "ENTRYPOINT" in guest.run("history", "x").out
    for format_ in ("oci", "docker"):
        guest.run("save", "--format", format_, "-o", guest.place / "context" / f"{format_}.tar", "x")
        guest.run("load", guest.place / "context" / f"{format_}.tar", format_)
        assert guest.image(f"{format_}:latest")["rootfs"] == guest.image()["rootfs"]
    guest.run("unpack", "x", guest.place / "context" / "tree")
    assert (guest.context / "tree" / "out").read_text() == "1\n2\n"
    assert (guest.context / "tree" / "out").stat().st_mode & 0o7777 == 0o6755
    guest.run("tag", "x", "y")
    guest.run("rmi", "x", "oci", "docker")
    assert guest.inspect("y")["Digest"] == digest
    assert json.loads(guest.run("du", "--format", "json").out)["total"] > 0
    assert guest.run("fsck").out.count("damaged") == 0
    guest.run("rmi", "y", "busybox")
    guest.run("prune", "--all")
    assert os.listdir(guest.root / "blobs" / "sha256") == os.listdir(guest.root / "snapshots") == []
    assert os.listdir(guest.root / "trash") == os.listdir(guest.root / "tmp") == []


def test_registries(guest: VisitorBench, tmp_path: Path) -> None:
    guest.write(FILES)
    guest.build(None)
    with Mock(tmp_path / "registry") as mock:
        name = f"{mock.authority}/x:1"
        digest = guest.run("push", "-q", "x", name).out.strip()
        guest.run("rmi", "x", "busybox")
        guest.run("prune", "--all")
        assert guest.run("pull", "-q", name).out.strip() == digest
        assert guest.run("run", "--rm", name).out == "1\n2\n0\nb\n"


def test_ids(guest: VisitorBench, request: pytest.FixtureRequest) -> None:
    """With a range, as root; with one id, a clear error where another is needed."""
    text = "FROM busybox\nUSER ann\nRUN id -u > /tmp/id\nUSER 0\nRUN chown 12:34 /tmp/id\n"
    if "one-id" in request.node.callspec.id:
        said = guest.build(text, code=None)
        assert said.code in (1, 20)
        assert len(said.errors) == 1
        assert "id" in said.err
        guest.run("run", "--rm", "-u", "1000", "busybox", "true", code=125)
    else:
        guest.build(text)
        assert guest.top()["tmp/id"].info.uid == 12
        assert guest.files()["tmp/id"].data == b"1000\n"
        assert guest.run("run", "--rm", "-u", "ann", "busybox", "id", "-u").out == "1000\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended(guest: VisitorBench, how: signal.Signals) -> None:
    guest.write({"Buildfile": f"FROM busybox\nRUN echo ready; sleep {PATIENCE * 10}\n"})
    with guest.started("build", "--progress=plain", ".") as process:
        wait_for_line(process, b"| ready")
        code, _ = ended(process, how)
    assert code == (143 if how == signal.SIGTERM else -how)
    wait_for_the_end_of(lambda: _others(guest))
    guest.build("FROM busybox\nRUN echo fine\n")
    assert guest.run("fsck").out.count("damaged") == 0
    assert os.listdir(guest.root / "tmp") == []


# A user namespace with two ids, in which no more of them may be made; then the visitor in it.
FORBIDDING = """
import ctypes, os, sys
made, tell = os.pipe()
mapped, go = os.pipe()
if os.fork():
    os.close(tell)
    os.read(made, 1)
    child = open("/proc/self/task/%d/children" % os.getpid()).read().split()[0]
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write(f"0 0 1\\n{UID} {UID} 1\\n")
    os.write(go, b"x")
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.close(tell)
os.read(mapped, 1)
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_without_namespaces_it_says_so(guest: VisitorBench) -> None:
    script = FORBIDDING.replace("{UID}", str(UID))
    enter = guest.entering()
    command = [*enter, sys.executable, "-c", script, *guest.command("run", "--rm", "busybox", "true")[len(enter) :]]
    done = subprocess.run(command, capture_output=True, text=True, env=guest.environ, check=False)
    assert done.returncode == 125, done.stderr
    assert done.stderr.startswith("imgbuild: error: ")
    assert "user namespace" in done.stderr
    assert "hint: " in done.stderr


# The examples, with the bases of the demo


@pytest.fixture
def ranged(tmp_path: Path) -> Iterator[VisitorBench]:
    with visitor(tmp_path / "visitor", True) as bench:
        needs_namespaces(bench)
        yield bench


@pytest.mark.parametrize("name", ["hello", "static-site", "c-multistage"])
def test_examples(ranged: VisitorBench, bases: Bases, imgbuild: Imgbuild, name: str) -> None:
    example = next(example for example in ALL if example.name == name)
    options = bases.options.of(example)
    shutil.copy(bases.settings, ranged.place / "settings.yaml")
    shutil.copytree(example.directory, ranged.context, dirs_exist_ok=True, symlinks=True)
    ranged.give(ranged.place)
    proxies = {key: value for key, value in imgbuild.environment().items() if key.lower().endswith("_proxy")}
    settings = {"IMGBUILD_CONFIG": "/mnt/place/settings.yaml", **proxies}
    ranged.run("build", "-t", name, *options, ".", environ=settings)
    seen = Path("/mnt/place")
    words, environ = tuple(ranged.command()[:-2]), tuple(ranged.environ.items())
    visitors = Imgbuild(words, seen / "store", seen / "settings.yaml", seen / "home", environ)
    if name == "c-multistage":
        assert ranged.run("run", "--rm", "-i", name, stdin=b"123456789").out == "cbf43926\n"
        return
    example.check(visitors, name)
    assert ranged.run("fsck").out.count("damaged") == 0
    imgbuild("build", "-t", name, *options, ranged.context)  # not in a git work tree, either, whose age would be the image's
    (image,) = json.loads(imgbuild("inspect", name).stdout)
    assert ranged.inspect(name)["Digest"] == image["Digest"]


def test_sources_and_contexts_from_elsewhere(guest: VisitorBench, bench: Bench, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        info = tarfile.TarInfo("inner")
        info.uid = info.gid = 1234
        tar.addfile(info)
        with serving_files() as web, serving_git(tmp_path / "git") as host:
            url = host.make("app")
            host.commit("app", {"a": "1", "sub/b": "2"})
            text = f"FROM busybox\nADD --chmod=644 {web.put('/x', b'data')} /x\nADD {url} /r\nCOPY inner /\n"
            entry = tarfile.TarInfo("Buildfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
            tar.close()
            for each in (guest, bench):
                each.run("build", "-t", "x", "-", stdin=data.getvalue())
    assert guest.inspect()["Digest"] == bench.inspect()["Digest"]
    assert {"x", "r/a", "r/sub/b", "inner"} <= set(bench.files())


def test_a_build_that_knows_its_graph_says_a_notice_once(guest: VisitorBench) -> None:
    guest.write({"file": "", "Buildfile": "FROM busybox as a\nCOPY file /\n"})
    said = []
    for number in range(4):
        (guest.context / "file").write_text(str(number))  # and nothing else
        wait_until_old(guest.context / "file")
        done = guest.run("build", "--progress=plain", "-t", "x", ".")
        said.append(re.findall("^(?:notice|warning): .*", done.err, re.M))
    assert said[0]
    assert said[1:] == said[:-1]

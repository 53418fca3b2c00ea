"""``imgbuild diff``: images and containers compared, from the user's side."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .harness import GROUP, Bench, base_tar
from .visitor import needs_namespaces, visitor

OLD = """
FROM busybox
ENV A=1 B=2 PATH=/bin
LABEL version=1 kept=yes
EXPOSE 80
RUN mkdir -p /d/sub /gone/deep /opaque && echo 1 > /d/file && echo 1 > /d/sub/x && echo 1 > /gone/deep/er && echo 1 > /opaque/a \\
    && echo 1 > /opaque/b && ln -s file /d/link && mkfifo /d/fifo && echo same > /same && echo type > /type && echo own > /own
RUN echo linked > /one && ln /one /two
RUN rm /bin/vi
CMD ["sh"]
"""
NEW = """
FROM busybox
ENV A=2 C=3 PATH=/bin
LABEL version=2 kept=yes
EXPOSE 81/udp
USER ann
USER root
RUN mkdir -p /d/sub /gone/deep /opaque && echo 12 > /d/file && echo 1 > /d/sub/x && echo 1 > /gone/deep/er && echo 1 > /opaque/a \\
    && echo 1 > /opaque/b && ln -s sub /d/link && mkfifo /d/fifo && echo same > /same && mkdir /type && echo own > /own
RUN rm -r /gone && rm -r /opaque && mkdir /opaque && echo 1 > /opaque/b && chmod 600 /same && chown ann /own
RUN echo linked > /one && echo linked > /two
ENTRYPOINT ["/bin/sh", "-c"]
"""


@pytest.fixture(scope="module")
def pair(shared: Bench) -> Bench:
    """A store with "old" and "new"."""
    shared.build(OLD, "-t", "old")
    shared.build(NEW, "-t", "new")
    return shared


def _json(bench: Bench, *arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bench.run("diff", "--format", "json", *arguments).out)
    return value


def _files(bench: Bench, *arguments: str) -> dict[str, str]:
    """What is said of each path, by the path."""
    lines = bench.run("diff", *arguments).out.splitlines()
    shown = [line[2:] for line in lines[lines.index("files") + 1 :] if line[2:4] in ("+ ", "- ", "~ ")] if "files" in lines else []
    return {line[2:].partition("  (")[0]: line[0] + line[2:].partition("  (")[2].rstrip(")") for line in shown}


def test_files(pair: Bench) -> None:
    assert _files(pair, "old", "new") == {
        "/bin/vi": "+symlink to busybox",
        "/d/file": "~content, 2 B -> 3 B",
        "/d/link": "~symlink to file -> sub",
        "/gone/": "-",
        "/gone/deep/": "-",
        "/gone/deep/er": "-2 B",
        "/opaque/a": "-2 B",
        "/own": "~owner 0:0 -> 1000:0",
        "/same": "~mode 0644 -> 0600",
        "/two": "~hard link to /one -> a file of its own",
        "/type/": "~file, 5 B -> directory",
    }
    back = _files(pair, "new", "old")
    assert back["/gone/deep/er"] == "+2 B"
    assert back["/two"] == "~a file of its own -> hard link to /one"
    assert back["/type"] == "~directory -> file, 5 B"
    assert pair.run("diff", "old", "old").out == ""


def test_what_is_neither_file_nor_directory(bench: Bench) -> None:
    made = "mkfifo /fifo /became; mknod /null c 1 3; ln -s fifo /link"
    bench.build(f"FROM busybox\nRUN echo > /became\nRUN rm /became; {made}\n")
    found = _files(bench, "build:last/1", "build:last/2")
    assert found.pop("/null", "+char device 1:3") == "+char device 1:3"  # not without root
    assert found == {"/became": "~file, 1 B -> fifo", "/fifo": "+fifo", "/link": "+symlink to fifo"}


def test_config(pair: Bench) -> None:
    assert _json(pair, "old", "new")["config"] == [
        {"field": "user", "key": "", "old": None, "new": "root"},
        {"field": "entrypoint", "key": "", "old": None, "new": ["/bin/sh", "-c"]},
        {"field": "cmd", "key": "", "old": ["sh"], "new": None},
        {"field": "env", "key": "A", "old": "1", "new": "2"},
        {"field": "env", "key": "B", "old": "2", "new": None},
        {"field": "env", "key": "C", "old": None, "new": "3"},
        {"field": "label", "key": "version", "old": "1", "new": "2"},
        {"field": "port", "key": "80/tcp", "old": "", "new": None},
        {"field": "port", "key": "81/udp", "old": None, "new": ""},
    ]
    lines = pair.run("diff", "--summary", "old", "new").out.splitlines()
    assert lines[:4] == ["config", "  + user: root", '  + entrypoint: ["/bin/sh", "-c"]', '  - cmd: ["sh"]']
    assert "  ~ env A: 1 -> 2" in lines
    assert lines[-1] == "config: 9 changed; files: 1 added, 4 removed, 6 changed: -1 B"


def test_names_and_ids(pair: Bench) -> None:
    whole = pair.run("diff", "old", "new").out
    image = pair.inspect("new")
    for word in ("new:latest", image["Id"], image["Id"][7:19], f"new@{image['Digest']}"):
        assert pair.run("diff", "old", word).out == whole


def test_forms(pair: Bench) -> None:
    whole = _json(pair, "old", "new")
    assert whole["differs"] is True
    assert whole["total"] == {"added": 1, "removed": 4, "changed": 6, "growth": -1}
    files = {each["path"]: each for each in whole["files"]}
    assert list(files) == sorted(files, key=lambda path: path.split("/"))
    assert files["/d/file"]["aspects"] == ["content"]
    assert (files["/d/file"]["old"]["size"], files["/d/file"]["new"]["size"]) == (2, 3)
    assert files["/two"]["old"]["hardlink"] == "/one"
    assert files["/same"]["new"]["mode"] == "0600"
    assert (files["/gone"]["change"], "new" in files["/gone"]) == ("removed", False)
    by_directory = pair.run("diff", "--stat", "--depth", "1", "old", "new").out.splitlines()
    assert "  /d  2 changed: +1 B" in by_directory
    assert "  /gone  2 removed: -2 B" in by_directory
    assert "  ~ /d/file" not in "\n".join(by_directory)
    assert _json(pair, "--stat", "old", "new")["directories"]["/gone/deep"] == {"added": 0, "removed": 1, "changed": 0, "growth": -2}
    assert _json(pair, "old", "old") == {
        "old": "old", "new": "old", "config": [], "files": [], "packages": [], "directories": {}, "differs": False,
        "total": {"added": 0, "removed": 0, "changed": 0, "growth": 0},
    }  # fmt: skip


def test_exit_code(pair: Bench) -> None:
    pair.run("diff", "--exit-code", "old", "new", code=1)
    pair.run("diff", "--exit-code", "old", "old", code=0)
    pair.run("diff", "--exit-code", "--path", "/d/sub", "old", "new", code=0)
    pair.run("diff", "old", "new", code=0)


def test_only_what_is_below_a_path(pair: Bench) -> None:
    assert set(_files(pair, "--path", "d", "old", "new")) == {"/d/file", "/d/link"}
    assert set(_files(pair, "--path", "/gone/deep", "--path", "/gone", "--path", "/same", "old", "new")) == {
        "/gone/", "/gone/deep/", "/gone/deep/er", "/same",
    }  # fmt: skip
    assert _json(pair, "--path", "/d", "old", "new")["config"] == []
    assert _files(pair, "--path", "/d/link/../file", "old", "new") == {"/d/file": "~content, 2 B -> 3 B"}


def test_texts(pair: Bench) -> None:
    assert pair.run("diff", "--text", "--path", "/d/file", "old", "new").out.splitlines() == [
        "files",
        "  ~ /d/file  (content, 2 B -> 3 B)",
        "      --- a/d/file",
        "      +++ b/d/file",
        "      @@ -1 +1 @@",
        "      -1",
        "      +12",
        "files: 1 changed: +1 B",
    ]
    assert "content" not in pair.run("diff", "--text", "--path", "/same", "old", "new").out
    assert _json(pair, "--text", "--path", "/gone/deep", "old", "new")["files"][1]["text"][-1] == "-1"


def test_binaries_and_names_that_are_odd(bench: Bench) -> None:
    bench.write({"b": b"\0\1", "long": "x\n" * 600_000, "\u00e4 \x1b[31m": "1\n", "end": "no end"})
    bench.build("FROM scratch\nCOPY . /\n", "-t", "one")
    bench.write({"b": b"\0\2", "long": "y\n" * 600_000, "\u00e4 \x1b[31m": "2\n", "end": "no end \u00fc\r\nx\n"})
    bench.build(None, "-t", "two")
    out = bench.run("diff", "--text", "one", "two").out
    assert "\x1b" not in out
    assert "binary files differ" in out
    assert "more than 1 MiB" in out
    assert "\\ No newline at end of file" in out
    assert "~ /\u00e4 \\x1b[31m" in out


def test_times_are_no_change_unless_asked_for(bench: Bench) -> None:
    bench.write({"file": "1"})
    for name, epoch in (("one", "1000000000"), ("two", "1000000001")):
        bench.build("FROM scratch\nCOPY file /\n", "-t", name, "--source-date-epoch", epoch)
    assert bench.run("diff", "one", "two").out == ""
    assert _files(bench, "--times", "--path", "/file", "one", "two") == {
        "/file": "~time 2001-09-09T01:46:40Z -> 2001-09-09T01:46:41Z",
    }


def _tar(*entries: tuple[str, bytes, dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data, headers in entries:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers, info.mode = len(data), headers, 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_attributes(bench: Bench) -> None:
    for name, value in (("one", "1"), ("two", "2")):
        headers = {"SCHILY.xattr.user.a": value, f"SCHILY.xattr.user.{name}": "x"}
        (bench.place / "rootfs.tar").write_bytes(_tar(("f", b"x", headers), ("g", b"x", {})))
        bench.run("import", bench.place / "rootfs.tar", name)
    assert _files(bench, "one", "two") == {"/f": "~attributes ~user.a, -user.one, +user.two"}
    assert _json(bench, "one", "two")["files"][0]["xattrs"] == {"user.a": ["31", "32"], "user.one": ["78", None], "user.two": [None, "78"]}


STATUS = """Package: curl
Status: install ok installed
Architecture: amd64
Version: 7.88-{curl}
Description: fetch
 more: lines

Package: gone
Status: deinstall ok config-files
Version: 1

"""
APK = "C:Q1x\nP:musl\nV:1.2.{musl}\nA:x86_64\n\nP:zlib\nV:1.3\n\n"


def test_packages(bench: Bench) -> None:
    site = "usr/lib/python3/dist-packages"
    bench.write({
        "1/var/lib/dpkg/status": STATUS.format(curl="1"),
        "1/lib/apk/db/installed": APK.format(musl="3"),
        f"1/{site}/Re_quests-2.0.dist-info/METADATA": "x",
        f"1/{site}/old-1.0-py3.11.egg-info/PKG-INFO": "x",
        f"1/{site}/same-1.0.dist-info/METADATA": "x",
        "2/var/lib/dpkg/status": STATUS.format(curl="2") + "Package: jq\nStatus: install ok installed\nVersion: 1.6\n",
        "2/lib/apk/db/installed": APK.format(musl="4").replace("zlib", "zstd"),
        f"2/{site}/re_quests-2.1.dist-info/METADATA": "x",
        f"2/{site}/same-1.0.dist-info/METADATA": "y",
    })  # fmt: skip
    for name in ("1", "2"):
        bench.build(f"FROM scratch\nCOPY {name} /\n", "-t", f"p:{name}")
    lines = bench.run("diff", "--summary", "p:1", "p:2").out.splitlines()
    assert lines[:-1] == [
        "packages",
        "  ~ dpkg curl 7.88-1 -> 7.88-2",
        "  + dpkg jq 1.6",
        "  ~ apk musl 1.2.3 -> 1.2.4",
        "  - apk zlib 1.3",
        "  + apk zstd 1.3",
        "  - python old 1.0",
        "  ~ python re-quests 2.0 -> 2.1",
    ]
    assert _json(bench, "p:1", "p:2")["packages"][0] == {"manager": "dpkg", "name": "curl", "old": "7.88-1", "new": "7.88-2"}
    assert _json(bench, "--path", "/var", "p:1", "p:2")["packages"] == []


def test_a_shared_base_is_not_read(bench: Bench) -> None:
    for name in ("one", "two"):
        bench.build(f"FROM busybox\nRUN mkdir /d && echo {name} > /d/file && echo 1 > /only-{name}\n", "-t", name)
    base = bench.root / "blobs" / bench.manifest("busybox:latest")["layers"][0]["digest"].replace(":", "/")
    base.write_bytes(b"no layer any more")
    assert list(_files(bench, "one", "two")) == ["/d/file", "/only-one", "/only-two"]
    base.unlink()
    assert list(_files(bench, "two", "one")) == ["/d/file", "/only-one", "/only-two"]


def test_a_shared_base_that_was_never_made_ready_is_not_read(bench: Bench) -> None:
    for name in ("one", "two"):
        anew = f"RUN rm -r /home && mkdir /home && echo 1 > /home/{name}\n"
        bench.build(f"FROM busybox\nRUN mkdir /d && echo {name} > /d/file && rm /etc/group\n{anew}", "-t", name)
    bench.run("save", "-o", bench.place / "both.tar", "one", "two", "busybox")
    fresh = Bench(bench.place / "fresh", bench.environ)
    fresh.context.mkdir(parents=True)
    fresh.run("load", bench.place / "both.tar")
    base = fresh.root / "blobs" / fresh.manifest("busybox:latest")["layers"][0]["digest"].replace(":", "/")
    whole = base.read_bytes()
    base.write_bytes(bytes(len(whole)))
    assert _files(fresh, "one", "two") == {"/d/file": "~content, 4 B", "/home/one": "-2 B", "/home/two": "+2 B"}
    assert fresh.run("diff", "--exit-code", "one", "one").out == ""
    # Whether the name that only one has is new, the base tells.
    fresh.run("diff", "busybox", "one", code=17)
    base.write_bytes(whole)
    assert _files(fresh, "busybox", "one") == {
        "/d/": "+", "/d/file": "+4 B", "/etc/group": f"-{len(GROUP)} B", "/home/ann/": "-", "/home/one": "+2 B",
    }  # fmt: skip
    fresh.assert_whole()


def test_more_layers_than_are_kept_apart(bench: Bench) -> None:
    steps = "".join(f"COPY f{number} /f{number}\n" for number in range(30))
    bench.write({f"f{number}": str(number) for number in range(30)})
    bench.build(f"FROM busybox\n{steps}", "-t", "one")
    bench.write({"f3": "changed", "f29": "changed"})
    bench.build(None, "-t", "two")
    bench.run("prune", "--all")
    assert list(_files(bench, "one", "two")) == ["/f29", "/f3"]
    bench.assert_whole()


def test_containers(bench: Bench) -> None:
    bench.run("run", "--name", "box", "-v", "/data", "busybox", "sh", "-c", "echo 1 > /new; rm /etc/group; rm -r /home; chmod 700 /var")
    found = {"/etc/group": f"-{len(GROUP)} B", "/home/": "-", "/home/ann/": "-", "/new": "+2 B", "/var/": "~mode 0755 -> 0700"}
    assert _files(bench, "container:box") == found
    assert _files(bench, "box") == found
    assert _files(bench, "busybox", "box") == found
    bench.run("run", "--name", "other", "busybox", "true")
    assert bench.run("diff", "--exit-code", "other").out == ""
    assert set(_files(bench, "other", "box")) == set(found)
    bench.run("rm", "box", "other")
    bench.assert_whole()


STEPS = """
FROM busybox AS made
RUN mkdir /out && echo {word} > /out/file
RUN true
FROM busybox
COPY --from=made /out /out
RUN echo 1 > /other && rm /etc/group
"""


def test_builds_and_steps(bench: Bench) -> None:
    bench.build(STEPS.format(word="one"))
    shown = [line.split() for line in bench.build(STEPS.format(word="more")).err.splitlines() if line.startswith("#") and "] " in line]
    builds = "build:last~1", "build:last"
    assert _files(bench, *builds) == {"/out/file": "~content, 4 B -> 5 B"}
    assert _files(bench, "build:last~1", "x") == _files(bench, *builds)
    (copy,) = (line[0][1:] for line in shown if "COPY" in line)
    (last,) = (line[0][1:] for line in shown if "/other" in line)
    assert _files(bench, f"build:last/{last}") == {"/etc/group": f"-{len(GROUP)} B", "/other": "+2 B"}
    assert _files(bench, f"build:last/{copy}") == {"/out/": "+", "/out/file": "+5 B"}
    assert _files(bench, f"build:last/{copy}", f"build:last/{last}") == _files(bench, f"build:last/{last}")
    assert _files(bench, f"build:last~1/{copy}", f"build:last/{copy}") == _files(bench, *builds)
    assert _files(bench, "busybox", "build:last/1") == _files(bench, "build:last/1") == {"/out/": "+", "/out/file": "+5 B"}
    assert bench.run("diff", "--exit-code", "build:last/2", "build:last/1").out == ""
    bench.build(None)
    assert _files(bench, "build:last~2", "build:last") == _files(bench, "build:last~2/1", "build:last/1")
    bench.build("FROM scratch\nCOPY Buildfile /\n")
    assert list(_files(bench, "build:last/1")) == ["/Buildfile"]


def test_builds_and_steps_that_are_not_there(bench: Bench) -> None:
    assert "the result of the build" in bench.run("diff", "build:last", "busybox", code=13).err
    bench.build("FROM busybox\nRUN echo 1 > /one\nRUN false\n", code=1)
    assert _files(bench, "build:last/1") == {"/one": "+2 B"}
    assert "has no result" in bench.run("diff", "busybox", "build:last", code=13).err
    assert "was failed" in bench.run("diff", "build:last/2", code=13).err
    for word in ("build:last/3", "build:zzz", "build:"):
        assert len(bench.run("diff", word, "busybox", code=13).errors) == 1, word
    for word in ("build:last/x", "build:last/"):
        assert "is not the number of a step" in bench.run("diff", word, "busybox", code=2).err


def test_builds_for_several_platforms(bench: Bench) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY ${{TARGETARCH}}{} /file\n"
    bench.write({"amd64": "1", "arm64": "22", "amd642": "333", "arm642": "4444"})
    bench.build(text.format(""), "--platform", "linux/amd64,linux/arm64", "-t", "one")
    bench.build(text.format("2"), "--platform", "linux/amd64,linux/arm64", "-t", "two")
    for words in (("one", "two"), ("build:last~1", "build:last")):
        assert _files(bench, "--platform", "linux/amd64", *words) == {"/file": "~content, 1 B -> 3 B"}
        assert _files(bench, "--platform", "linux/arm64", *words) == {"/file": "~content, 2 B -> 4 B"}
    assert len(bench.run("diff", "--platform", "linux/s390x", "build:last", "build:last~1", code=19).errors) == 1
    (found,) = json.loads(bench.run("blame", "--format", "json", "--platform", "linux/arm64", "build:last", "/file").out)
    assert (found["source"], found["place"]) == ("arm642", "Buildfile:3")


def test_a_failed_step(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo 1 > /one && echo 1 > /two\nRUN echo 2 > /one && rm /two && rm -r /home && mkdir /home && false\n"
    bench.build(text, code=1)
    wrote = {"/home/ann/": "-", "/one": "~content, 2 B", "/two": "-2 B"}
    assert _files(bench, "failed:last") == wrote
    assert _files(bench, "build:last/1", "failed:last") == wrote
    bench.build(text.replace(" && false", ""))
    assert bench.run("diff", "--exit-code", "failed:last", "build:last/2").out == ""
    assert len(bench.run("diff", "failed:zzz", code=13).errors) == 1
    bench.assert_whole()


def test_refused(pair: Bench) -> None:
    assert "there is no image nothing" in pair.run("diff", "old", "nothing", code=13).err
    assert "no such container" in pair.run("diff", "nothing", "old", code=13).err
    assert "container 'nothing'" in pair.run("diff", "container:nothing", code=13).err
    assert "name two" in pair.run("diff", "old", code=2).err
    assert "neither old nor new has /not/there" in pair.run("diff", "--path", "/not/there", "old", "new", code=13).err
    assert len(pair.run("diff", "old", "UPPER", code=19).errors) == 1
    assert len(pair.run("diff", "--platform", "linux/s390x", "old", "new", code=19).errors) == 1
    pair.run("diff", code=2)
    pair.run("diff", "--depth", "0", "old", "new", code=2)


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "one-id"])
def test_without_root(tmp_path: Path, ranged: bool) -> None:
    with visitor(tmp_path / "visitor", ranged) as bench:
        needs_namespaces(bench)
        (bench.place / "base.tar").write_bytes(base_tar())
        bench.give(bench.place / "base.tar")
        bench.run("import", bench.place / "base.tar", "busybox")
        bench.run("build", "-q", "-t", "one", "-f", "-", ".", stdin=b"FROM busybox\nRUN rm -r /home && mkdir /home && echo 1 > /home/one\n")
        assert _files(bench, "busybox", "one") == {"/home/ann/": "-", "/home/one": "+2 B"}
        assert _files(bench, "build:last/1") == {"/home/ann/": "-", "/home/one": "+2 B"}
        assert "RUN rm -r /home" in bench.run("bisect", "--test", "test -e /home/ann").out
        assert "2" in bench.run("blame", "one", "/home/one").out.splitlines()[1].split()

"""What RUN did to its root file system, as the tar of its layer says it; and that the same build gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from .harness import EPOCH, PATIENCE, Bench, copied, decompressed


def test_removals(bench: Bench) -> None:
    bench.build("""
FROM busybox
RUN mkdir -p /d/sub /gone/deep /kept && touch /d/a /d/sub/b /f /gone/deep/x /kept/y && ln -s kept /s
RUN rm -rf /d && mkdir /d && touch /d/new; rm /f; rm -rf /gone; rm /kept/y; rm /s && mkdir /s && touch /s/in; touch /tmp/t; rm /tmp/t
""")
    top = bench.top()
    assert {"d", "d/.wh..wh..opq", "d/new", ".wh.f", ".wh.gone", "kept", "kept/.wh.y", "s", "s/in"} <= set(top)
    assert not {"d/.wh.a", "tmp/.wh.t", "gone", ".wh.s"} & set(top)
    names = list(top)
    assert names.index("d/.wh..wh..opq") < names.index("d/new")
    assert all(entry.info.size == 0 for name, entry in top.items() if ".wh." in name)
    files = bench.files()
    assert {"d", "d/new", "kept", "s/in"} <= set(files)
    assert not {"d/a", "d/sub", "f", "gone", "gone/deep/x", "kept/y"} & set(files)


def test_kinds_of_files(bench: Bench) -> None:
    bench.build(r"""
FROM busybox
RUN mkdir /k && cd /k && echo data > file && ln file hard && ln -s file soft && ln -s /no/where broken && mkfifo pipe \
 && mknod null c 1 3 && mknod block b 7 0 && mkdir sticky setgid && chmod 1777 sticky && chmod 2775 setgid \
 && cp /bin/busybox su && chmod 4755 su \
 && chown -h ann soft && chown bob:staff file && touch -d @5 old && touch -d @4000000000 future && : > empty \
 && n=$(printf '%0200d' 1) && mkdir -p $n/$n && echo long > $n/$n/$n && printf x > "$(printf 'latin\351')" \
 && touch "$(printf 'new\nline')" ' blank ' 'wh.' '.wh' ./-dash
RUN ln /k/file /k/third
""")
    long = "0" * 199 + "1"
    layers = bench.layers()
    made, linked = layers[-2], layers[-1]
    assert made["k/hard"].info.linkname == "k/file"
    assert (made["k/file"].info.uid, made["k/file"].info.gid) == (1002, 50)
    assert (made["k/soft"].info.linkname, made["k/soft"].info.uid) == ("file", 1000)
    assert made["k/broken"].info.linkname == "/no/where"
    assert made["k/pipe"].info.isfifo()
    assert (made["k/null"].info.ischr(), made["k/null"].info.devmajor, made["k/null"].info.devminor) == (True, 1, 3)
    assert (made["k/block"].info.isblk(), made["k/block"].info.devmajor) == (True, 7)
    assert (made["k/sticky"].info.mode, made["k/setgid"].info.mode, made["k/su"].info.mode) == (0o1777, 0o2775, 0o4755)
    assert (made["k/old"].info.mtime, made["k/future"].info.mtime, made["k/file"].info.mtime) == (5, EPOCH, EPOCH)
    assert made[f"k/{long}/{long}/{long}"].data == b"long\n"
    assert os.fsencode("k/latin\udce9") in [os.fsencode(name) for name in made]
    assert {"k/new\nline", "k/ blank ", "k/wh.", "k/.wh", "k/-dash"} <= set(made)
    assert all(entry.info.uname == entry.info.gname == "" for entry in made.values())
    # The link to a file of the layer below carries its content: a layer never links into another.
    names = {"k/third", "k/file", "k/hard"}
    assert {entry.data for name, entry in linked.items() if name in names and not entry.info.islnk()} == {b"data\n"}
    bench.build('FROM x\nRUN [ "$(cat /k/third)" = data ] && [ "$(cat /k/hard)" = data ] && [ -p /k/pipe ]\n', "-t", "y")
    bench.assert_whole()


def test_nothing_but_the_change_is_in_a_layer(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN mkdir /d && touch /d/f /d/g\nRUN touch -d @1 /d/new && mv /etc/group /g && mv /g /etc/group\nRUN true\n")
    nothing, changed = bench.layers()[-1], bench.layers()[-2]
    assert set(nothing) <= {"."}
    assert {"d", "d/new"} <= set(changed)
    assert not {"d/f", "d/g", "etc/passwd", "etc/group", "bin"} & set(changed)


def test_capabilities_and_attributes(bench: Bench) -> None:
    # cap_net_raw+ep, as the kernel keeps it (vfs_cap_data, revision 2)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    bench.write({"ping": "#!", "plain": "x"})
    os.setxattr(bench.context / "ping", "security.capability", capability)
    os.setxattr(bench.context / "plain", "user.accident", b"1")
    bench.build("""
FROM busybox
COPY ping plain /a/
RUN mv /a/ping /moved
FROM busybox
COPY --from=0 /moved /c
COPY --from=0 /a /a2
""")
    files = bench.files()
    header = files["c"].info.pax_headers["SCHILY.xattr.security.capability"]
    assert header.encode("utf-8", "surrogateescape") == capability
    assert not any("xattr" in key for key in files["a2/plain"].info.pax_headers)
    bench.run("unpack", "x", bench.place / "out")
    assert os.getxattr(bench.place / "out/c", "security.capability") == capability


def test_big_and_sparse_files_take_little_memory(bench: Bench) -> None:
    bench.write({"Buildfile": """
FROM busybox AS big
RUN dd if=/dev/urandom of=/random bs=1M count=100 2> /dev/null && truncate -s 200M /sparse && cat /random /random > /double
FROM busybox
COPY --from=big /double /sparse /
"""})
    program = f"""
import resource, subprocess, sys
code = subprocess.run({bench.command("build", "--progress=plain", "-t", "x", ".")!r}).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=bench.context, env=bench.environ, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 150 * 1024
    assert max(descriptor["size"] for descriptor in bench.manifest()["layers"]) > 100 << 20
    bench.build('FROM x\nRUN [ $(stat -c %s /sparse) = 209715200 ] && [ $(stat -c %s /double) = 209715200 ]\n', "-t", "y")


DETERMINISTIC = """
FROM busybox AS a
RUN for i in 1 2 3 4 5 6 7 8; do mkdir -p /d$i; echo $i > /d$i/f; ln /d$i/f /d$i/g; done; rm -rf /d3; echo $SOURCE_DATE_EPOCH > /epoch
FROM busybox AS b
WORKDIR /w
COPY . .
RUN find . -type f | sort | xargs cat > /sum; chmod 600 /w/two; rm /w/one
FROM busybox
COPY --from=a / /a
COPY --from=b /w /sum /b/
ADD t.tar /t/
ENV X=1
"""


def test_one_digest_from_two_stores_and_two_contexts(bench: Bench, template: Bench, tmp_path: Path) -> None:
    other = copied(template, tmp_path / "elsewhere" / "deeper")
    for each in (bench, other):
        subprocess.run(["tar", "cf", each.context / "t.tar", "--mtime=@0", "--owner=0", "--group=0", "-C", "/etc", "hostname"], check=True)
    names = {"one": "1", "two": "2", "sub/three": "3", "link": "-> one"}
    bench.write(names)
    other.write(dict(reversed(names.items())))
    os.utime(other.context / "one", (1, 1))
    bench.build(DETERMINISTIC)
    other.build(DETERMINISTIC, "--parallel", "1")
    digest = bench.inspect()["Digest"]
    assert other.inspect()["Digest"] == digest
    assert set(bench.build(DETERMINISTIC).steps.values()) == {"CACHED"}
    assert bench.inspect()["Digest"] == digest
    assert set(bench.build(DETERMINISTIC, "--no-cache").steps.values()) == {"DONE"}
    assert bench.inspect()["Digest"] == digest


def test_the_store_is_an_image_layout_whose_digests_are_right(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo > /a\n", "--compression", "gzip")
    manifest = bench.manifest()
    assert manifest["layers"][-1]["mediaType"].endswith("+gzip")
    for descriptor, diff_id in zip(manifest["layers"], bench.image()["rootfs"]["diff_ids"], strict=True):
        data = bench.blob(descriptor["digest"])
        assert len(data) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
        assert "sha256:" + hashlib.sha256(decompressed(data)).hexdigest() == diff_id
    assert json.loads((bench.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_a_change_of_compression_keeps_the_layers(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo > /a\n"
    bench.build(text)
    diff_ids = bench.image()["rootfs"]["diff_ids"]
    bench.build(text, "--compression", "gzip")
    assert bench.image()["rootfs"]["diff_ids"] == diff_ids
    # The base's, too, which was imported here: other programs refuse a mixture.
    assert [layer["mediaType"].rpartition("+")[2] for layer in bench.manifest()["layers"]] == ["gzip", "gzip"]
    bench.assert_whole()

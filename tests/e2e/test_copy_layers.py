"""COPY writes a layer at once where layers can be mounted as they are, and a directory elsewhere: nobody can tell which it was."""

from __future__ import annotations

import os
import random

from .harness import Bench

DIRECTORIES = {"IMGBUILD_DISABLE": "erofs"}

TEXT = """
FROM busybox AS one
COPY tree /tree
RUN rm -r /tree/d1 && echo more >> /tree/d2/f3 && ln /tree/d3/f1 /tree/linked && mkfifo -m 600 /tree/fifo
FROM busybox
COPY --chown=7:8 --chmod=0640 tree/d1 /etc/
COPY --link tree/d2 /linked/deep/
COPY --from=one --exclude=**/f7 /tree /copied
COPY tree/large tree/d4/f2 /
COPY tree /tree
COPY tree /tree
RUN find /linked /copied /tree /large /f2 /etc/f* ! -type d -exec stat -c '%n %F %a %u:%g %s %Y %h' {} + | sort > /seen && \
    find /linked /copied /tree -type d -exec stat -c '%n %a %u:%g %Y' {} + | sort >> /seen && \
    find /copied /tree /large -type f -exec md5sum {} + | sort >> /seen
"""


def test_both_ways_give_one_image(bench: Bench) -> None:
    source = random.Random(5)
    files: dict[str, str | bytes] = {f"tree/d{d}/f{f}": source.randbytes(source.randint(0, 9000)) for d in range(5) for f in range(9)}
    bench.write(files | {"tree/large": source.randbytes(3 << 20), "tree/d0/" + "long" * 50: "name"})
    os.symlink("../d1", bench.context / "tree/d0/link")
    (bench.context / "tree/d1/f1").chmod(0o4755)
    bench.build(TEXT)
    straight, seen = bench.manifest(), bench.top()["seen"].data
    bench.build(TEXT, "--no-cache", environ=DIRECTORIES)
    assert bench.manifest() == straight
    assert bench.top()["seen"].data == seen


def test_a_changed_file_is_all_that_differs(bench: Bench) -> None:
    text = "FROM busybox\nCOPY . /x\n"
    bench.write({f"d{d}/f{f}": f"{d} {f}" for d in range(9) for f in range(9)})
    bench.build(text)
    before = bench.top()
    bench.write({"d4/f4": "edited"})
    bench.build(text)
    after = bench.top()
    changed = {name for name in before | after if name not in after or before[name].data != after[name].data}
    assert changed == {"x/d4/f4", "x/Buildfile"} - ({"x/Buildfile"} if before["x/Buildfile"].data == after["x/Buildfile"].data else set())
    assert after["x/d4/f4"].data == b"edited"


def test_a_container_sees_what_was_copied_after_the_store_lost_it(bench: Bench) -> None:
    bench.write({"a": "content"})
    bench.build("FROM busybox\nCOPY --chown=5:6 a /d/a\nCMD stat -c '%u:%g %a' /d/a; cat /d/a\n")
    shown = bench.run("run", "--rm", "x").out
    assert shown.endswith("content") and shown.startswith("5:6 644")
    bench.run("fsck")
    for snapshot in (bench.root / "snapshots").iterdir():
        snapshot.rename(bench.place / snapshot.name)
    bench.run("fsck", "--repair", code=None)
    assert bench.run("run", "--rm", "x", environ=DIRECTORIES).out == shown
    assert bench.run("run", "--rm", "x").out == shown

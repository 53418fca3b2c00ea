"""COPY of so many small files that several processes read them, and that they wait in a file: the same image as by any other way."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.context.test_local import NET_RAW

from .harness import Bench, Entry, copied

FILES = 2600
SIZES = (0, 1, 511, 512, 513, 4096, 65_535, 65_536, 65_537)

TEXT = """
FROM busybox AS one
COPY many /one
FROM busybox
COPY --chmod=640 many /two/below
COPY many/d3 /three
COPY --from=one /one/d1 /four
"""

CAPABILITY = "SCHILY.xattr.security.capability"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _many(context: Path) -> dict[str, bytes]:
    """Files of all sizes that matter and any others, in directories of any number of them; one of them has a capability."""
    source = random.Random(7)
    contents = {}
    for number in range(FILES):
        name = f"d{number % 7}/{'e/' * (number % 3)}f{number}" if number % 100 else f"top{number}"
        size = SIZES[number] if number < len(SIZES) else source.randrange(3000)
        contents[name] = source.randbytes(size)
    contents["d1/" + "long" * 40] = b"its name is no header's"
    for name, content in contents.items():
        path = context / "many" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (context / "many/d2/link").symlink_to("f9")
    os.setxattr(context / "many/d3/e/f10", "security.capability", NET_RAW)
    return contents


def test_whatever_way_it_goes(bench: Bench, tmp_path: Path) -> None:
    contents = _many(bench.context)
    bench.write({"Buildfile": TEXT})
    ways = {"several processes": [], "one process": ["taskset", "-c", str(min(os.sched_getaffinity(0)))], "a directory": []}
    digests = set()
    for name, words in ways.items():
        other = copied(bench, tmp_path / name)
        disabled = "erofs" if name == "a directory" else ""
        command = [*words, *other.command("build", "-q", "-t", "x", bench.context)]
        done = subprocess.run(command, env={**other.environ, "IMGBUILD_DISABLE": disabled}, capture_output=True, check=True, text=True)
        assert done.stderr == ""
        digests.add(done.stdout)
        other.assert_whole()
    assert len(digests) == 1
    two, three, four = [_files(layer) for layer in other.layers()[-3:]]
    assert {name: entry.data for name, entry in two.items()} == {f"two/below/{name}": data for name, data in contents.items()}
    assert {entry.info.mode for entry in two.values()} == {0o640}
    for layer, source, target in ((three, "d3", "three"), (four, "d1", "four")):
        below = {name: data for name, data in contents.items() if name.startswith(f"{source}/")}
        assert {name: entry.data for name, entry in layer.items()} == {f"{target}{name[2:]}": data for name, data in below.items()}
    capable = [name for layer in (two, three, four) for name, entry in layer.items() if CAPABILITY in entry.info.pax_headers]
    assert capable == ["two/below/d3/e/f10", "three/e/f10"]


def _files(layer: dict[str, Entry]) -> dict[str, Entry]:
    return {name: entry for name, entry in layer.items() if entry.info.isreg()}

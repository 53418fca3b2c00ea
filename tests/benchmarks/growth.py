"""The same work at three sizes: whether it grows as its input does. Imgbuild alone; CPU seconds, which a busy machine disturbs least."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import fixtures, tools
from benchmarks.measure import Command, Launcher, Sample
from benchmarks.results import Growth

_TIMES = 7
_MEMORY = 1 << 30


@dataclass(frozen=True)
class Kind:
    """What grows; `prepare` makes all that is not timed, and gives the command that is."""

    name: str
    sizes: tuple[int, ...]
    prepare: Callable[[tools.Imgbuild, Path, int], Command]
    times: int = _TIMES


def growths(
    launcher: Launcher, tool: tools.Imgbuild, directory: Path, kinds: Sequence[Kind], *, only: str, say: Callable[[str], None]
) -> Iterator[Growth]:
    """Measure one kind of growth after another."""
    directory.mkdir(exist_ok=True)
    for kind in [kind for kind in kinds if re.search(only, kind.name)]:
        samples: dict[int, list[Sample]] = {size: [] for size in kind.sizes}
        for number in range(kind.times):
            for size in kind.sizes:
                place = directory / f"{size}-{number}"
                command = kind.prepare(tool, place, size)
                sample = launcher.run([command], tool.account, directory / "log", memory=_MEMORY)
                samples[size].append(sample)
                say(f"{kind.name}: {size:,}: {_cost(sample):.2f} s")
                shutil.rmtree(place, ignore_errors=True)
        seconds = {size: statistics.median(map(_cost, of)) for size, of in samples.items()}
        yield Growth(kind.name, seconds, {size: max(sample.peak for sample in of) for size, of in samples.items()})


def _cost(sample: Sample) -> float:
    return sample.seconds if sample.cpu is None else sample.cpu


def _build(tool: tools.Imgbuild, place: Path, buildfile: str, tag: str = "bench-growth") -> Command:
    place.mkdir(exist_ok=True)
    (place / "Buildfile").write_text(buildfile)
    return tool.build(place / "Buildfile", place, tag)[0]


def _steps(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    return _build(tool, place, "FROM busybox\n" + "".join(f"RUN echo {number} > /f{number}\n" for number in range(size)))


def _layers(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    place.mkdir()
    for number in range(size):
        (place / f"f{number}").write_text(f"{number}\n")
    lines = "".join(f"COPY f{number} /d{number % 10}/f{number}\n" for number in range(size - 1))
    tool.do(*_build(tool, place, "FROM busybox\n" + lines).argv)
    return tool.run("bench-growth", "true")[0]


def _stages(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    lines = ["FROM busybox AS s0\n"]
    lines += [f"FROM s{number // 2} AS s{number + 1}\nENV V{number}=1\nWORKDIR /w{number % 7}\n" for number in range(size - 1)]
    last = "FROM busybox\n" + "".join(f"COPY --from=s{number} /etc/passwd /p{number % 50}\n" for number in range(0, size, 10))
    command = _build(tool, place, "".join(lines) + last)
    tool.do(*command.argv)
    return command


def _images(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    tool.do(*_build(tool, place, "FROM busybox\nRUN true\n").argv)
    _name_often(tool, size)
    return _build(tool, place, "FROM busybox\nRUN true\n")


def _name_often(tool: tools.Imgbuild, count: int) -> None:
    """So many images, each of its own manifest and name, written as any tool may write to an OCI layout: the store is one."""
    store = Path(tool.environment()["IMGBUILD_ROOT"])
    index = json.loads((store / "index.json").read_text())
    first = next(entry for entry in index["manifests"] if "bench-growth" in json.dumps(entry))
    manifest = json.loads(_blob(store, first["digest"]).read_bytes())
    for number in range(count):
        data = json.dumps({**manifest, "annotations": {"number": str(number)}}).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        _blob(store, digest).write_bytes(data)
        named = {key: value.replace("bench-growth", f"many{number}") for key, value in first["annotations"].items()}
        index["manifests"].append({**first, "digest": digest, "size": len(data), "annotations": named})
    (store / "index.json").write_text(json.dumps(index))


def _blob(store: Path, digest: str) -> Path:
    return store / "blobs" / digest.replace(":", "/")


def _files(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    fixtures.small_files(place / "src", size)
    return _build(tool, place, "FROM busybox\nCOPY src /src\n")


def _variables(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    lines = "".join(f"ENV NAME{number}=value{number}\n" for number in range(size))
    command = _build(tool, place, f"FROM busybox\n{lines}RUN true\n")
    tool.do(*command.argv)
    return command


def _gigabytes(tool: tools.Imgbuild, place: Path, size: int) -> Command:
    tool.fresh()
    place.mkdir()
    (place / "seed").write_bytes(random.Random(1).randbytes(1 << 24))
    script = f"i=0; while [ $i -lt {size * 64} ]; do cat /seed; i=$((i+1)); done > /big"
    return _build(tool, place, f"FROM busybox\nCOPY seed /seed\nRUN {script}\n")


KINDS = (
    Kind("RUN steps, cold", (50, 100, 200), _steps),
    Kind("layers of an image, first run", (32, 64, 127), _layers),
    Kind("stages of a Buildfile, cached", (250, 500, 1000), _stages),
    Kind("images in the store, cached build", (1250, 2500, 5000), _images),
    Kind("COPY of files, cold", (25_000, 50_000, 100_000), _files),
    Kind("lines of ENV, cached", (2000, 4000, 8000), _variables),
)
BIG = (Kind("layer of GiB, cold", (2, 5, 10), _gigabytes, times=1),)
"""They need 50 GB of disk."""

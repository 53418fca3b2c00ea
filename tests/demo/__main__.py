"""`make demo`: builds the examples from bases made here, runs them, pushes them, and runs them again from an empty store.

Everything is kept below .demo/ of the work tree; what is started is ended, and the stores are removed, whatever happens.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType

from demo import mirror, rootfs
from demo.cli import CommandFailed, Imgbuild
from demo.examples import ALL, BuildOptions, Example, build_options
from demo.machine import MachineError, is_root

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / ".demo"


@dataclass(slots=True)
class Row:
    """What is told of one example: its digest, the size of its layers in bytes, and how many seconds everything took."""

    example: Example
    digest: str = ""
    size: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> int:
    """The demo; its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            rows = _demo(stack)
            _title("Cleaning up")
        _table(rows)
    except (CommandFailed, AssertionError, MachineError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; what was started has been ended", file=sys.stderr)
        return 130
    took = time.monotonic() - started
    print(f"\nAll {len(rows)} examples were built, run, pushed, pulled into an empty store and run again, in {took:.0f} s.")
    return 0


def _interrupted(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)  # cleaning up takes a moment, and is not to be interrupted
    raise KeyboardInterrupt


def _demo(stack: ExitStack) -> list[Row]:
    OWN.mkdir(exist_ok=True)
    place = Path(mkdtemp(prefix="run-", dir=OWN))
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    imgbuild = Imgbuild((str(Path(sys.executable).with_name("imgbuild")),), place / "store", place / "imgbuild.yaml", place / "home")
    imgbuild.home.mkdir()
    imgbuild.settings.write_text("{}\n", encoding="utf-8")

    _title("Base images from this machine's packages")
    bases = [rootfs.busybox(OWN / "bases", _say), rootfs.debian(OWN / "bases", _say)]
    with _removed(imgbuild.at(place / "seeding")) as seeding:
        mirror.seed(seeding, place / "mirror", bases, _say)

    _title("A registry that mirrors the default one, and one to push to")
    url = stack.enter_context(mirror.registry(place / "mirror", "--read-only"))
    target = stack.enter_context(mirror.registry(place / "pushed"))
    mirror.write_settings(imgbuild.settings, url)
    _say(f"{url} mirrors docker.io, {target} takes what is pushed")
    _say(imgbuild.settings.read_text(encoding="utf-8").rstrip())
    options = stack.enter_context(build_options(os.environ))

    rows = [Row(example) for example in ALL]
    first = stack.enter_context(_removed(imgbuild))
    for row in rows:
        _title(f"Example {row.example.name}: build, check, push")
        _build(first, row, options)
        _push(first, row, target)
    second = stack.enter_context(_removed(imgbuild.at(place / "empty")))
    for row in rows:
        _title(f"Example {row.example.name}: pull into an empty store and check again")
        _pull(second, row, target)
    for store in (first, second):
        _command(store, "fsck")
    return rows


def _build(imgbuild: Imgbuild, row: Row, options: BuildOptions) -> None:
    example = row.example
    arguments = (*options.of(example), str(example.directory.relative_to(ROOT)))
    row.seconds["build"] = _command(imgbuild, "build", "-t", example.name, *arguments)
    row.seconds["rebuild"] = _command(imgbuild, "build", "-t", example.name, *arguments)
    for target in example.targets:
        _command(imgbuild, "build", "--target", target, "-t", f"{example.name}-{target}", *arguments)
    row.digest, row.size = _inspected(imgbuild, example.name)
    row.seconds["run"] = _checked(imgbuild, example, example.name)


def _push(imgbuild: Imgbuild, row: Row, target: str) -> None:
    row.seconds["push"] = _command(imgbuild, "push", "--progress", "quiet", row.example.name, f"{mirror.host(target)}/{row.example.name}")


def _pull(imgbuild: Imgbuild, row: Row, target: str) -> None:
    name = f"{mirror.host(target)}/{row.example.name}"
    row.seconds["pull"] = _command(imgbuild, "pull", "--progress", "quiet", name)
    digest, _ = _inspected(imgbuild, name)
    if digest != row.digest:
        raise AssertionError(f"{name} was pushed as {row.digest} and pulled as {digest}")
    _checked(imgbuild, row.example, name)


def _inspected(imgbuild: Imgbuild, image: str) -> tuple[str, int]:
    """The digest of an image's manifest, and the size of its layers as they are sent."""
    (image_json,) = json.loads(imgbuild("inspect", image).stdout)
    digest = str(image_json["Digest"])
    manifest = json.loads((imgbuild.store / "blobs" / digest.replace(":", "/")).read_bytes())
    return digest, sum(layer["size"] for layer in manifest["layers"])


def _command(imgbuild: Imgbuild, *arguments: str) -> float:
    """Run and show a command; the seconds it took."""
    shown = ["..." if word.startswith("id=") or "proxy=" in word else word for word in arguments]
    print(f"    $ imgbuild {' '.join(shown)}", end="", flush=True)
    return _timed(lambda: imgbuild(*arguments, cwd=ROOT))


def _checked(imgbuild: Imgbuild, example: Example, image: str) -> float:
    print(f"    $ imgbuild run {image}", end="", flush=True)
    seen = ""

    def check() -> None:
        nonlocal seen
        seen = example.check(imgbuild, image)

    seconds = _timed(check)
    _say(f"  {seen}")
    return seconds


def _timed(act: Callable[[], object]) -> float:
    started = time.monotonic()
    try:
        act()
    except BaseException:
        print()
        raise
    seconds = time.monotonic() - started
    print(f"    {seconds:.2f} s")
    return seconds


@contextmanager
def _removed(imgbuild: Imgbuild) -> Iterator[Imgbuild]:
    """Removes the containers and the store of `imgbuild` at the end."""
    try:
        yield imgbuild
    finally:
        if imgbuild.store.exists():
            containers = imgbuild("ps", "-aq", expect=None).stdout.split()
            if containers:
                imgbuild("rm", "-f", *containers, expect=None)
            if not is_root():
                # Files of a user namespace's other users can only be removed from inside it.
                names = [row["Digest"] for row in json.loads(imgbuild("images", "--format", "json").stdout)]
                imgbuild("rmi", "-f", *names, expect=None)
                imgbuild("prune", "--all", expect=None)
            shutil.rmtree(imgbuild.store, ignore_errors=True)


def _title(text: str) -> None:
    print(f"\n==> {text}", flush=True)


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"    {line}", flush=True)


def _table(rows: list[Row]) -> None:
    columns = ("build", "rebuild", "run", "push", "pull")
    print(f"\n{'EXAMPLE':<14}{'DIGEST':<22}{'SIZE':>10}" + "".join(f"{name.upper():>10}" for name in columns))
    for row in rows:
        times = "".join(f"{row.seconds[name]:>8.2f} s" for name in columns)
        print(f"{row.example.name:<14}{row.digest[:19]:<22}{row.size / 1e6:>7.1f} MB{times}")


if __name__ == "__main__":
    sys.exit(main())

"""Times the main jobs as whole processes, interleaved with peers that are installed, and prints a table of medians and ratios.

    python tests/benchmarks/bench.py [--rounds N] [--store DIR]

The store is on a file system of its own (XFS on a loop device, where this is root and mkfs.xfs is there; else a temporary
directory, and the table says so): ext4 with discard makes creation slow for minutes after a mass delete. Nothing here is a test:
the figures of one run on a busy machine mean little, the ratios more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

STEPS = 20
BIG = 1 << 30
LOOP_SIZE = 8 << 30


@dataclass
class Job:
    """A command to be timed: `prepare` is run before each round, untimed."""

    name: str
    tool: str
    command: list[str]
    prepare: Callable[[], None] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def once(self) -> None:
        self.prepare()
        log = Path(tempfile.gettempdir()) / f"imgbuild-bench-{os.getpid()}.log"
        with log.open("wb") as output:
            started = time.perf_counter()
            environment = os.environ | self.environment
            process = subprocess.Popen(self.command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{self.name} by {self.tool} failed:\n{log.read_text(errors='replace')}")
        log.unlink()
        self.times.append(seconds)
        self.peaks.append(usage.ru_maxrss * 1024)


def busybox_rootfs(directory: Path) -> Path:
    """A root file system of the machine's own static busybox, as a tar."""
    busybox = shutil.which("busybox") or sys.exit("busybox is not installed: apt-get install busybox-static")
    rootfs = directory / "rootfs"
    for name in ("bin", "etc", "tmp", "root"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(busybox, rootfs / "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        with contextlib.suppress(FileExistsError):
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    tar = directory / "busybox.tar"
    subprocess.run(["tar", "-C", str(rootfs), "--owner=0", "--group=0", "-cf", str(tar), "."], check=True)
    return tar


def unmount_below(directory: Path) -> None:
    """Unmount what peers leave in their stores, the last mounted first: one may be mounted on another."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        places = [line.split()[1] for line in file]
    for place in reversed([place for place in places if place.startswith(f"{directory}/")]):
        subprocess.run(["umount", "--lazy", place], check=False)


@contextlib.contextmanager
def workspace(chosen: str | None) -> Iterator[tuple[Path, str]]:
    """A directory for stores and contexts, and what it is on."""
    with tempfile.TemporaryDirectory(prefix="imgbuild-bench-", dir=chosen, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None or chosen:
            try:
                yield directory, "a temporary directory"
            finally:
                unmount_below(directory)
            return
        image, mounted = directory / "disk", directory / "mnt"
        with image.open("wb") as file:
            file.truncate(LOOP_SIZE)
        mounted.mkdir()
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
        try:
            yield mounted, "XFS on a loop device"
        finally:
            unmount_below(mounted)
            subprocess.run(["umount", str(mounted)], check=True)


def imgbuild_jobs(directory: Path, tar: Path, files: Path, context: Path) -> list[Job]:
    command = [sys.executable, "-m", "imgbuild"]
    store = {"IMGBUILD_ROOT": str(directory / "store")}
    seed = directory / "seed"
    importing = [*command, "import", str(tar), "busybox"]
    subprocess.run(importing, env=os.environ | {"IMGBUILD_ROOT": str(seed)}, check=True, stdout=subprocess.DEVNULL)

    def fresh() -> None:
        shutil.rmtree(directory / "store", ignore_errors=True)
        shutil.copytree(seed, directory / "store", symlinks=True)

    def build(name: str) -> list[str]:
        return [*command, "build", "-q", "-f", str(files / name), str(context)]

    return [
        Job("one RUN, cold", "imgbuild", build("one"), fresh, store),
        Job(f"{STEPS} RUN, cold", "imgbuild", build("many"), fresh, store),
        Job(f"{STEPS} RUN, cached", "imgbuild", build("many"), environment=store),
        Job("1 GiB file, cold", "imgbuild", build("big"), environment=store),
        Job("run --rm true", "imgbuild", [*command, "run", "--rm", "busybox", "true"], environment=store),
    ]


def buildah_jobs(directory: Path, tar: Path, files: Path, context: Path) -> list[Job]:
    """Debian's buildah and podman on a store of their own."""
    if shutil.which("buildah") is None or shutil.which("podman") is None:
        return []
    places = ["--root", str(directory / "containers"), "--runroot", str(directory / "run"), "--storage-driver", "overlay"]
    # crun does not take a hybrid of cgroup v1 and v2; runc takes all three.
    runtime = ["--runtime", path] if (path := shutil.which("runc")) else []
    # Its own defaults may be more than this machine allows.
    limits = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]
    podman = ["podman", *places, *runtime, "--cgroup-manager", "cgroupfs"]
    subprocess.run([*podman, "import", "-q", str(tar), "docker.io/library/busybox:latest"], check=True, stdout=subprocess.DEVNULL)

    def build(name: str, *more: str) -> list[str]:
        return ["buildah", *places, "bud", "-q", *runtime, "--layers", "--network", "host", *more, "-f", str(files / name), str(context)]

    return [
        Job("one RUN, cold", "buildah", build("one", "--no-cache")),
        Job(f"{STEPS} RUN, cold", "buildah", build("many", "--no-cache")),
        Job(f"{STEPS} RUN, cached", "buildah", build("many")),
        Job("run --rm true", "podman", [*podman, "run", "--rm", *limits, "--network", "host", "busybox", "true"]),
    ]


def table(jobs: list[Job]) -> str:
    """Medians, peak memory, and the ratio to the fastest peer in the same rounds."""
    lines = [f"{'job':<18}{'tool':<10}{'median s':>10}{'min s':>9}{'max s':>9}{'peak MB':>9}{'ratio':>8}"]
    for job in jobs:
        peers = [other for other in jobs if other.name == job.name and other.tool != "imgbuild"]
        best = min((statistics.median(peer.times) for peer in peers), default=None)
        median = statistics.median(job.times)
        ratio = f"{median / best:8.2f}" if best and job.tool == "imgbuild" else " " * 8
        peak = max(job.peaks) / 1e6
        lines.append(f"{job.name:<18}{job.tool:<10}{median:>10.3f}{min(job.times):>9.3f}{max(job.times):>9.3f}{peak:>9.0f}{ratio}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", help="put the stores below this directory")
    options = parser.parse_args()
    with workspace(options.store) as (directory, place):
        files, context = directory / "files", directory / "context"
        files.mkdir()
        context.mkdir()
        (files / "one").write_text("FROM busybox\nRUN echo 1 > /f1\n")
        (files / "many").write_text("FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(STEPS)))
        (files / "big").write_text(f"FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count={BIG >> 20} && echo {time.time()}\n")
        tar = busybox_rootfs(directory)
        jobs = imgbuild_jobs(directory, tar, files, context) + buildah_jobs(directory, tar, files, context)
        for number in range(options.rounds):
            for job in jobs:
                if "1 GiB" not in job.name or number == 0:
                    job.once()
        machine = f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} CPUs"
        print(f"{machine}, store on {place}, {options.rounds} rounds, interleaved\n")
        print(table(jobs))
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"\nall commands together: {children.ru_utime:.1f} s user, {children.ru_stime:.1f} s system")


if __name__ == "__main__":
    main()

"""What all tests share: the rule for skips, and, for tests of the whole, a mirror with base images, a store, and a look at what is left.

In CI (``$CI`` is set) a skip whose reason is not listed here is a failure: a test that can't run there must say which feature of the
kernel it needs.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from demo import mirror, rootfs
from demo.cli import DEADLINE, Imgbuild
from demo.examples import Bases, build_options

ALLOWED_SKIPS = (
    r"needs file-backed EROFS",
    r"needs control groups",
    r"needs cgroup v2",
    r"needs cgroup v1",
    r"needs a device that sandboxes do not have",
    r"needs overlayfs in a user namespace",
    r"needs a user namespace for an unprivileged user",
    r"needs clone3",
    r"needs the new mount API",
    r"needs binfmt_misc in a user namespace",
    r"needs time namespaces",
    r"needs kernel\.ns_last_pid",
    r"needs another machine than arm64",
    r"BuildKit's parser is only built for x86_64",
)
"""Reasons, as regular expressions that match their beginning."""
DISABLED = frozenset(filter(None, os.environ.get("IMGBUILD_DISABLE", "").split(",")))
"""Fast paths that all tests go without (`make fallbacks`): what needs just these is skipped."""

ROOT = Path(__file__).resolve().parents[1]


# Signals


def pytest_configure() -> None:
    """The same tests, whoever starts them. Signals do what they do for who types a command: what a job in the background or nohup
    ignores, its children ignore too. CI says the same of a commit each time; developers look further with each run."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
    if os.environ.get("CI"):
        hypothesis.settings.load_profile("ci")
    # What a command does of itself: tests of parts of it go without the same fast paths.
    importlib.import_module("imgbuild.linux.features").probe.__defaults__ = (DISABLED,)


# Skips


def _skips(config: pytest.Config) -> list[tuple[str, bool]]:
    """Reason of each skip so far, and whether it is allowed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter is not None else []
    reasons = [report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr) for report in reports]
    texts = [reason.removeprefix("Skipped: ") for reason in reasons]
    return [(text, any(re.match(allowed, text) for allowed in ALLOWED_SKIPS) or text.removeprefix("needs ") in DISABLED) for text in texts]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a session with an unlisted skip into a failed one, in CI."""
    if os.environ.get("CI") and exitstatus == pytest.ExitCode.OK and any(not allowed for _, allowed in _skips(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the list."""
    terminalreporter.section("skips")
    terminalreporter.line("allowed, as they name what a kernel lacks: " + "; ".join(ALLOWED_SKIPS))
    for text, allowed in sorted(set(_skips(config))):
        verdict = "allowed" if allowed else "NOT ALLOWED: fails in CI"
        terminalreporter.line(f"{verdict}: {text}")


# The whole


@pytest.fixture(scope="session", autouse=True)
def _passable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let other users pass through (not look into) the directories above `tmp_path`: some tests become one. With workers there is one
    more of these directories than without."""
    directory = tmp_path_factory.getbasetemp()
    for path in (directory, *directory.parents):
        if path.stat().st_uid == os.geteuid() and path.name.startswith(("pytest-", "popen-")):
            path.chmod(path.stat().st_mode | 0o011)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    """Base images of this machine's own packages. They are made once; each worker serves them by a process of its own."""
    own = tmp_path_factory.mktemp("bases")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    seeded = shared / "mirror"
    with (shared / "mirror.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not seeded.exists():
            cache = ROOT / ".demo" / "bases"
            made = [rootfs.busybox(cache, print), rootfs.debian(cache, print)]
            (own / "none.yaml").write_text("{}\n", encoding="utf-8")
            mirror.seed(_imgbuild(own, own / "none.yaml"), own / "mirror", made, print)
            (own / "mirror").rename(seeded)
    with mirror.registry(seeded, "--read-only") as url, build_options(os.environ) as options:
        mirror.write_settings(own / "imgbuild.yaml", url)
        yield Bases(url, own / "imgbuild.yaml", options)


def _imgbuild(place: Path, settings: Path) -> Imgbuild:
    (place / "home").mkdir(exist_ok=True)
    path = ("PYTHONPATH", str(ROOT))
    return Imgbuild((sys.executable, "-m", "imgbuild"), place / "store", settings, place / "home", (path,))


@pytest.fixture
def imgbuild(bases: Bases, tmp_path: Path) -> Iterator[Imgbuild]:
    """The command line with an empty store, and bases to pull. Containers that a test leaves are removed."""
    command = _imgbuild(tmp_path, bases.settings)
    yield command
    if command.store.exists():
        left = command("ps", "-aq", expect=None).stdout.split()
        if left:
            command("rm", "-f", *left)
        shutil.rmtree(command.store)


@pytest.fixture
def store_root(imgbuild: Imgbuild) -> Path:
    """Where the store of `imgbuild` is."""
    return imgbuild.store


@pytest.fixture
def no_leftovers(store_root: Path) -> Iterator[None]:
    """Fails the test if it leaves a mount, a process or a control group behind."""
    with nothing_left(store_root):
        yield


@contextmanager
def nothing_left(store: Path) -> Iterator[None]:
    """Compare what there is in the end with what there was. A process that was killed may take a moment to be gone."""
    before = _mounts(), _groups()
    yield
    deadline = time.monotonic() + DEADLINE
    while left := [*(_mounts() - before[0]), *(_orphaned(_groups() - before[1])), *_processes(store)]:
        assert time.monotonic() < deadline, f"left behind: {left}"


def _mounts() -> set[str]:
    return {line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()}


def _groups() -> set[str]:
    """os.walk, as it does not mind that what it finds is removed by a test beside this one."""
    found = os.walk("/sys/fs/cgroup")
    return {f"{place}/{name}" for place, directories, _ in found for name in directories if name.startswith("imgbuild-")}


def _orphaned(groups: set[str]) -> list[str]:
    """Those whose owner is gone: others may belong to a test that runs beside this one."""
    owned = {path: re.match(r"imgbuild-(\d+)-", Path(path).name) for path in groups}
    return [path for path, owner in owned.items() if owner is None or not Path("/proc", owner[1]).exists()]


def _processes(store: Path) -> list[str]:
    """Processes that have to do with this store: by their command line, their environment, or a mount of it."""
    mark = str(store).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes() + (process / "mountinfo").read_bytes()
        except OSError:
            continue
        if mark in seen:
            found.append(f"process {process.name}: {(process / 'cmdline').read_bytes()!r}")
    return found

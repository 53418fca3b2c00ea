"""Which packages changed: from the databases of dpkg and apk, and from the directories that Python's installers leave. Pure.

Source: deb822(5) and dpkg-query(1) for ``status``; apk-tools' installed database; PEP 376 for ``NAME-VERSION.dist-info``.
"""

from __future__ import annotations

from imgbuild.hints import Iterable, Iterator
from imgbuild.insight.compare import Change, Entry
from imgbuild.light import re
from imgbuild.values import dataclass

DPKG_STATUS = "/var/lib/dpkg/status"
DPKG_DIRECTORY = "/var/lib/dpkg/status.d"
"""What images without dpkg itself have: a file for each package."""
APK_INSTALLED = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")

_PYTHON = re.compile(r"/(?:site|dist)-packages/([^/]+?)-(\d[^/-]*)(?:-py[\d.]+)?\.(?:dist|egg)-info")

Packages = dict[str, str]
"""Versions by name; a name that several architectures have is followed by its own."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package; None for the version where it is not installed."""

    manager: str
    name: str
    old: str | None
    new: str | None


def package_changes(manager: str, old: Packages, new: Packages) -> Iterator[PackageChange]:
    """What was installed, removed, or has another version, by name."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield PackageChange(manager, name, old.get(name), new.get(name))


def dpkg_packages(text: str) -> Packages:
    """The installed packages of dpkg's status file, or of one below ``status.d``."""
    found: list[tuple[str, str, str]] = []
    for fields in _paragraphs(text, ": "):
        if "Package" in fields and fields.get("Status", "installed").split(" ")[-1] == "installed":
            found.append((fields["Package"], fields.get("Architecture", ""), fields.get("Version", "")))
    return _named(found)


def apk_packages(text: str) -> Packages:
    """The packages of apk's database."""
    found = [(fields["P"], fields.get("A", ""), fields.get("V", "")) for fields in _paragraphs(text, ":") if "P" in fields]
    return _named(found)


class PythonPackages:
    """Python's packages, as far as they changed: their directories are among the changes, whatever else is."""

    def __init__(self) -> None:
        self._old: dict[str, set[str]] = {}
        self._new: dict[str, set[str]] = {}

    def look(self, change: Change) -> None:
        """Take note of a change, if it is about a package."""
        if not change.path.endswith("-info"):
            return
        for entry, versions in ((change.old, self._old), (change.new, self._new)):
            if entry is not None and (known := _python_package(entry)) is not None:
                versions.setdefault(known[0], set()).add(known[1])

    def changes(self) -> Iterator[PackageChange]:
        """What became of them, by name."""
        old = {name: ", ".join(sorted(versions)) for name, versions in self._old.items()}
        new = {name: ", ".join(sorted(versions)) for name, versions in self._new.items()}
        return package_changes("python", old, new)


def _python_package(entry: Entry) -> tuple[str, str] | None:
    match = _PYTHON.search(entry.path)
    if match is None or match.end() != len(entry.path):
        return None
    return re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]


def _named(found: Iterable[tuple[str, str, str]]) -> Packages:
    """By name; with the architecture where there are several of one."""
    rows = list(found)
    times: dict[str, int] = {}
    for name, _, _ in rows:
        times[name] = times.get(name, 0) + 1
    return {(name if times[name] == 1 else f"{name}:{architecture}"): version for name, architecture, version in rows}


def _paragraphs(text: str, separator: str) -> Iterator[dict[str, str]]:
    """Fields of one line each; what is continued, or said again, is passed over."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            name, _, value = line.partition(separator)
            fields.setdefault(name, value.strip())
    if fields:
        yield fields

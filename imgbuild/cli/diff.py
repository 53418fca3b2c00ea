"""``imgbuild diff``: what changed between two root file systems, as text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.failures import printable
from imgbuild.engine.invocation import Invocation
from imgbuild.hints import Callable, Iterator
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.diff import Difference
    from imgbuild.insight.compare import Change, Entry
    from imgbuild.insight.config_changes import ConfigChange
    from imgbuild.insight.packages import PackageChange
    from imgbuild.insight.sums import Sum, Sums

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("old", metavar="A")
@click.argument("new", required=False, metavar="[B]")
@click.option("--platform", metavar="PLATFORM", help="Which images of indexes; default: this machine's.")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="Only files at PATH and below it.")
@click.option("--text", is_flag=True, help="Show what changed in texts, too, as unified diffs.")
@click.option("--times", is_flag=True, help="A time of modification alone is a change, too.")
@click.option("--stat", is_flag=True, help="In the place of files, sums by directory.")
@click.option("--depth", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Of --stat: how deep.")
@click.option("--summary", is_flag=True, help="In the place of files, their number.")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--exit-code", is_flag=True, help="End with 1 if anything differs.")
@click.pass_obj
def diff(invocation: Invocation, /, exit_code: bool, format_: str, **words: Any) -> int:
    """Show what changed from A to B: config, files and packages.

    Each is an image (name, ID, digest), what a build made (build:last, build:last~1, build:ID), the state after a step of it (build:last/3)
    or in which one failed (failed:last), or a container. A step or a container may stand alone: it is compared with what it was made on.

    Layers that both have are not read. Ends with 0, also where something differs, unless --exit-code is given.
    """
    from imgbuild.engine.diff import DiffRequest, opened_difference
    from imgbuild.insight.sums import Sums

    request = DiffRequest(words["old"], words["new"], words["platform"], words["paths"], words["times"])
    sums = Sums(words["depth"] if words["stat"] else 0)
    files = not (words["stat"] or words["summary"])
    show = _json if format_ == "json" else _text
    with opened_difference(invocation, request) as found:
        differs = show(found, sums, files, words["text"])
    return 1 if exit_code and differs else 0


def _text(found: Difference, sums: Sums, files: bool, text: bool) -> bool:
    config = found.config()
    _section("config", (_config_line(change) for change in config))

    def lines() -> Iterator[str]:
        for change in found.files():
            sums.count(change)
            if files:
                yield _file_line(change)
                if text:
                    yield from _text_lines(found, change)

    _section("files", lines())
    _section("directories", _directory_lines(sums))
    packages = tuple(found.packages())
    _section("packages", map(_package_line, packages))
    if not (config or packages or sums.all.entries):
        return False
    click.echo(_totals(len(config), len(packages), sums.all))
    return True


def _section(head: str, lines: Iterator[str]) -> None:
    for number, line in enumerate(lines):
        if not number:
            click.echo(head)
        click.echo(f"  {printable(line)}")


def _config_line(change: ConfigChange) -> str:
    name = f"{change.field} {change.key}".rstrip()
    old, new = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (change.old, change.new))
    if change.old is None:
        return f"+ {name}" + (f": {new}" if new else "")
    if change.new is None:
        return f"- {name}" + (f": {old}" if old else "")
    return f"~ {name}: {old} -> {new}"


def _package_line(change: PackageChange) -> str:
    if change.old is None:
        return f"+ {change.manager} {change.name} {change.new}"
    if change.new is None:
        return f"- {change.manager} {change.name} {change.old}"
    return f"~ {change.manager} {change.name} {change.old} -> {change.new}"


def _file_line(change: Change) -> str:
    entry = change.new or change.old
    assert entry is not None
    shown = f"{_SIGNS[change.verb]} {change.path}{'/' if entry.kind == 'dir' and change.path != '/' else ''}"
    facts = ", ".join(_aspects(change)) if change.verb == "changed" else _described(entry)
    return f"{shown}  ({facts})" if facts else shown


def _described(entry: Entry) -> str:
    from imgbuild.cli.progress import human_size

    if entry.kind == "file":
        return f"hard link to {entry.first}" if entry.first else human_size(entry.size)
    if entry.kind == "symlink":
        return f"symlink to {entry.link}"
    if entry.kind in ("char", "block"):
        return f"{entry.kind} device {entry.device[0]}:{entry.device[1]}"
    return "" if entry.kind == "dir" else entry.kind


def _whole(entry: Entry) -> str:
    if entry.kind == "file":
        return f"file, {_described(entry)}"
    return "directory" if entry.kind == "dir" else _described(entry)


def _aspects(change: Change) -> Iterator[str]:
    from imgbuild.cli.progress import human_size

    old, new = change.old, change.new
    assert old is not None
    assert new is not None
    said: dict[str, Callable[[], str]] = {
        "type": lambda: f"{_whole(old)} -> {_whole(new)}",
        "content": lambda: f"content, {human_size(old.size)}" + (f" -> {human_size(new.size)}" if old.size != new.size else ""),
        "mode": lambda: f"mode {old.mode:04o} -> {new.mode:04o}",
        "owner": lambda: f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}",
        "link": lambda: f"symlink to {old.link} -> {new.link}",
        "hardlink": lambda: f"{_named(old)} -> {_named(new)}",
        "device": lambda: f"device {old.device[0]}:{old.device[1]} -> {new.device[0]}:{new.device[1]}",
        "xattrs": lambda: "attributes " + ", ".join(_xattrs(change)),
        "time": lambda: f"time {_time(old)} -> {_time(new)}",
    }
    for aspect in change.aspects:
        yield said[aspect]()


def _named(entry: Entry) -> str:
    return f"hard link to {entry.first}" if entry.first else "a file of its own"


def _xattrs(change: Change) -> Iterator[str]:
    for each in change.xattrs:
        sign = "+" if each.old is None else "-" if each.new is None else "~"
        yield sign + each.name.decode("utf-8", "backslashreplace")


def _time(entry: Entry) -> str:
    from imgbuild.oci.times import format_time

    return format_time(entry.mtime_ns // 1_000_000_000)


def _text_lines(found: Difference, change: Change) -> Iterator[str]:
    lines = found.text(change)
    for line in [lines] if isinstance(lines, str) and lines else lines:
        yield f"    {line}"


def _directory_lines(sums: Sums) -> Iterator[str]:
    for path, each in sums.directories():
        yield f"{path}  {_counted(each)}"


def _counted(each: Sum) -> str:
    from imgbuild.cli.progress import human_size

    words = [f"{count} {word}" for count, word in ((each.added, "added"), (each.removed, "removed"), (each.changed, "changed")) if count]
    return f"{', '.join(words)}: {'-' if each.growth < 0 else '+'}{human_size(abs(each.growth))}"


def _totals(config: int, packages: int, files: Sum) -> str:
    parts = [f"config: {config} changed"] if config else []
    if files.entries:
        parts.append(f"files: {_counted(files)}")
    if packages:
        parts.append(f"packages: {packages} changed")
    return "; ".join(parts)


def _json(found: Difference, sums: Sums, files: bool, text: bool) -> bool:
    """One object; files are written as they are found."""
    config = [{"field": each.field, "key": each.key, "old": each.old, "new": each.new} for each in found.config()]
    click.echo(f'{{"old": {json.dumps(found.old.name)}, "new": {json.dumps(found.new.name)}, "config": {json.dumps(config)},')
    click.echo('"files": [', nl=False)
    for change in found.files():
        if files:
            value = _change_json(change)
            if text and (lines := found.text(change)):
                value["text"] = lines if isinstance(lines, str) else list(lines)
            click.echo((",\n " if sums.all.entries else "\n ") + json.dumps(value), nl=False)
        sums.count(change)
    click.echo("],")
    packages = [{"manager": each.manager, "name": each.name, "old": each.old, "new": each.new} for each in found.packages()]
    directories = {path: _sum_json(each) for path, each in sums.directories()}
    click.echo(f'"packages": {json.dumps(packages)},')
    click.echo(f'"directories": {json.dumps(directories)},')
    differs = bool(config or packages or sums.all.entries)
    click.echo(f'"total": {json.dumps(_sum_json(sums.all))}, "differs": {json.dumps(differs)}}}')
    return differs


def _sum_json(each: Sum) -> dict[str, int]:
    return {"added": each.added, "removed": each.removed, "changed": each.changed, "growth": each.growth}


def _change_json(change: Change) -> dict[str, Any]:
    value: dict[str, Any] = {"path": change.path, "change": change.verb}
    if change.aspects:
        value["aspects"] = list(change.aspects)
    if change.xattrs:
        value["xattrs"] = {
            each.name.decode("utf-8", "backslashreplace"): [None if side is None else side.hex() for side in (each.old, each.new)]
            for each in change.xattrs
        }
    return value | {side: _entry_json(entry) for side, entry in (("old", change.old), ("new", change.new)) if entry is not None}


def _entry_json(entry: Entry) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": entry.kind, "mode": f"{entry.mode:04o}", "uid": entry.uid, "gid": entry.gid, "mtime": entry.mtime_ns / 1_000_000_000,
    }  # fmt: skip
    optional = {"link": entry.link, "hardlink": entry.first, "device": list(entry.device) if any(entry.device) else None}
    return value | ({"size": entry.size} if entry.kind == "file" else {}) | {key: item for key, item in optional.items() if item}

"""``imgbuild blame``: who wrote a path of an image."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.tables import shortened, shortened_path, table
from imgbuild.engine.invocation import Invocation
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.insight.blame import Blamed

_LONGEST = 120
"""Characters of where something came from, which may be several instructions behind each other."""


@click.command()
@click.argument("image")
@click.argument("path")
@click.option("-a", "--all", "everything", is_flag=True, help="All that layers did to it, also what is hidden or deleted by now.")
@click.option("-r", "--recursive", is_flag=True, help="Each file below PATH.")
@click.option("--platform", metavar="PLATFORM", help="Which image of an index; default: this machine's.")
@click.option("--no-trunc", is_flag=True, help="Print whole paths and instructions.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def blame(
    invocation: Invocation, /, image: str, path: str, everything: bool, recursive: bool, platform: str | None, no_trunc: bool, format_: str
) -> None:
    """Show which layer of IMAGE wrote PATH last: its instruction, and, where it was built here, the line of the Buildfile, the build and
    what it was copied from. IMAGE is a name, ID or digest, or build:last, build:ID.
    """
    from imgbuild.engine.blame import BlameRequest
    from imgbuild.engine.blame import blame as find

    found = find(invocation, BlameRequest(image, path, platform, everything, recursive))
    if format_ == "json":
        click.echo(json.dumps([_json(each) for each in found], indent=2))
        return
    rows = [_row(each, no_trunc) for each in found]
    heads = ["PATH", "DID", "LAYER", "BUILD", "LINE", "INSTRUCTION", "FROM"]
    kept = [column for column in range(len(heads)) if column < 3 or any(row[column] for row in rows)]
    click.echo(table([heads[column] for column in kept], [[row[column] for column in kept] for row in rows]))


def _row(blamed: Blamed, whole: bool) -> list[str]:
    origin = blamed.origin
    build = f"{origin.build[:12]}/{origin.step}" if origin.build else ""
    path, source = blamed.path, _source(blamed, whole)
    place = origin.place
    if not whole:
        path, place, source = shortened_path(path), shortened_path(place), shortened(source, _LONGEST)
    return [path, _did(blamed, whole), str(origin.number), build, place, _short(origin.instruction, whole), source]


def _did(blamed: Blamed, whole: bool) -> str:
    trace = blamed.trace
    if trace.said == "deleted":
        return "deleted" if trace.at == blamed.path else f"deleted {trace.at if whole else shortened_path(trace.at)}"
    assert trace.node is not None
    return "made" if stat.S_ISDIR(trace.node.mode) else "wrote"


def _source(blamed: Blamed, whole: bool) -> str:
    if blamed.via is None:
        return blamed.source
    wrote = blamed.via.origin
    place = f", {wrote.place}" if wrote.place else ""
    further = f" < {_source(blamed.via, whole)}" if blamed.via.source else ""
    return f"{blamed.source}: {_short(wrote.instruction, whole)}{place}{further}"


def _short(instruction: str, whole: bool) -> str:
    return " ".join(instruction.split()) if whole else shortened(instruction)


def _json(blamed: Blamed) -> dict[str, Any]:
    origin, trace = blamed.origin, blamed.trace
    value: dict[str, Any] = {
        "path": blamed.path, "did": trace.said, "at": trace.at, "layer": origin.number, "diff_id": origin.diff_id,
        "instruction": origin.instruction, "created": origin.created, "build": origin.build, "step": origin.step, "place": origin.place,
        "source": blamed.source,
    }  # fmt: skip
    if trace.node is not None:
        node = trace.node
        value |= {"mode": f"{stat.S_IMODE(node.mode):04o}", "uid": node.uid, "gid": node.gid, "size": node.size}
    return value | ({"via": _json(blamed.via)} if blamed.via is not None else {})

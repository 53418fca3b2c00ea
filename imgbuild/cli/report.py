"""``imgbuild report``: one build as a page that can be kept, sent, and read anywhere."""

from __future__ import annotations

import sys

import click

from imgbuild.engine.invocation import Invocation
from imgbuild.hints import TYPE_CHECKING
from imgbuild.light.pathlib import Path

if TYPE_CHECKING:
    from imgbuild.report.page import Assets

_WIDE = 160


@click.command()
@click.argument("build", default="last")
@click.option("-o", "--output", metavar="FILE", default="report.html", show_default=True, help="Where to write it; - is stdout.")
@click.pass_obj
def report(invocation: Invocation, build: str, output: str) -> None:
    """Write a report of BUILD (last, last~1, or an id): one HTML page with its timeline, graph, layers, costs, causes and logs.

    The page is a file of its own that loads nothing, and can be read without JavaScript.
    """
    from imgbuild.cli.causes import cause_text
    from imgbuild.cli.progress import readable
    from imgbuild.engine.report import build_report
    from imgbuild.report.page import render
    from imgbuild.transfer.outputs import replacing

    if not output:
        raise click.UsageError("--output needs a name")
    found = build_report(invocation, build, readable)
    page = render(found, lambda cause: cause_text(cause, _WIDE), assets()).encode()
    if output == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
        return
    with replacing(Path(output), "name a file to be written") as file:
        file.write(page)
    click.echo(output)


def assets() -> Assets:
    """The style sheet and the script, which are files beside the code that uses them."""
    from imgbuild import report as room
    from imgbuild.report.page import Assets

    place = Path(room.__file__).parent
    return Assets(*((place / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")))

"""``imgbuild images``, ``inspect``, ``history``, ``tag`` and ``rmi``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.tables import age, shortened, table
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import UsageError
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.insight.images import ImageRow

_HEADS = {
    "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}  # fmt: skip
_FORMAT = click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
_PLATFORM = click.option("--platform", metavar="PLATFORM", help="Which image of an index; default: this machine's.")


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print whole IDs.")
@click.option("--digests", is_flag=True, help="Print the digests of manifests, too.")
@click.option("--format", "format_", default="table", metavar="FORM", help="table, json, or a template: '{{.Repository}}:{{.Tag}}'.")
@click.argument("name", required=False, metavar="[REPOSITORY[:TAG]]")
@click.pass_obj
def images(invocation: Invocation, quiet: bool, no_trunc: bool, digests: bool, format_: str, name: str | None) -> None:
    """List the images of the store, or those of one repository."""
    from imgbuild.cli.templates import listed
    from imgbuild.engine.images import list_images

    rows = list_images(invocation, name)
    if quiet:
        for identity in dict.fromkeys(row.id for row in rows if row.id):
            click.echo(identity if no_trunc else identity[7:19])
        return
    if format_ == "json":
        click.echo(json.dumps([_image_json(row) for row in rows], indent=2))
        return
    if "{{" in format_:
        _print("\n".join(listed(format_, [_image_fields(row, no_trunc) for row in rows], _HEADS)), newline=bool(rows))
        return
    if format_ != "table":
        raise UsageError(f"unknown format {format_!r}", hint="formats are: table, json, or a template such as '{{.ID}} {{.Repository}}'")
    from imgbuild.cli.progress import human_size

    heads = ["REPOSITORY", "TAG", *(["DIGEST"] if digests else []), "IMAGE ID", "CREATED", "SIZE"]
    lines = [
        [
            row.repository or "<none>",
            row.tag or "<none>",
            *([row.digest] if digests else []),
            (row.id if no_trunc else row.id[7:19]) or f"({row.problem})",
            age(row.created),
            human_size(row.size),
        ]
        for row in rows
    ]
    click.echo(table(heads, lines))


def _image_json(row: ImageRow) -> dict[str, object]:
    return {
        "Repository": row.repository,
        "Tag": row.tag,
        "Digest": row.digest,
        "Id": row.id,
        "Created": row.created,
        "Size": row.size,
        **({"Problem": row.problem} if row.problem else {}),
    }


def _image_fields(row: ImageRow, whole: bool) -> dict[str, str]:
    """What templates may name, under docker's names."""
    from imgbuild.cli.progress import human_size

    return {
        "Repository": row.repository or "<none>", "Tag": row.tag or "<none>", "Digest": row.digest, "ID": row.id if whole else row.id[7:19],
        "CreatedSince": age(row.created), "CreatedAt": row.created, "Size": human_size(row.size),
    }  # fmt: skip


@click.command()
@click.option("-f", "--format", "format_", default="json", metavar="FORM", help="json, or a template for each: '{{.Config.Cmd}}'.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_PLATFORM
@click.pass_obj
def inspect(invocation: Invocation, format_: str, names: tuple[str, ...], platform: str | None) -> None:
    """Show images as a JSON array, with docker's field names; or what a template, in the language of Go's, says of each."""
    from imgbuild.engine.images import inspect_images

    template = None
    if format_ != "json":
        from imgbuild.cli.templates import Template

        template = Template(format_)
    found = inspect_images(invocation, names, platform)
    if template is None:
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))
        return
    for image in found:
        _print(template.fill({**image, "Config": _as_docker_has_it(image["Config"])}))


def _as_docker_has_it(config: dict[str, Any]) -> dict[str, Any]:
    """The config for templates: what is null is an empty list, or no names."""
    from imgbuild.cli.template_functions import Names, NilList

    empty = {name: NilList() for name in ("Cmd", "Entrypoint", "Env", "OnBuild") if config.get(name) is None}
    named = {name: Names(config.get(name) or {}) for name in ("Labels", "Volumes", "ExposedPorts")}
    return {**config, **empty, **named}


def _print(text: str, newline: bool = True) -> None:
    from imgbuild.cli.templates import shown

    click.echo(shown(text) if sys.stdout.isatty() else text, nl=newline)


@click.command()
@click.argument("name")
@_PLATFORM
@click.option("--no-trunc", is_flag=True, help="Print whole instructions and comments.")
@_FORMAT
@click.pass_obj
def history(invocation: Invocation, name: str, platform: str | None, no_trunc: bool, format_: str) -> None:
    """Show the instructions that an image was made by, the last one first."""
    from imgbuild.engine.images import image_history

    rows = image_history(invocation, name, platform)
    if format_ == "json":
        fields = [
            {
                "Created": row.created,
                "CreatedBy": row.created_by,
                "Size": row.size,
                "Comment": row.comment,
                "DiffID": row.layer,
                "Digest": row.blob,
            }
            for row in rows
        ]
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    from imgbuild.cli.progress import human_size

    lines = []
    for row in rows:
        shown, comment = row.created_by, row.comment
        if not no_trunc:
            shown, comment = shortened(shown), shortened(comment)
        lines.append([age(row.created), " ".join(shown.split()), human_size(row.size), " ".join(comment.split())])
    click.echo(table(["CREATED", "CREATED BY", "SIZE", "COMMENT"], lines))


@click.command()
@click.argument("source")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def tag(invocation: Invocation, source: str, names: tuple[str, ...]) -> None:
    """Give the image SOURCE more names."""
    from imgbuild.engine.images import tag_image

    tag_image(invocation, source, names)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Also where a container uses the image.")
@click.pass_obj
def rmi(invocation: Invocation, names: tuple[str, ...], force: bool) -> None:
    """Take names away; an image that has none left is removed."""
    from imgbuild.engine.images import remove_images

    for line in remove_images(invocation, names, force):
        click.echo(line)

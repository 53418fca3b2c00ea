"""``imgbuild bake``."""

from __future__ import annotations

import json
from typing import Any

import click

from imgbuild.engine.workplace import Invocation
from imgbuild.errors import UsageError


@click.command()
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="The build file; several are joined; '-' is stdin.")
@click.option("--set", "overrides", multiple=True, metavar="TARGET.KEY=VALUE", help="Say something of targets: *.args.X=1, app.tags+=a:b.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the build file.")
@click.option("--print", "shown", is_flag=True, help="Print what would be built as JSON, and build nothing.")
@click.option("--list", "listed", metavar="targets|variables", help="List what the build file declares.")
@click.option("--push", is_flag=True, help="Push the tags of every target; the same as --set *.push=true.")
@click.option("--load", is_flag=True, hidden=True, help="Accepted: what is built is always in the store.")
@click.option("--no-cache", is_flag=True, help="Perform every step.")
@click.option("--pull", is_flag=True, help="Ask the registries for all bases.")
@click.option("--allow", multiple=True, metavar="RIGHT", help="Grant what a target wants: network.host, security.insecure, device.")
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How many steps may run at once, all targets together.")
@click.option("--progress", type=click.Choice(["auto", "tty", "plain", "json", "quiet"]), default="auto", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print only the images' IDs.")
@click.option("--metadata-file", metavar="FILE", help="Write what was built there, as JSON, by target.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.pass_obj
def bake(invocation: Invocation, /, **options: Any) -> int:
    """Build several targets of a build file: imgbuild.yaml, the build sections of a compose file, or docker-bake.json.

    TARGET is the name of a target or a group, or a pattern of names; without one, it is 'default'.
    """
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.bake import BakeRequest, bake, declared, selected

    switches = {"push": "*.push=true", "no_cache": "*.no-cache=true", "pull": "*.pull=true"}
    request = BakeRequest(
        targets=options["targets"],
        files=options["files"],
        overrides=(*options["overrides"], *(text for name, text in switches.items() if options[name])),
        variables=options["variables"],
        allow=options["allow"],
        parallel=options["parallel"],
        metadata_file=options["metadata_file"],
    )
    with make_renderer("quiet" if options["quiet"] else options["progress"], invocation.environ) as renderer:
        if options["listed"]:
            click.echo(_listing(options["listed"], declared(invocation, request, renderer.on_event)))
        elif options["shown"]:
            from imgbuild.bake.show import shown

            click.echo(json.dumps(shown(selected(invocation, request, renderer.on_event)), indent=2, ensure_ascii=False))
        else:
            for name, result in bake(invocation, request, renderer.on_event).items():
                renderer.finish(result, name)
    return 0


def _listing(kind: str, project: Any) -> str:
    from imgbuild.cli.tables import table

    if kind in ("targets", "type=targets"):
        rows = [[name, "group: " + ", ".join(word.name for word in group.members)] for name, group in project.groups.items()]
        rows += [[name, target.text("description") or ""] for name, target in project.targets.items() if name not in project.groups]
        return table(["TARGET", "DESCRIPTION"], rows)
    if kind in ("variables", "type=variables"):
        return table(
            ["VARIABLE", "VALUE", "DEFAULT", "DESCRIPTION"],
            [[each.name, each.value or "", each.default or "", each.description] for each in project.variables],
        )
    raise UsageError(f"--list {kind!r} is not understood", hint="it lists targets or variables")

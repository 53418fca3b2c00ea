"""``imgbuild bake``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.build import PROGRESS
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import UsageError
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.bake.project import Project
    from imgbuild.engine.bake import BakeRequest


@click.command()
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="The build file; several are joined; '-' is stdin.")
@click.option("--set", "overrides", multiple=True, metavar="TARGET.KEY=VALUE", help="Say something of targets: *.args.X=1, app.tags+=a:b.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the build file.")
@click.option("--print", "shown", is_flag=True, help="Print what would be built as JSON, and build nothing.")
@click.option("--plan", "planned", is_flag=True, help="Say what would be found in the cache and what performed; nothing is run.")
@click.option("--exit-code", "gate", is_flag=True, help="With --plan: exit with 3 if anything would be performed.")
@click.option("--format", "format_", metavar="FORMAT", help="Of what --plan prints: text (default) or json.")
@click.option("--list", "listed", metavar="targets|variables", help="List what the build file declares.")
@click.option(
    "--call", default="build", metavar="METHOD", show_default=True, help="As with build, of each target: check, outline, targets."
)
@click.option("--check", is_flag=True, help="The same as --call=check.")
@click.option("--push", is_flag=True, help="Push the tags of every target; the same as --set *.push=true.")
@click.option("--load", is_flag=True, hidden=True, help="Accepted: what is built is always in the store.")
@click.option("--no-cache", is_flag=True, help="Perform every step.")
@click.option("--pull", is_flag=True, help="Ask the registries for all bases.")
@click.option(
    "--allow", multiple=True, metavar="RIGHT", help="Grant what a target wants: network.host, security.insecure, device, secret.leak."
)
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How many steps may run at once, all targets together.")
@click.option("--progress", type=click.Choice(PROGRESS), default="auto", show_default=True)
@click.option("--replay-logs", is_flag=True, help="Show again what cached steps wrote when they were performed.")
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
        replay_logs=options["replay_logs"],
    )
    if (options["gate"] or options["format_"] is not None) and not options["planned"]:
        raise UsageError("--exit-code and --format are of what --plan says", hint="add --plan")
    call = "check" if options["check"] else options["call"]
    if call.partition(",")[0] != "build":
        return _answers(invocation, request, call)
    if options["planned"]:
        return _plan(invocation, request, options["format_"] or "text", gate=options["gate"], quiet=options["quiet"])
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


def _answers(invocation: Invocation, request: BakeRequest, call: str) -> int:
    """What is asked of each target's Buildfile, below its name; the worst exit code."""
    from imgbuild.cli.call import answer, parse_call
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.bake import requests

    wanted = parse_call(call)
    with make_renderer("plain", invocation.environ) as renderer:
        asked = requests(invocation, request, renderer.on_event)
    if wanted.format == "json" and len(asked) > 1:
        raise UsageError(f"--call {call}: JSON is about one target, and {len(asked)} are asked", hint="name one target")
    worst = 0
    for number, (name, each) in enumerate(asked.items()):
        if len(asked) > 1:
            click.echo(f"{chr(10) if number else ''}target {name}:")
        worst = max(worst, answer(invocation, each, wanted))
    return worst


def _plan(invocation: Invocation, request: BakeRequest, format_: str, *, gate: bool, quiet: bool) -> int:
    """What would be done for each target, below its name."""
    from imgbuild.cli.plan import CHANGES, plan_fields, plan_lines
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.bake_plan import plan_targets

    if format_ not in ("text", "json"):
        raise UsageError(f"--format {format_}: it is text or json")
    with make_renderer("none" if quiet else "plain", invocation.environ) as renderer:
        planned = plan_targets(invocation, request, renderer.on_event)
    if format_ == "json":
        fields = {name: plan_fields(each.build) if each.build is not None else {"until": each.until} for name, each in planned.items()}
        click.echo(json.dumps({"targets": fields}, indent=2))
    elif not quiet:
        for number, (name, each) in enumerate(planned.items()):
            click.echo(f"{chr(10) if number else ''}target {name}:")
            lines = plan_lines(each.build) if each.build is not None else [f"UNKNOWN until {', '.join(each.until)} was built"]
            click.echo("\n".join(lines))
    return CHANGES if gate and not all(each.cached for each in planned.values()) else 0


def _listing(kind: str, project: Project) -> str:
    from imgbuild.cli.tables import shortened, table

    if kind in ("targets", "type=targets"):
        groups = {name: ", ".join(word.name for word in group.members) for name, group in project.groups.items()}
        rows = [[name, shortened(f"group: {members}")] for name, members in groups.items()]
        targets = [(name, target) for name, target in project.targets.items() if name not in project.groups]
        rows += [[name, shortened(target.text("description") or "")] for name, target in targets]
        return table(["TARGET", "DESCRIPTION"], rows)
    if kind in ("variables", "type=variables"):
        return table(
            ["VARIABLE", "VALUE", "DEFAULT", "DESCRIPTION"],
            [[each.name, *map(shortened, (each.value or "", each.default or "", each.description))] for each in project.variables],
        )
    raise UsageError(f"--list {kind!r} is not understood", hint="it lists targets or variables")

"""``imgbuild build``."""

from __future__ import annotations

import click

from imgbuild.engine.workplace import Invocation
from imgbuild.errors import UsageError


@click.command()
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="Name of the image; several are possible.")
@click.option("-f", "--file", metavar="FILE", help="The Buildfile; '-' reads it from stdin. Default: Buildfile, Dockerfile or Containerfile in CONTEXT.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="An ARG; without a value, from the environment.")
@click.option("--target", default="", metavar="STAGE", help="Build this stage and what it needs.")
@click.option("--no-cache", is_flag=True, help="Perform every step.")
@click.option(
    "--pull", default="missing", metavar="POLICY", is_flag=False, flag_value="always",
    help="When to ask a registry for bases: missing (default), always, newer or never.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="Use no network for bases; the same as --pull never.")
@click.option("-o", "--output", "outputs", multiple=True, metavar="SPEC", help="type=oci|docker|local|tar|registry[,dest=PATH]; or a directory.")
@click.option("--push", is_flag=True, help="Push the tags when the image is done; the same as --output type=registry.")
@click.option("--load", is_flag=True, hidden=True, help="Accepted: what is built is always in the store.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|env=NAME]", help="A secret for RUN --mount=type=secret.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the image.")
@click.option("--platform", metavar="PLATFORM", help="The platform to build for; only this machine's.")
@click.option("--source-date-epoch", metavar="SECONDS", help="Bounds all times in the image; default: $SOURCE_DATE_EPOCH.")
@click.option("--compression", type=click.Choice(["zstd", "gzip", "none"]), help="How layers are compressed; default: zstd.")
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How many steps may run at once.")
@click.option("--progress", type=click.Choice(["auto", "tty", "plain", "json", "quiet"]), default="auto", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's ID.")
@click.option("--iidfile", metavar="FILE", help="Write the image's ID there.")
@click.option("--metadata-file", metavar="FILE", help="Write what was built there, as JSON.")
@click.argument("context", default=".")
@click.pass_obj
def build(invocation: Invocation, quiet: bool, progress: str, offline: bool, push: bool, load: bool, **options: object) -> int:
    """Build an image from a Buildfile and the files of CONTEXT."""
    del load
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.build import BuildRequest, build_image

    mode = "quiet" if quiet else progress
    request = BuildRequest(**_checked(options, offline, push))  # type: ignore[arg-type]
    with make_renderer(mode, invocation.environ) as renderer:
        result = build_image(invocation, request, renderer.on_event)
        renderer.finish(result)
    return 0


def _checked(options: dict[str, object], offline: bool, push: bool) -> dict[str, object]:
    outputs = options.pop("outputs")
    assert isinstance(outputs, tuple)
    if offline:
        if options["pull"] not in ("missing", "never"):
            raise UsageError("--offline and --pull contradict each other")
        options["pull"] = "never"
    if options["pull"] not in ("missing", "always", "newer", "never"):
        options["pull"] = {"true": "always", "false": "missing", "1": "always", "0": "missing"}.get(str(options["pull"]).lower(), options["pull"])
    if options["pull"] not in ("missing", "always", "newer", "never"):
        raise UsageError(f"--pull {options['pull']} is not a policy", hint="it is one of missing, always, newer, never")
    return {**options, "outputs": (*outputs, *(("type=registry",) if push else ()))}

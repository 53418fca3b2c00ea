"""``imgbuild build``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from imgbuild.cli.buildx import buildx_options, check_buildx_options
from imgbuild.engine.workplace import Invocation
from imgbuild.errors import UsageError

_PULL_WORDS = {
    "missing": "missing", "always": "always", "newer": "newer", "never": "never",
    "true": "always", "1": "always", "false": "missing", "0": "missing",
}  # fmt: skip
"""docker's switch, and podman's policies."""


PROGRESS = ("auto", "tty", "plain", "json", "rawjson", "quiet", "none")


class _Build(click.Command):
    """``--pull`` stands alone, as docker has it, or is followed by a policy."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for index, word in enumerate(args):
            if word == "--":
                break
            if word == "--pull" and (index + 1 == len(args) or args[index + 1].lower() not in _PULL_WORDS):
                args = [*args[:index], "--pull=always", *args[index + 1 :]]
        return super().parse_args(ctx, args)


@click.command(cls=_Build)
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="Name of the image; several are possible.")
@click.option("-f", "--file", metavar="FILE", help="The Buildfile; '-' is stdin. Default: Buildfile, Dockerfile or Containerfile.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="An ARG; without a value, from the environment.")
@click.option(
    "--build-context", "contexts", multiple=True, metavar="NAME=PLACE",
    help="A context that stands for an image or stage of that name: a directory, docker-image://NAME or oci-layout://PATH[:TAG].",
)  # fmt: skip
@click.option("--target", default="", metavar="STAGE", help="Build this stage and what it needs.")
@click.option("--no-cache", is_flag=True, help="Perform every step.")
@click.option("--no-cache-filter", multiple=True, metavar="STAGE[,...]", help="Perform every step of these stages.")
@click.option(
    "--pull", default="missing", metavar="[POLICY]",
    help="When to ask a registry for bases: missing (default), always, newer or never.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="The same as --pull never.")
@click.option("-o", "--output", "outputs", multiple=True, metavar="SPEC", help="type=oci|docker|local|tar|registry,dest=PATH or DIRECTORY.")
@click.option("--push", is_flag=True, help="Push the tags when the image is done; the same as --output type=registry.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|env=NAME]", help="A secret for RUN --mount=type=secret.")
@click.option("--ssh", multiple=True, metavar="ID[=SOCKET|KEY,...]", help="An agent or keys for RUN --mount=type=ssh.")
@click.option("--allow", multiple=True, metavar="RIGHT", help="What steps may ask for: security.insecure, device[=NAME], network.host.")
@click.option("--network", default="default", metavar="MODE", help="The network of RUN: default, host or none.")
@click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A line of /etc/hosts; host-gateway is this machine.")
@click.option("--shm-size", metavar="SIZE", help="The size of /dev/shm in RUN.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A resource limit of RUN.")
@click.option("--cgroup-parent", default="", metavar="PATH", help="The control group that those of RUN are made in.")
@click.option("-m", "--memory", metavar="SIZE", help="The memory of a RUN that names none of its own.")
@click.option("--memory-swap", metavar="SIZE", help="Memory and swap together; -1 for no limit of swap.")
@click.option("--cpu-period", metavar="MICROSECONDS", hidden=True, help="What --cpu-quota is a part of; default: 100000.")
@click.option("--cpu-quota", metavar="MICROSECONDS", hidden=True, help="How long in each period a RUN may use processors.")
@click.option("--failure-dir", metavar="DIRECTORY", help="Where RUN --on-failure=save=PATH saves to; default: in the store.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the image.")
@click.option(
    "--annotation", "annotations", multiple=True, metavar="[LEVEL[PLATFORM]:]NAME=VALUE",
    help="An annotation of the manifest, or of the level that is named: index, manifest-descriptor, index-descriptor.",
)  # fmt: skip
@click.option("--platform", "platforms", multiple=True, metavar="PLATFORM[,...]", help="What to build for; several make an index.")
@click.option("--source-date-epoch", metavar="SECONDS", help="Bounds all times in the image; default: $SOURCE_DATE_EPOCH.")
@click.option("--compression", type=click.Choice(["zstd", "gzip", "none"]), help="How layers are compressed; default: zstd.")
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How many steps may run at once.")
@click.option("--progress", type=click.Choice(PROGRESS), default="auto", show_default=True, help="Default: $BUILDKIT_PROGRESS, else auto.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's ID.")
@click.option("--iidfile", metavar="FILE", help="Write the image's ID there.")
@click.option("--metadata-file", metavar="FILE", help="Write what was built there, as JSON.")
@click.option(
    "--call", default="build", metavar="METHOD[,format=json]", show_default=True,
    help="What to do with the Buildfile: build, check, outline (what a target takes), targets, dockerfile (the plain one it is).",
)  # fmt: skip
@click.option("--check", is_flag=True, help="The same as --call=check.")
@click.option("--format", metavar="FORMAT", help="Of what --call prints: text (default) or json.")
@buildx_options
@click.argument("context", default=".")
@click.pass_obj
def build(invocation: Invocation, /, **options: Any) -> int:
    """Build an image from a Buildfile and the files of CONTEXT."""
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.build import build_image
    from imgbuild.engine.request import BuildRequest
    from imgbuild.solve.events import Notice

    mode = _progress(options.pop("quiet"), options.pop("progress"), invocation.environ)
    notices = check_buildx_options(options)
    call, check, format_ = options.pop("call"), options.pop("check"), options.pop("format")
    request = BuildRequest(**_checked(options))
    if call != "build" or check or format_ is not None:
        from imgbuild.cli.call import answer, parse_call

        wanted = parse_call("check" if check else call, format_)
        if wanted.name != "build":
            return answer(invocation, request, wanted)
    with make_renderer(mode, invocation.environ) as renderer:
        for notice in notices:
            renderer.on_event(Notice(notice))
        result = build_image(invocation, request, renderer.on_event)
        renderer.finish(result)
    return 0


def _progress(quiet: bool, mode: str, environ: Mapping[str, str]) -> str:
    """How progress is shown: as the options say, else the environment."""
    if quiet:
        return "quiet"
    if mode == "auto" and (chosen := environ.get("BUILDKIT_PROGRESS")):
        if chosen not in PROGRESS:
            raise UsageError(f"BUILDKIT_PROGRESS={chosen} is not known", hint=f"it is one of {', '.join(PROGRESS)}")
        return chosen
    return mode


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    policy = _PULL_WORDS.get(options["pull"].lower(), options["pull"])
    if options.pop("offline"):
        if policy not in ("missing", "never"):
            raise UsageError("--offline and --pull contradict each other")
        policy = "never"
    if policy not in _PULL_WORDS.values():
        from imgbuild.buildfile.suggest import did_you_mean

        hint = did_you_mean(policy, ("missing", "always", "newer", "never")) or "it is one of missing, always, newer, never"
        raise UsageError(f"--pull {policy} is not a policy", hint=hint)
    outputs = (*options["outputs"], "type=registry") if options.pop("push") else options["outputs"]
    return {**options, "pull": policy, "outputs": outputs}

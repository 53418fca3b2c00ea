"""``imgbuild build``."""

from __future__ import annotations

from imgbuild.cli.buildx import buildx_options, check_buildx_options
from imgbuild.cli.declare import AtLeast, Choice, argument, command, option
from imgbuild.errors import StepFailed, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from imgbuild.engine.invocation import Invocation
    from imgbuild.engine.replay import Basis, Question
    from imgbuild.engine.workplace import Early

_PULL_WORDS = {
    "missing": "missing", "always": "always", "newer": "newer", "never": "never",
    "true": "always", "1": "always", "false": "missing", "0": "missing",
}  # fmt: skip
"""docker's switch, and podman's policies."""


PROGRESS = ("auto", "tty", "plain", "json", "rawjson", "quiet", "none")


def pull_alone(args: list[str]) -> list[str]:
    """``--pull`` stands alone, as docker has it, or is followed by a policy."""
    for index, word in enumerate(args):
        if word == "--":
            break
        if word == "--pull" and (index + 1 == len(args) or args[index + 1].lower() not in _PULL_WORDS):
            args = [*args[:index], "--pull=always", *args[index + 1 :]]
    return args


@command(rewrite=pull_alone)
@option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="Name of the image; several are possible.")
@option("-f", "--file", metavar="FILE", help="The Buildfile; '-' is stdin. Default: Buildfile, Dockerfile or Containerfile.")
@option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="An ARG; without a value, from the environment.")
@option(
    "--build-context", "contexts", multiple=True, metavar="NAME=PLACE",
    help="A context that stands for an image or stage of that name: a directory, docker-image://NAME or oci-layout://PATH[:TAG].",
)  # fmt: skip
@option("--target", default="", metavar="STAGE", help="Build this stage and what it needs.")
@option("--no-cache", is_flag=True, help="Perform every step.")
@option("--no-cache-filter", multiple=True, metavar="STAGE[,...]", help="Perform every step of these stages.")
@option(
    "--pull", default="missing", metavar="[POLICY]",
    help="When to ask a registry for bases: missing (default), always, newer or never.",
)  # fmt: skip
@option("--offline", is_flag=True, help="The same as --pull never.")
@option("-o", "--output", "outputs", multiple=True, metavar="SPEC", help="type=oci|docker|local|tar|registry,dest=PATH or DIRECTORY.")
@option("--push", is_flag=True, help="Push the tags when the image is done; the same as --output type=registry.")
@option(
    "--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|env=NAME][,keyed=false]",
    help="A secret for RUN --mount=type=secret; with keyed=false, another value performs no step again.",
)  # fmt: skip
@option("--ssh", multiple=True, metavar="ID[=SOCKET|KEY,...]", help="An agent or keys for RUN --mount=type=ssh.")
@option("--allow", multiple=True, metavar="RIGHT", help="What may be: security.insecure, device[=NAME], network.host, secret.leak[=ID].")
@option("--network", default="default", metavar="MODE", help="The network of RUN: default, host or none.")
@option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A line of /etc/hosts; host-gateway is this machine.")
@option("--shm-size", metavar="SIZE", help="The size of /dev/shm in RUN.")
@option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A resource limit of RUN.")
@option("--cgroup-parent", default="", metavar="PATH", help="The control group that those of RUN are made in.")
@option("-m", "--memory", metavar="SIZE", help="The memory of a RUN that names none of its own.")
@option("--memory-swap", metavar="SIZE", help="Memory and swap together; -1 for no limit of swap.")
@option("--cpu-period", metavar="MICROSECONDS", hidden=True, help="What --cpu-quota is a part of; default: 100000.")
@option("--cpu-quota", metavar="MICROSECONDS", hidden=True, help="How long in each period a RUN may use processors.")
@option("--failure-dir", metavar="DIRECTORY", help="Where RUN --on-failure=save=PATH saves to; default: in the store.")
@option("--debug-on-failure", is_flag=True, help="Enter a step that fails, as `imgbuild debug` does; needs a terminal.")
@option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the image.")
@option(
    "--annotation", "annotations", multiple=True, metavar="[LEVEL[PLATFORM]:]NAME=VALUE",
    help="An annotation of the manifest, or of the level that is named: index, manifest-descriptor, index-descriptor.",
)  # fmt: skip
@option("--platform", "platforms", multiple=True, metavar="PLATFORM[,...]", help="What to build for; several make an index.")
@option("--source-date-epoch", metavar="SECONDS", help="Bounds all times in the image; default: $SOURCE_DATE_EPOCH.")
@option("--compression", type=Choice(["zstd", "gzip", "none"]), help="How layers are compressed; default: zstd.")
@option("--parallel", type=AtLeast(1), metavar="N", help="How many steps may run at once.")
@option("--progress", type=Choice(PROGRESS), default="auto", show_default=True, help="Default: $BUILDKIT_PROGRESS, else auto.")
@option("--replay-logs", is_flag=True, help="Show again what cached steps wrote when they were performed.")
@option("-q", "--quiet", is_flag=True, help="Print only the image's ID.")
@option("--iidfile", metavar="FILE", help="Write the image's ID there.")
@option("--metadata-file", metavar="FILE", help="Write what was built there, as JSON.")
@option(
    "--call", default="build", metavar="METHOD[,format=json]", show_default=True,
    help="What to do with the Buildfile: build, check, outline (what a target takes), targets, dockerfile (the plain one it is).",
)  # fmt: skip
@option("--check", is_flag=True, help="The same as --call=check.")
@option("--watch", is_flag=True, help="Build again whenever something that the build reads has changed, until Ctrl-C.")
@option("--format", metavar="FORMAT", help="Of what --call prints: text (default) or json.")
@buildx_options
@argument("context", default=".")
def build(invocation: Invocation, /, **options: Any) -> int:
    """Build an image from a Buildfile and the files of CONTEXT."""
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.replay import Replay, look_up, question, record

    mode = progress_mode(options.pop("quiet"), options.pop("progress"), invocation.environ)
    notices = check_buildx_options(options)
    call, check, format_ = options.pop("call"), options.pop("check"), options.pop("format")
    entered, watched = options.pop("debug_on_failure"), options.pop("watch")
    if watched and (entered or check or call.partition(",")[0] != "build"):
        raise UsageError("--watch builds again and again, and does nothing else", hint="leave out --call, --check and --debug-on-failure")
    if entered:
        from imgbuild.cli.debug import check_terminal

        check_terminal()
    options = checked(options)
    if mode in ("json", "quiet") and options["outputs"]:
        mode = _beside_outputs(mode, options["outputs"])
    if watched:
        from imgbuild.cli.watch import watch_build

        return watch_build(invocation, options, mode, notices)
    asked = None if call != "build" or check or format_ is not None or notices else question(invocation, options)
    known = look_up(asked, invocation.environ) if asked is not None else None
    if isinstance(known, Replay):
        assert asked is not None
        with make_renderer(mode, invocation.environ) as renderer:
            for event in known.events:
                renderer.on_event(event)
            renderer.finish(known)
        record(asked, known)
        return 0
    try:
        return _build(invocation, options, mode, notices, asked, known, ("check" if check else call, format_))
    except StepFailed as error:
        if not (entered and error.kept):
            raise
        from imgbuild.cli.debug import enter_failed

        return enter_failed(invocation, error)


def _build(
    invocation: Invocation,
    options: dict[str, Any],
    mode: str,
    notices: list[str],
    asked: Question | None,
    basis: Basis | None,
    call: tuple[str, str | None],
) -> int:
    from imgbuild.cli.ending import heed_sigterm

    heed_sigterm()
    with _early(invocation, asked, basis, options["context"]) as early:
        from imgbuild.cli.progress import make_renderer
        from imgbuild.engine.build import build_image
        from imgbuild.engine.request import BuildRequest
        from imgbuild.solve.events import Notice

        request = BuildRequest(**options)
        if call != ("build", None):
            from imgbuild.cli.call import answer, parse_call

            wanted = parse_call(*call)
            if wanted.name != "build":
                return answer(invocation, request, wanted)
        with make_renderer(mode, invocation.environ) as renderer:
            for notice in notices:
                renderer.on_event(Notice(notice))
            result = build_image(invocation, request, renderer.on_event, question=asked, early=early, basis=basis)
            renderer.finish(result)
        return 0


def _early(invocation: Invocation, asked: Question | None, basis: Basis | None, context: str) -> AbstractContextManager[Early | None]:
    """The zygote, started before the rest is even loaded, where there will most likely be something for it to do."""
    if asked is not None and basis is None:
        from imgbuild.engine.replay import is_new

        if is_new(asked, context):
            from imgbuild.engine.workplace import early_zygote

            return early_zygote(invocation)
    from imgbuild.light.contextlib import nullcontext

    return nullcontext()


def progress_mode(quiet: bool, mode: str, environ: Mapping[str, str]) -> str:
    """How progress is shown: as the options say, else the environment."""
    if quiet:
        return "quiet"
    if mode == "auto" and (chosen := environ.get("BUILDKIT_PROGRESS")):
        if chosen not in PROGRESS:
            raise UsageError(f"BUILDKIT_PROGRESS={chosen} is not known", hint=f"it is one of {', '.join(PROGRESS)}")
        return chosen
    return mode


def _beside_outputs(mode: str, outputs: tuple[str, ...]) -> str:
    """How progress is shown that is for the standard output, where an output may be written there: nobody could tell the two apart."""
    from imgbuild.engine.output_options import parse_outputs

    try:
        beside = any(output.dest == "-" for output in parse_outputs(outputs))
    except UsageError:
        return mode  # which the build says
    if not beside:
        return mode
    if mode == "json":
        hint = "write the output to a file (dest=FILE), or choose --progress=rawjson, which goes to the standard error"
        raise UsageError("--progress=json and an --output to - both write to the standard output", hint=hint)
    return "none"


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options as a request has them."""
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

"""``imgbuild debug`` and ``cp``: failed steps from the inside, and files out of them, of images and of containers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from imgbuild.cli.streams import say
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import StepFailed, UsageError
from imgbuild.light import json
from imgbuild.light.contextlib import suppress


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-l", "--list", "listing", is_flag=True, help="List the failed steps that are kept.")
@click.option("--continue-step", "again", is_flag=True, help="Run there what the step ran, once more.")
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|env=NAME]", help="A secret: none is kept.")
@click.option("--ssh", multiple=True, metavar="ID[=SOCKET|KEY,...]", help="An agent or keys that the step is given.")
@click.option("-T", "--no-tty", is_flag=True, help="No terminal, even if this is one.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the list.")
@click.argument("failed", default="last", metavar="[last|ID]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def debug(
    invocation: Invocation,
    listing: bool,
    again: bool,
    secrets: tuple[str, ...],
    ssh: tuple[str, ...],
    no_tty: bool,
    form: str,
    failed: str,
    command: tuple[str, ...],
) -> int:
    """Enter a failed step: a shell, or COMMAND, in the state that it left, with its mounts, environment, user and network.

    Nothing that is changed there is kept. Exits as `run` does.
    """
    from imgbuild.engine.debug import DebugRequest, kept_failures
    from imgbuild.engine.debug import debug as enter

    if listing:
        if again or command or failed != "last":
            raise UsageError("--list takes nothing else")
        _list(kept_failures(invocation), form)
        return 0
    if again and command:
        raise UsageError("--continue-step runs the step's own command: leave the other one out")
    terminal = not no_tty and os.isatty(0) and os.isatty(1)
    request = DebugRequest(failed, command, again, terminal, invocation.environ.get("TERM", ""), secrets, ssh)
    outcome = enter(invocation, request, lambda event: say(f"imgbuild: notice: {getattr(event, 'text', '')}", err=True))
    if outcome.message:
        say(f"imgbuild: {outcome.message}", err=True)
    return outcome.exit_code


def check_terminal() -> None:
    """UsageError where nobody could look into a step that fails."""
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("--debug-on-failure needs a terminal", hint="`imgbuild debug` enters the step afterwards")


def enter_failed(invocation: Invocation, error: StepFailed) -> int:
    """Say the error of a step that is kept, and enter it: the error's exit code."""
    from imgbuild.cli.failures import render

    render(error, sys.stderr)
    chosen = [("--root", invocation.root), ("--config", invocation.config)]
    options = [word for name, value in chosen if value for word in (name, value)]
    # A process of its own: this one has had threads, from which no sandbox may be forked. Without the directory that it is in (-P).
    with suppress(KeyboardInterrupt):
        subprocess.run([sys.executable, "-P", "-m", "imgbuild", *options, "debug", error.kept], check=False)
    return error.exit_code


def _list(steps: tuple[object, ...], form: str) -> None:
    from imgbuild.cli.failures import printable
    from imgbuild.cli.progress import human_size
    from imgbuild.cli.tables import duration, shortened, shortened_path, table
    from imgbuild.store.failed import FailedStep

    found = [step for step in steps if isinstance(step, FailedStep)]
    if form == "json":
        names = ("created", "size", "step", "source", "line", "cause", "code", "signal", "usage")
        say(json.dumps([{"id": step.id, **{name: step.facts.get(name) for name in names}} for step in found], indent=2))
        return
    rows = []
    for step in found:
        cause = step.facts.get("cause")
        words = str(cause.get("message", "")) if isinstance(cause, dict) else ""
        place = f"{step.facts.get('source')}:{step.facts.get('line')}"
        age, shown = duration(max(0, int(time.time() - step.created))), shortened(printable(step.name))
        rows.append([step.id, age, human_size(step.size), shortened_path(place), shown, shortened(printable(words))])
    say(table(["ID", "AGE", "SIZE", "PLACE", "STEP", "WHY"], rows))


@click.command()
@click.option("-a", "--archive", is_flag=True, help="Keep owners, set-id bits, attributes and devices.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a symlink leads to, where the source is one.")
@click.option("-q", "--quiet", is_flag=True, hidden=True, help="Accepted: nothing is said anyway.")
@click.option("--platform", metavar="PLATFORM", help="Of an image for several.")
@click.argument("source", metavar="NAME:/PATH")
@click.argument("destination", metavar="DESTINATION|-")
@click.pass_obj
def cp(
    invocation: Invocation, archive: bool, follow: bool, quiet: bool, platform: str | None, source: str, destination: str
) -> None:
    """Copy a file or directory out of an image, a container, a build (build:last) or a failed step (failed:last).

    DESTINATION is as `docker cp` has it: a directory gets the source by its name, NAME:/PATH/. is what is in a directory, and '-' is a tar
    on stdout.
    """
    del quiet
    from imgbuild.engine.copy_out import CopyOutRequest, copy_from

    if ":/" in destination and ":/" not in source:
        raise UsageError("files are copied out, not in", hint="what shall be in an image is copied by its Buildfile: COPY")
    if destination == "-" and os.isatty(1):
        raise UsageError("a tar is not written to a terminal", hint="redirect it, or name a destination")
    copied = copy_from(invocation, CopyOutRequest(source, destination, sys.stdout.buffer.write, archive, follow, platform))
    if copied.left_out:
        say(f"imgbuild: notice: {copied.left_out} devices are left out; --archive makes them", err=True)

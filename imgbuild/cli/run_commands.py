"""``imgbuild run``, ``exec``, ``ps``, ``logs``, ``stop``, ``kill``, ``rm`` and ``wait``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.streams import OutputError
from imgbuild.engine.workplace import Invocation
from imgbuild.errors import ImgbuildError, NotFoundError, UnsupportedError, UsageError
from imgbuild.runtime.outcome import Outcome

if TYPE_CHECKING:
    from imgbuild.runtime.options import ExecOptions, RunOptions

_COMMAND = {"allow_interspersed_args": False}  # what follows the image or the container is the command's own


def _refused(*names: str, why: str, flag: bool = False) -> Callable[[Any], Any]:
    """An option that other tools have and that is not performed here: said, not ignored."""

    def refuse(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        if value:
            raise UnsupportedError(f"{names[-1]} is not supported yet", hint=why)

    return click.option(*names, is_flag=flag, multiple=not flag, hidden=True, expose_value=False, callback=refuse)


@click.command(context_settings=_COMMAND)
@click.option("--rm", "auto_remove", is_flag=True, help="Remove the container when it ends.")
@click.option("-i", "--interactive", is_flag=True, help="Give the container this command's standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give the container a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave the container running and print its id.")
@click.option("--name", default="", metavar="NAME", help="The container's name; default: one made up.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without a value, from this environment.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Set the variables that are in FILE.")
@click.option("-v", "--volume", "volumes", multiple=True, metavar="[SOURCE:]TARGET[:ro]", help="Mount a path or a volume.")
@click.option("--mount", "mounts", multiple=True, metavar="type=TYPE,src=..,dst=..", help="Mount; types: bind, volume, tmpfs.")
@click.option("--tmpfs", "tmpfs", multiple=True, metavar="TARGET[:OPTIONS]", help="Mount a tmpfs.")
@click.option("-w", "--workdir", default="", metavar="DIR", help="The working directory.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who the command runs as.")
@click.option("--entrypoint", metavar="PROGRAM", help="Replace the image's ENTRYPOINT; its CMD is dropped too.")
@click.option("--network", "--net", default="host", metavar="none|host", show_default=True, help="The container's network.")
@click.option("--memory", "-m", metavar="SIZE", help="Limit of memory.")
@click.option("--memory-swap", metavar="SIZE", help="Limit of memory and swap together; -1: none.")
@click.option("--cpus", metavar="NUMBER", help="Limit of processors, as 0.5.")
@click.option("--pids-limit", metavar="NUMBER", help="Limit of processes; -1: none.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of setrlimit(2).")
@click.option("--shm-size", metavar="SIZE", help="The size of /dev/shm.")
@click.option("--read-only", is_flag=True, help="Let nothing be written to the root file system.")
@click.option("--cap-add", multiple=True, metavar="NAME", help="Add a capability, or ALL.")
@click.option("--cap-drop", multiple=True, metavar="NAME", help="Take a capability, or ALL, away.")
@click.option("--security-opt", "security", multiple=True, metavar="OPTION", help="no-new-privileges; seccomp=unconfined.")
@click.option("--sysctl", "sysctls", multiple=True, metavar="NAME=VALUE", help="Set a kernel parameter of the container's namespaces.")
@click.option("-h", "--hostname", default="", metavar="NAME", help="The host name; default: the start of the id.")
@click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A line of /etc/hosts.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the container.")
@click.option("--stop-signal", default="", metavar="SIGNAL", help="What `stop` sends.")
@click.option("--stop-timeout", type=float, metavar="SECONDS", help="How long `stop` waits before it kills; default: 10.")
@click.option("--pull", default="missing", type=click.Choice(["missing", "always", "newer", "never"]), show_default=True)
@click.option("--platform", default="", metavar="OS/ARCH", help="The platform of the image.")
@click.option("--cidfile", default="", metavar="FILE", help="Write the container's id to FILE.")
@click.option("-q", "--quiet", is_flag=True, help="Don't show the progress of a pull.")
@_refused("-p", "--publish", why="with --network host, which is the default, every port is the host's")
@_refused("-P", "--publish-all", why="with --network host, which is the default, every port is the host's", flag=True)
@_refused("--privileged", why="give what is needed by --cap-add, --security-opt and -v", flag=True)
@_refused("--init", why="the command is process 1; let it run below a small init of the image", flag=True)
@_refused("--restart", why="there is no daemon: let the machine's service manager run `imgbuild run`")
@_refused("--device", why="mount the device with -v; access to it is not granted yet")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(invocation: Invocation, /, image: str, quiet: bool, pull: str, platform: str, cidfile: str, **words: Any) -> int:
    """Run COMMAND, or the image's own, in a new container of IMAGE.

    Exits with the command's code, 128+n where signal n ended it, 127 where it is not found, 126 where it can't be executed,
    and 125 where imgbuild itself failed.
    """
    from imgbuild.cli.run_options import run_options
    from imgbuild.engine.containers import RunRequest, run_detached
    from imgbuild.engine.containers import run as run_container

    options = run_options(words, invocation.environ, os.getcwd())
    _check_terminal(options)
    request = RunRequest(image, options, pull, platform, cidfile)
    on_event = _progress(quiet)
    if not options.detach:
        return _ended(run_container(invocation, request, on_event))
    container, outcome = run_detached(invocation, request, on_event)
    if container:
        click.echo(container)
    return _ended(outcome)


@click.command("exec", context_settings=_COMMAND)
@click.option("-i", "--interactive", is_flag=True, help="Give the command this one's standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave the command running.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without a value, from this environment.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Set the variables that are in FILE.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who the command runs as; default: as the container.")
@click.option("-w", "--workdir", default="", metavar="DIR", help="The working directory; default: the container's.")
@click.argument("container")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def exec_(invocation: Invocation, /, container: str, **words: Any) -> int:
    """Run COMMAND in a running CONTAINER."""
    from imgbuild.cli.run_options import exec_options
    from imgbuild.engine.containers import execute

    options = exec_options(words, invocation.environ)
    _check_terminal(options)
    return _ended(execute(invocation, container, options))


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also the containers that are not running.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="N", help="The newest N, whatever their state.")
@click.option("-l", "--latest", is_flag=True, help="The newest, whatever its state.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="id, name, label, status, ancestor, exited.")
@click.option("--format", "form", default="table", metavar="FORM", help="table, json (an object a line), or a {{.Field}} template.")
@click.pass_obj
def ps(invocation: Invocation, /, everything: bool, last: int | None, latest: bool, filters: tuple[str, ...], **how: Any) -> int:
    """List containers."""
    import time

    from imgbuild.cli.container_table import chosen, listing
    from imgbuild.engine.containers import containers

    limit = 1 if latest else last
    records = chosen(containers(invocation), filters, everything=everything, last=limit)
    for line in listing(records, now=time.time(), **how):
        click.echo(line)
    return 0


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option("-n", "--tail", default="all", metavar="N", help="Only the last N lines.")
@click.option("-t", "--timestamps", is_flag=True, help="Put its time before each line.")
@click.argument("container")
@click.pass_obj
def logs(invocation: Invocation, container: str, follow: bool, tail: str, timestamps: bool) -> int:
    """Show what a container has written."""
    from imgbuild.engine.containers import logs as entries

    if tail != "all" and not (tail.isascii() and tail.isdecimal()):
        raise UsageError(f"--tail {tail!r} is not a number of lines")
    out, err = sys.stdout.buffer, sys.stderr.buffer
    for entry in entries(invocation, container, tail=None if tail == "all" else int(tail), follow=follow):
        stream = err if entry.stream == "stderr" else out
        stream.write((f"{entry.time} ".encode() if timestamps else b"") + entry.data)
        if follow or stream is err:
            stream.flush()
    return 0


@click.command()
@click.option("-t", "--time", "seconds", type=float, metavar="SECONDS", help="How long to wait before killing; -1: for ever.")
@click.argument("container", nargs=-1, required=True)
@click.pass_obj
def stop(invocation: Invocation, container: tuple[str, ...], seconds: float | None) -> int:
    """Ask containers to end, and kill those that do not."""
    from imgbuild.engine.containers import stop as stop_container

    return _each(container, lambda name: stop_container(invocation, name, seconds))


@click.command()
@click.option("-s", "--signal", "signal_name", default="KILL", metavar="SIGNAL", show_default=True, help="What to send.")
@click.argument("container", nargs=-1, required=True)
@click.pass_obj
def kill(invocation: Invocation, container: tuple[str, ...], signal_name: str) -> int:
    """Signal running containers."""
    from imgbuild.engine.containers import kill as kill_container
    from imgbuild.runtime.options import parse_signal

    number = parse_signal(signal_name)
    return _each(container, lambda name: kill_container(invocation, name, number))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill running ones, and don't mind missing ones.")
@click.option("-v", "--volumes", is_flag=True, help="Accepted: anonymous volumes always go with their container.")
@click.argument("container", nargs=-1, required=True)
@click.pass_obj
def rm(invocation: Invocation, container: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers with what they wrote."""
    from imgbuild.engine.containers import remove

    def remove_one(name: str) -> None:
        try:
            remove(invocation, name, force=force)
        except NotFoundError:
            if not force:
                raise

    return _each(container, remove_one)


@click.command()
@click.argument("container", nargs=-1, required=True)
@click.pass_obj
def wait(invocation: Invocation, container: tuple[str, ...]) -> int:
    """Wait until containers have ended; print their exit codes."""
    from imgbuild.engine.containers import wait as wait_for

    return _each(container, lambda name: wait_for(invocation, name))


def _check_terminal(options: RunOptions | ExecOptions) -> None:
    if options.terminal and options.interactive and not options.detach and not os.isatty(0):
        raise UsageError("standard input is not a terminal", hint="leave out -t, or -i")


def _each(names: tuple[str, ...], act: Callable[[str], int | None]) -> int:
    """Do it for each; all are tried, and the first error decides the exit code."""
    from imgbuild.cli.failures import render

    code = 0
    for name in names:
        try:
            result = act(name)
        except ImgbuildError as error:
            render(error, sys.stderr)
            code = code or error.exit_code
            continue
        click.echo(name if result is None else result)
    return code


def _ended(outcome: Outcome) -> int:
    if outcome.message:
        with suppress(OutputError):  # the command's own code says more
            click.echo(f"imgbuild: {outcome.message}", err=True)
    return outcome.exit_code


def _progress(quiet: bool) -> Callable[[object], None]:
    """Notices, and one line when a pull begins, on the standard error: a run should not write more than its container."""

    def show(event: object) -> None:
        kind = type(event).__name__
        if kind == "TransferStarted" and not quiet:
            click.echo(f"imgbuild: pulling {getattr(event, 'name', 'the image')}", err=True)
        elif kind == "Notice":
            click.echo(f"imgbuild: notice: {getattr(event, 'text', '')}", err=True)

    return show

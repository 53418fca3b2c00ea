"""``imgbuild run``, ``exec``, ``ps``, ``logs``, ``stop``, ``kill``, ``rm`` and ``wait``."""

from __future__ import annotations

import os
import sys

from imgbuild.cli.declare import AtLeast, Choice, Unprocessed, argument, command, option
from imgbuild.cli.streams import OutputError, say
from imgbuild.errors import ImgbuildError, NotFoundError, UnsupportedError, UsageError
from imgbuild.light.contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from imgbuild.engine.invocation import Invocation
    from imgbuild.runtime.options import ExecOptions, RunOptions
    from imgbuild.runtime.outcome import Outcome

# Not interspersed: what follows the image or the container is the command's own.


def _refused(*names: str, why: str, flag: bool = False) -> Callable[[Any], Any]:
    """An option that other tools have and that is not performed here: said, not ignored."""

    def refuse(context: object, parameter: object, value: object) -> None:
        if value:
            raise UnsupportedError(f"{names[-1]} is not supported yet", hint=why)

    return option(*names, is_flag=flag, multiple=not flag, hidden=True, expose_value=False, callback=refuse)


@command(interspersed=False)
@option("--rm", "auto_remove", is_flag=True, help="Remove the container when it ends.")
@option("-i", "--interactive", is_flag=True, help="Give the container this command's standard input.")
@option("-t", "--tty", is_flag=True, help="Give the container a terminal.")
@option("-d", "--detach", is_flag=True, help="Leave the container running and print its id.")
@option("--name", default="", metavar="NAME", help="The container's name; default: one made up.")
@option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without a value, from this environment.")
@option("--env-file", "env_files", multiple=True, metavar="FILE", help="Set the variables that are in FILE.")
@option("-v", "--volume", "volumes", multiple=True, metavar="[SOURCE:]TARGET[:ro]", help="Mount a path or a volume.")
@option("--mount", "mounts", multiple=True, metavar="type=TYPE,src=..,dst=..", help="Mount; types: bind, volume, tmpfs.")
@option("--tmpfs", "tmpfs", multiple=True, metavar="TARGET[:OPTIONS]", help="Mount a tmpfs.")
@option("-w", "--workdir", default="", metavar="DIR", help="The working directory.")
@option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who the command runs as.")
@option("--entrypoint", metavar="PROGRAM", help="Replace the image's ENTRYPOINT; its CMD is dropped too.")
@option("--network", "--net", default="host", metavar="none|host", show_default=True, help="The container's network.")
@option("--memory", "-m", metavar="SIZE", help="Limit of memory.")
@option("--memory-swap", metavar="SIZE", help="Limit of memory and swap together; -1: none.")
@option("--cpus", metavar="NUMBER", help="Limit of processors, as 0.5.")
@option("--pids-limit", metavar="NUMBER", help="Limit of processes; -1: none.")
@option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of setrlimit(2).")
@option("--shm-size", metavar="SIZE", help="The size of /dev/shm.")
@option("--read-only", is_flag=True, help="Let nothing be written to the root file system.")
@option("--cap-add", multiple=True, metavar="NAME", help="Add a capability, or ALL.")
@option("--cap-drop", multiple=True, metavar="NAME", help="Take a capability, or ALL, away.")
@option("--security-opt", "security", multiple=True, metavar="OPTION", help="no-new-privileges; seccomp=unconfined.")
@option("--sysctl", "sysctls", multiple=True, metavar="NAME=VALUE", help="Set a kernel parameter of the container's namespaces.")
@option("-h", "--hostname", default="", metavar="NAME", help="The host name; default: the start of the id.")
@option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="A line of /etc/hosts.")
@option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the container.")
@option("--stop-signal", default="", metavar="SIGNAL", help="What `stop` sends.")
@option("--stop-timeout", type=float, metavar="SECONDS", help="How long `stop` waits before it kills; default: 10.")
@option("--pull", default="missing", type=Choice(["missing", "always", "newer", "never"]), show_default=True)
@option("--platform", default="", metavar="OS/ARCH", help="The platform of the image.")
@option("--cidfile", default="", metavar="FILE", help="Write the container's id to FILE.")
@option("-q", "--quiet", is_flag=True, help="Don't show the progress of a pull.")
@option("--watch", is_flag=True, help="Run it again whenever IMAGE is another one; a directory (./DIR) is built, and built again.")
@_refused("-p", "--publish", why="with --network host, which is the default, every port is the host's")
@_refused("-P", "--publish-all", why="with --network host, which is the default, every port is the host's", flag=True)
@_refused("--privileged", why="give what is needed by --cap-add, --security-opt and -v", flag=True)
@_refused("--init", why="the command is process 1; let it run below a small init of the image", flag=True)
@_refused("--restart", why="there is no daemon: let the machine's service manager run `imgbuild run`")
@_refused("--device", why="mount the device with -v; access to it is not granted yet")
@argument("image")
@argument("command", nargs=-1, type=Unprocessed())
def run(invocation: Invocation, /, image: str, quiet: bool, pull: str, platform: str, cidfile: str, watch: bool, **words: Any) -> int:
    """Run COMMAND, or the image's own, in a new container of IMAGE.

    Exits with the command's code, 128+n where signal n ended it, 127 where it is not found, 126 where it can't be executed,
    and 125 where imgbuild itself failed.
    """
    from imgbuild.cli.run_options import run_options
    from imgbuild.engine.containers import RunRequest, run_detached
    from imgbuild.engine.containers import run as run_container

    options = run_options(words, invocation.environ, os.getcwd())
    if watch:
        if cidfile:
            raise UsageError("--watch makes one container after another, and so has no use for --cidfile", hint="give them a --name")
        from imgbuild.cli.watch_run import watch_run

        return watch_run(invocation, image, platform, words)
    _check_terminal(options)
    request = RunRequest(image, options, pull, platform, cidfile)
    on_event = _progress(quiet)
    if not options.detach:
        return _ended(run_container(invocation, request, on_event))
    container, outcome = run_detached(invocation, request, on_event)
    if container:
        say(container)
    return _ended(outcome)


@command("exec", interspersed=False)
@option("-i", "--interactive", is_flag=True, help="Give the command this one's standard input.")
@option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@option("-d", "--detach", is_flag=True, help="Leave the command running.")
@option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without a value, from this environment.")
@option("--env-file", "env_files", multiple=True, metavar="FILE", help="Set the variables that are in FILE.")
@option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who the command runs as; default: as the container.")
@option("-w", "--workdir", default="", metavar="DIR", help="The working directory; default: the container's.")
@argument("container")
@argument("command", nargs=-1, type=Unprocessed(), required=True)
def exec_(invocation: Invocation, /, container: str, **words: Any) -> int:
    """Run COMMAND in a running CONTAINER."""
    from imgbuild.cli.run_options import exec_options
    from imgbuild.engine.containers import execute

    options = exec_options(words, invocation.environ)
    _check_terminal(options)
    return _ended(execute(invocation, container, options))


@command()
@option("-a", "--all", "everything", is_flag=True, help="Also the containers that are not running.")
@option("-q", "--quiet", is_flag=True, help="Ids only.")
@option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@option("-n", "--last", type=AtLeast(0), metavar="N", help="The newest N, whatever their state.")
@option("-l", "--latest", is_flag=True, help="The newest, whatever its state.")
@option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="id, name, label, status, ancestor, exited.")
@option("--format", "form", default="table", metavar="FORM", help="table, json (an object a line), or a {{.Field}} template.")
def ps(invocation: Invocation, /, everything: bool, last: int | None, latest: bool, filters: tuple[str, ...], **how: Any) -> int:
    """List containers."""
    import time

    from imgbuild.cli.container_table import chosen, listing
    from imgbuild.engine.containers import containers

    limit = 1 if latest else last
    records = chosen(containers(invocation), filters, everything=everything, last=limit)
    for line in listing(records, now=time.time(), **how):
        say(line)
    return 0


@command()
@option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@option("-n", "--tail", default="all", metavar="N", help="Only the last N lines.")
@option("-t", "--timestamps", is_flag=True, help="Put its time before each line.")
@argument("container")
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


@command()
@option("-t", "--time", "seconds", type=float, metavar="SECONDS", help="How long to wait before killing; -1: for ever.")
@argument("container", nargs=-1, required=True)
def stop(invocation: Invocation, container: tuple[str, ...], seconds: float | None) -> int:
    """Ask containers to end, and kill those that do not."""
    from imgbuild.engine.containers import stop as stop_container

    return _each(container, lambda name: stop_container(invocation, name, seconds))


@command()
@option("-s", "--signal", "signal_name", default="KILL", metavar="SIGNAL", show_default=True, help="What to send.")
@argument("container", nargs=-1, required=True)
def kill(invocation: Invocation, container: tuple[str, ...], signal_name: str) -> int:
    """Signal running containers."""
    from imgbuild.engine.containers import kill as kill_container
    from imgbuild.runtime.options import parse_signal

    number = parse_signal(signal_name)
    return _each(container, lambda name: kill_container(invocation, name, number))


@command()
@option("-f", "--force", is_flag=True, help="Kill running ones, and don't mind missing ones.")
@option("-v", "--volumes", is_flag=True, help="Accepted: anonymous volumes always go with their container.")
@argument("container", nargs=-1, required=True)
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


@command()
@argument("container", nargs=-1, required=True)
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
        say(name if result is None else result)
    return code


def _ended(outcome: Outcome) -> int:
    if outcome.message:
        with suppress(OutputError):  # the command's own code says more
            say(f"imgbuild: {outcome.message}", err=True)
    return outcome.exit_code


def _progress(quiet: bool) -> Callable[[object], None]:
    """Notices, and one line when a pull begins, on the standard error: a run should not write more than its container."""

    def show(event: object) -> None:
        kind = type(event).__name__
        if kind == "TransferStarted" and not quiet:
            say(f"imgbuild: pulling {getattr(event, 'name', 'the image')}", err=True)
        elif kind == "Notice":
            say(f"imgbuild: notice: {getattr(event, 'text', '')}", err=True)

    return show

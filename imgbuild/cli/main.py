"""The entry point: commands are found by name and imported only when used, and every error is rendered here, once."""

from __future__ import annotations

import gc
import os
import sys

from imgbuild.cli import quick, streams
from imgbuild.cli.declare import Command
from imgbuild.cli.ending import Terminated, heed_sigterm
from imgbuild.errors import ImgbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imgbuild.engine.invocation import Invocation

_COMMANDS = {
    "build": "imgbuild.cli.build:build",
    "bake": "imgbuild.cli.bake:bake",
    "builds": "imgbuild.cli.builds:builds",
    "explain": "imgbuild.cli.explain:explain",
    "plan": "imgbuild.cli.plan:plan",
    "advise": "imgbuild.cli.advise:advise",
    "report": "imgbuild.cli.report:report",
    "run": "imgbuild.cli.run_commands:run",
    "ps": "imgbuild.cli.run_commands:ps",
    "exec": "imgbuild.cli.run_commands:exec_",
    "logs": "imgbuild.cli.run_commands:logs",
    "stop": "imgbuild.cli.run_commands:stop",
    "kill": "imgbuild.cli.run_commands:kill",
    "rm": "imgbuild.cli.run_commands:rm",
    "wait": "imgbuild.cli.run_commands:wait",
    "debug": "imgbuild.cli.debug:debug",
    "cp": "imgbuild.cli.debug:cp",
    "images": "imgbuild.cli.images:images",
    "inspect": "imgbuild.cli.images:inspect",
    "history": "imgbuild.cli.images:history",
    "diff": "imgbuild.cli.diff:diff",
    "blame": "imgbuild.cli.blame:blame",
    "bisect": "imgbuild.cli.bisect:bisect",
    "repro": "imgbuild.cli.repro:repro",
    "cache": "imgbuild.cli.cache:cache",
    "tag": "imgbuild.cli.images:tag",
    "rmi": "imgbuild.cli.images:rmi",
    "prune": "imgbuild.cli.upkeep:prune",
    "du": "imgbuild.cli.upkeep:du",
    "fsck": "imgbuild.cli.upkeep:fsck",
    "save": "imgbuild.cli.archives:save",
    "load": "imgbuild.cli.archives:load",
    "import": "imgbuild.cli.archives:import_",
    "unpack": "imgbuild.cli.archives:unpack",
    "pull": "imgbuild.cli.registries:pull",
    "push": "imgbuild.cli.registries:push",
    "login": "imgbuild.cli.registries:login",
    "logout": "imgbuild.cli.registries:logout",
}

_DECLARED = ("build", "run", "ps", "exec", "logs", "stop", "kill", "rm", "wait")
"""Those that are started often, and so are declared in a form that can be read without click."""

_OVER_AT_ONCE = ("build",)
"""Those that may be, and heed signals themselves when they are not."""

_COMPLETION = "_IMGBUILD_COMPLETE"
"""What click is asked to complete a line by."""


def _invocation(root: str | None, config: str | None, debug: bool, *, ends: bool = False) -> Invocation:
    from imgbuild.engine.invocation import Invocation

    return Invocation(environ=dict(os.environ), root=root, config=config, debug=debug, ends=ends)


def _last_invocation(root: str | None, config: str | None, debug: bool) -> Invocation:
    return _invocation(root, config, debug, ends=True)


def main(argv: Sequence[str] | None = None, *, at_end: Callable[[], None] | None = None) -> None:
    """Run the command line and exit with its code; without `argv`, which means the words of this process, at once, after `at_end`.

    Nothing is left to be done then: what was acquired was a ``with``. To take the interpreter down piece by piece costs a tenth of a
    short command, for objects that the kernel frees anyway.
    """
    streams.fill()
    streams.guard()
    # Imports make tens of thousands of objects that stay: to look for cycles among them again and again is a tenth of a short command.
    gc.set_threshold(100_000, 50, 50)
    code = _run(list(sys.argv[1:]), _last_invocation) if argv is None else _run(list(argv), _invocation)
    streams.flush()
    if at_end is not None:
        at_end()
    if argv is None:
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str], invocation: Callable[..., Invocation]) -> int:
    container_command = _command_name(arguments) in ("run", "exec", "debug")
    return bounded(lambda: _perform(arguments, invocation, container_command), debug="--debug" in arguments, container=container_command)


def _perform(arguments: list[str], invocation: Callable[..., Invocation], container: bool) -> int:
    result = _quickly(arguments, invocation)
    if result is None:
        from imgbuild.cli.commands import perform

        heed_sigterm()
        result = perform(_COMMANDS, invocation, arguments, container=container)
    return result


def bounded(perform: Callable[[], int], *, debug: bool = False, container: bool = False) -> int:
    """The exit code of what is performed; its errors are rendered here, and nowhere else."""
    try:
        code = perform()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        streams.last_words(lambda: sys.stderr.write("\n"))  # below the terminal's ^C
        code = 130
    except Terminated:
        code = 143
    except streams.OutputUnread as error:
        code = error.exit_code
    except ImgbuildError as error:
        from imgbuild.cli.failures import render

        failure = error
        streams.last_words(lambda: render(failure, sys.stderr))
        code = 125 if container else error.exit_code
    except Exception as error:  # the last boundary: no traceback for users
        if debug:
            raise
        from imgbuild.cli.failures import render_unexpected

        unexpected = error
        streams.last_words(lambda: render_unexpected(unexpected, sys.stderr))
        code = 125 if container else 70
    return code


def _quickly(arguments: list[str], invocation: Callable[..., Invocation]) -> int | None:
    """Perform a command whose line is plain; None, and nothing is done, where click has to read it."""
    line = quick.split(arguments)
    if line is None or line[1] not in _DECLARED or _COMPLETION in os.environ:
        return None
    given, name, rest = line
    module, _, attribute = _COMMANDS[name].partition(":")
    __import__(module)  # importlib's own way brings in warnings
    command = getattr(sys.modules[module], attribute)
    assert isinstance(command, Command)
    words = quick.read(command, rest)
    if words is None:
        return None
    if name not in _OVER_AT_ONCE:
        heed_sigterm()
    result = command.function(invocation(**given), **words)
    return result if isinstance(result, int) else 0


def _command_name(arguments: Sequence[str]) -> str:
    """The command among the arguments: the first word that is neither an option nor the value of one."""
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word in ("--root", "--config"):
            skip = True
        elif not word.startswith("-"):
            return word
    return ""

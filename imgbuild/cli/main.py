"""The entry point: commands are found by name and imported only when used, and every error is rendered here, once."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType

import click

from imgbuild import __version__
from imgbuild.cli import streams
from imgbuild.errors import ImgbuildError

_COMMANDS = {
    "build": "imgbuild.cli.build:build",
    "bake": "imgbuild.cli.bake:bake",
    "run": "imgbuild.cli.run_commands:run",
    "ps": "imgbuild.cli.run_commands:ps",
    "exec": "imgbuild.cli.run_commands:exec_",
    "logs": "imgbuild.cli.run_commands:logs",
    "stop": "imgbuild.cli.run_commands:stop",
    "kill": "imgbuild.cli.run_commands:kill",
    "rm": "imgbuild.cli.run_commands:rm",
    "wait": "imgbuild.cli.run_commands:wait",
    "images": "imgbuild.cli.images:images",
    "inspect": "imgbuild.cli.images:inspect",
    "history": "imgbuild.cli.images:history",
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


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            from imgbuild.buildfile.suggest import did_you_mean

            hint = did_you_mean(args[0], _COMMANDS)
            ctx.fail(f"there is no command {args[0]!r}" + (f": {hint}" if hint else "; see 'imgbuild --help'"))
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imgbuild", message="%(prog)s %(version)s")
@click.option("--root", metavar="DIR", help="The store; default: $IMGBUILD_ROOT, else the usual state directory.")
@click.option("--config", metavar="FILE", help="The settings file; default: $IMGBUILD_CONFIG, else imgbuild.yaml in the usual place.")
@click.option("--debug", is_flag=True, help="Show what sandboxes are made of, and tracebacks of internal errors.")
@click.pass_context
def cli(ctx: click.Context, root: str | None, config: str | None, debug: bool) -> None:
    """Build OCI images from Buildfiles (every Dockerfile is one), run them, and push them. No daemon."""
    from imgbuild.engine.workplace import Invocation

    ctx.obj = Invocation(environ=dict(os.environ), root=root, config=config, debug=debug)


class _Terminated(BaseException):
    """SIGTERM came: everything is let go of, as with Ctrl-C."""


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    # Once: a second one must not interrupt the clean-up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; without `argv`, which means the words of this process, at once.

    Nothing is left to be done then: what was acquired was a ``with``. To take the interpreter down piece by piece costs a tenth of a
    short command, for objects that the kernel frees anyway.
    """
    streams.fill()
    streams.guard()
    # Imports make tens of thousands of objects that stay: to look for cycles among them again and again is a tenth of a short command.
    gc.set_threshold(100_000, 50, 50)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)
    code = _run(list(sys.argv[1:] if argv is None else argv))
    streams.flush()
    if argv is None:
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    container_command = _command_name(arguments) in ("run", "exec")
    try:
        result = cli.main(args=arguments, prog_name="imgbuild", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
        sys.stderr.flush()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        with suppress(streams.OutputError):
            error.show()
        code = 125 if container_command else error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except _Terminated:
        code = 143
    except streams.OutputUnread as error:
        code = error.exit_code
    except ImgbuildError as error:
        from imgbuild.cli.failures import render

        with suppress(streams.OutputError):
            render(error, sys.stderr)
        code = 125 if container_command else error.exit_code
    except Exception as error:  # the last boundary: no traceback for users
        if debug:
            raise
        from imgbuild.cli.failures import render_unexpected

        with suppress(streams.OutputError):
            render_unexpected(error, sys.stderr)
        code = 125 if container_command else 70
    return code


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

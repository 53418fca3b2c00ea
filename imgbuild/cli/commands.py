"""The command line as click reads it: all commands, with help, errors and suggestions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from imgbuild import __version__
from imgbuild.cli import streams
from imgbuild.cli.declare import AtLeast, Choice, Command, Parameter, Unprocessed
from imgbuild.hints import Callable, Mapping, Sequence
from imgbuild.light.contextlib import suppress

CONTAINER_ERROR = 125
"""The exit code of `run`, `exec` and `debug` for errors of our own."""


class _Commands(click.Group):
    """Commands that are imported when they are used. `places` has a module and attribute for each name."""

    def __init__(self, *args: Any, places: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, Command):
            command = as_click(command)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._places:
            from imgbuild.buildfile.suggest import did_you_mean

            hint = did_you_mean(args[0], self._places)
            ctx.fail(f"there is no command {args[0]!r}" + (f": {hint}" if hint else "; see 'imgbuild --help'"))
        return super().resolve_command(ctx, args)


class _Rewriting(click.Command):
    """A command whose words are rewritten before they are read."""

    def __init__(self, *args: Any, rewrite: Callable[[list[str]], list[str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._rewrite = rewrite

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._rewrite(args))


def perform(
    places: Mapping[str, str], invoked: Callable[[str | None, str | None, bool], object], arguments: Sequence[str], *, container: bool
) -> int:
    """Read the arguments and run the command: its exit code. `invoked` makes what commands are given of the options before them."""
    try:
        result = _group(places, invoked).main(args=list(arguments), prog_name="imgbuild", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):
            error = click.NoSuchOption(error.option_name, possibilities=_near_options(error), ctx=error.ctx)
        with suppress(streams.OutputError):
            error.show()
        return CONTAINER_ERROR if container else error.exit_code
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _near_options(error: click.NoSuchOption) -> list[str]:
    """The option that may have been meant, by our own measure: click's finds something for nearly every word."""
    from imgbuild.buildfile.suggest import meant

    parameters = error.ctx.command.params if error.ctx is not None else []
    known = [name[2:] for parameter in parameters for name in parameter.opts if name.startswith("--")]
    near = meant(error.option_name.lstrip("-"), known)
    return [] if near is None else [f"--{near}"]


def as_click(declared: Command) -> click.Command:
    """A declared command as one of click's."""

    def called(invocation: object, /, **words: Any) -> Any:
        return declared.function(invocation, **words)

    called.__doc__ = declared.function.__doc__
    function: Callable[..., Any] = click.pass_obj(called)
    for parameter in reversed(declared.parameters):
        decorate = click.argument if parameter.positional else click.option
        function = decorate(*parameter.declarations, **_attributes(parameter))(function)
    settings = {"allow_interspersed_args": declared.interspersed}
    if declared.rewrite is not None:
        return click.command(declared.name, cls=_Rewriting, rewrite=declared.rewrite, context_settings=settings)(function)
    return click.command(declared.name, context_settings=settings)(function)


def _attributes(parameter: Parameter) -> dict[str, Any]:
    kind = parameter.attributes.get("type")
    if isinstance(kind, Choice):
        return {**parameter.attributes, "type": click.Choice(kind.words)}
    if isinstance(kind, AtLeast):
        return {**parameter.attributes, "type": click.IntRange(min=kind.least)}
    if isinstance(kind, Unprocessed):
        return {**parameter.attributes, "type": click.UNPROCESSED}
    return parameter.attributes


def _group(places: Mapping[str, str], invoked: Callable[[str | None, str | None, bool], object]) -> click.Group:
    @click.group(cls=_Commands, places=places, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="imgbuild", message="%(prog)s %(version)s")
    @click.option("--root", metavar="DIR", help="The store; default: $IMGBUILD_ROOT, else the usual state directory.")
    @click.option("--config", metavar="FILE", help="The settings file; default: $IMGBUILD_CONFIG, else imgbuild.yaml in the usual place.")
    @click.option("--debug", is_flag=True, help="Show what sandboxes are made of, and tracebacks of internal errors.")
    @click.pass_context
    def cli(ctx: click.Context, root: str | None, config: str | None, debug: bool) -> None:
        """Build OCI images from Buildfiles (every Dockerfile is one), run them, and push them. No daemon."""
        ctx.obj = invoked(root, config, debug)

    assert isinstance(cli, click.Group)
    return cli


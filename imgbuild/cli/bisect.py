"""``imgbuild bisect``: after which step a command begins to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.failures import printable
from imgbuild.engine.invocation import Invocation
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.bisect import Found, State, Tested

UNDECIDED = 1


@click.command()
@click.argument("subject", default="build:last", metavar="[BUILD|IMAGE]")
@click.argument("other", required=False, metavar="[OTHER]")
@click.option("--test", "command", required=True, metavar="CMD", help="What /bin/sh runs: 0 is good, 125 can't tell, all else is bad.")
@click.option("--good", type=int, metavar="N", help="The number of a step (#N) after which it succeeds; 0 is the base.")
@click.option("--bad", type=int, metavar="N", help="The number of a step after which it fails.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who CMD runs as; default: the image's user.")
@click.option("--network", type=click.Choice(["host", "none"]), default="host", show_default=True, help="The network of CMD.")
@click.option("--platform", metavar="PLATFORM", help="Which image of an index; default: this machine's.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what was found; CMD's output is not shown.")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def bisect(invocation: Invocation, /, network: str, quiet: bool, format_: str, **words: Any) -> int:
    """Find the step of BUILD (build:last by default), or of the build that made IMAGE, after which CMD begins to fail. CMD runs in a
    container of what is there after a step; few steps are tried, by halves.

    With OTHER, CMD succeeds in the first image or build and fails in the second: which of their differences is to blame?

    Ends with 0 where it was found, with 1 where steps that could not be tried leave several.
    """
    from imgbuild.engine.bisect import BisectRequest
    from imgbuild.engine.bisect import bisect as find

    tested: list[Tested] = []

    def on_tested(test: Tested) -> None:
        tested.append(test)
        if not quiet:
            click.echo(printable(f"{test.verdict}: {_named(test.state)}{_why(test)}"), err=True)

    request = BisectRequest(network=network == "host", quiet=quiet, **words)
    found = find(invocation, request, on_tested)
    if format_ == "json":
        click.echo(json.dumps(_json(found, tested), indent=2))
    else:
        for line in _lines(found):
            click.echo(printable(line))
    return 0 if len(found.first) == 1 else UNDECIDED


def _named(state: State) -> str:
    number = f"#{state.number} " if state.number else ""
    return f"{number}{' '.join(state.text.split())}" + (f"  ({state.place})" if state.place else "")


def _why(test: Tested) -> str:
    if test.code is None:
        return f"  [{test.problem}]"
    return f"  [exit code {test.code}]" if test.code else ""


def _lines(found: Found) -> list[str]:
    if len(found.first) == 1:
        return [f"the first {found.what} with which it fails is {_named(found.first[0])}"]
    head = f"the first {found.what} with which it fails is one of these; all but the last could not be tested:"
    return [head, *(f"  {_named(state)}" for state in found.first)]


def _json(found: Found, tested: list[Tested]) -> dict[str, Any]:
    return {
        "counts": found.what,
        "first_bad": [_state(state) for state in found.first],
        "last_good": _state(found.before),
        "tested": [{**_state(each.state), "verdict": each.verdict, "exit_code": each.code, "problem": each.problem} for each in tested],
    }


def _state(state: State) -> dict[str, Any]:
    return {"number": state.number, "text": state.text, "place": state.place}

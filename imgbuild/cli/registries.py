"""``imgbuild pull``, ``push``, ``login`` and ``logout``."""

from __future__ import annotations

import sys

import click

from imgbuild.engine.invocation import Invocation
from imgbuild.errors import UsageError

_PROGRESS = click.option("--progress", type=click.Choice(["auto", "tty", "plain", "json", "quiet"]), default="auto", show_default=True)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--platform", metavar="PLATFORM", help="Default: this machine's.")
@click.option("--policy", type=click.Choice(["always", "newer", "missing"]), default="always", show_default=True, help="When to ask it.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the digest.")
@_PROGRESS
@click.pass_obj
def pull(invocation: Invocation, names: tuple[str, ...], platform: str | None, policy: str, quiet: bool, progress: str) -> None:
    """Bring images from a registry into the store."""
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine import registries

    with make_renderer("quiet" if quiet else progress, invocation.environ) as renderer:
        for image in registries.pull(invocation, names, platform, policy, renderer.on_event):
            if quiet or progress != "json":  # the stream says it
                click.echo(image.descriptor.digest)


@click.command()
@click.argument("name")
@click.argument("destination", required=False)
@click.option("--platform", metavar="PLATFORM", help="Which image of an index.")
@click.option("--compression", type=click.Choice(["zstd", "gzip", "none"]), help="Push layers in this compression.")
@click.option("--format", "format_", type=click.Choice(["oci", "docker"]), help="Push manifests of this kind.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the digest.")
@_PROGRESS
@click.pass_obj
def push(
    invocation: Invocation,
    name: str,
    destination: str | None,
    platform: str | None,
    compression: str | None,
    format_: str | None,
    quiet: bool,
    progress: str,
) -> None:
    """Send the image NAME to its registry, or to DESTINATION."""
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine import registries
    from imgbuild.transfer.convert import Conversion

    conversion = Conversion(compression, format_)  # type: ignore[arg-type]
    with make_renderer("quiet" if quiet else progress, invocation.environ) as renderer:
        pushed = registries.push(invocation, name, destination, platform, conversion, renderer.on_event)
    if quiet or progress != "json":
        click.echo(pushed.descriptor.digest)


@click.command()
@click.argument("registry", default="")
@click.option("-u", "--username", metavar="NAME")
@click.option("-p", "--password", metavar="PASSWORD", help="Better: --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.pass_obj
def login(invocation: Invocation, registry: str, username: str | None, password: str | None, password_stdin: bool) -> None:
    """Log in to REGISTRY (default: docker.io); docker's config.json keeps it."""
    from imgbuild.engine import registries

    if password_stdin:
        if password is not None:
            raise UsageError("--password and --password-stdin contradict each other")
        password = sys.stdin.read().rstrip("\r\n")
    if username is None:
        if password_stdin or not sys.stdin.isatty():
            raise UsageError("a login needs --username")
        username = click.prompt("Username", type=str)
    if password is None:
        if not sys.stdin.isatty():
            raise UsageError("a login needs a password", hint="give it with --password-stdin")
        password = click.prompt("Password", hide_input=True, type=str)
    if not username or not password:
        raise UsageError("a login needs a user name and a password")
    place = registries.login(invocation, registry, username, password)
    click.echo(f"Login succeeded; kept in {place}", err=True)


@click.command()
@click.argument("registry", default="")
@click.pass_obj
def logout(invocation: Invocation, registry: str) -> None:
    """Forget the login at REGISTRY (default: docker.io)."""
    from imgbuild.engine import registries

    registries.logout(invocation, registry)
    click.echo(f"Removed the login for {registries.registry_name(registry)}", err=True)

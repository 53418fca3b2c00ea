"""``imgbuild save``, ``load``, ``import`` and ``unpack``: images in files and directories."""

from __future__ import annotations

import click

from imgbuild.engine.invocation import Invocation

_PLATFORM = click.option("--platform", metavar="PLATFORM", help="Which image of an index; default: this machine's.")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-o", "--output", required=True, metavar="PATH", help="A file; '-' is stdout; with --directory a directory.")
@click.option("--format", "format_", type=click.Choice(["oci", "docker"]), default="oci", show_default=True)
@click.option("--directory", is_flag=True, help="Write a directory, not a tar.")
@click.option("--compression", type=click.Choice(["zstd", "gzip", "none"]), help="Save layers in this compression.")
@_PLATFORM
@click.pass_obj
def save(
    invocation: Invocation,
    names: tuple[str, ...],
    output: str,
    format_: str,
    directory: bool,
    compression: str | None,
    platform: str | None,
) -> None:
    """Write images as an OCI layout or a docker archive."""
    from imgbuild.engine.archives import save_images

    save_images(invocation, names, output, format_, directory, compression, platform)


@click.command()
@click.argument("path", metavar="PATH[:REF]", required=False)
@click.argument("name", required=False)
@click.option("-i", "--input", "input_", metavar="PATH", help="The same as PATH.")
@_PLATFORM
@click.pass_obj
def load(invocation: Invocation, path: str | None, name: str | None, input_: str | None, platform: str | None) -> None:
    """Bring the images of an OCI layout or a docker archive, a tar or a directory, into the store; '-' is stdin."""
    from imgbuild.engine.archives import load_images

    for loaded in load_images(invocation, input_ or path or "-", name, platform):
        shown = loaded.reference.familiar() if loaded.reference is not None else loaded.descriptor.digest
        click.echo(f"Loaded image: {shown}")


@click.command("import")
@click.argument("rootfs", metavar="ROOTFS.tar|-")
@click.argument("name")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Apply a config instruction, such as 'CMD [\"sh\"]'.")
@click.option("-m", "--message", default="", metavar="TEXT", help="The comment in the image's history.")
@click.option("--source-date-epoch", metavar="SECONDS", help="The image's age; default: $SOURCE_DATE_EPOCH, else its newest file's.")
@_PLATFORM
@click.pass_obj
def import_(
    invocation: Invocation,
    rootfs: str,
    name: str,
    changes: tuple[str, ...],
    message: str,
    source_date_epoch: str | None,
    platform: str | None,
) -> None:
    """Make a base image of a root file system in a tar, compressed or not."""
    from imgbuild.engine.archives import import_rootfs

    descriptor = import_rootfs(invocation, rootfs, name, changes, message, source_date_epoch, platform)
    click.echo(descriptor.digest)


@click.command()
@click.argument("name", metavar="NAME|LAYOUT[:REF]")
@click.argument("directory")
@_PLATFORM
@click.pass_obj
def unpack(invocation: Invocation, name: str, directory: str, platform: str | None) -> None:
    """Write an image's root file system into DIRECTORY, which is made, or is empty."""
    from imgbuild.engine.archives import unpack_image

    unpack_image(invocation, name, directory, platform)

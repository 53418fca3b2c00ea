"""``imgbuild prune``, ``du`` and ``fsck``: the store's upkeep."""

from __future__ import annotations

import click

from imgbuild.engine.invocation import Invocation
from imgbuild.light import json


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All of the build cache, too, not only what was not used for long.")
@click.option("-f", "--force", is_flag=True, hidden=True, help="Accepted: there is no question to answer.")
@click.pass_obj
def prune(invocation: Invocation, everything: bool, force: bool) -> None:
    """Free what no image and no container needs."""
    del force
    from imgbuild.cli.progress import human_size
    from imgbuild.engine.images import prune as free

    freed = free(invocation, everything, _waiting)
    parts = [
        (freed.images, "images"), (freed.steps, "steps"), (freed.snapshots, "snapshots"), (freed.blobs, "blobs"),
        (freed.directories, "directories"), (freed.builds, "builds"),
    ]  # fmt: skip
    counted = ", ".join(f"{count} {name}" for count, name in parts if count) or "nothing to remove"
    click.echo(f"Freed {human_size(freed.bytes)} ({counted})")


@click.command()
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def du(invocation: Invocation, format_: str) -> None:
    """Show what the store takes on the disk."""
    from imgbuild.cli.progress import human_size
    from imgbuild.cli.tables import table
    from imgbuild.engine.images import disk_usage
    from imgbuild.values import asdict

    usage = disk_usage(invocation)
    if format_ == "json":
        click.echo(json.dumps({**asdict(usage), "total": usage.total, "reclaimable": usage.reclaimable}, indent=2))
        return
    shares = [
        ("Blobs", usage.blobs), ("Snapshots", usage.snapshots), ("Containers", usage.containers), ("Cache mounts", usage.cache),
        ("Failed steps", usage.failed), ("Builds", usage.history), ("Leftovers", usage.leftovers),
    ]  # fmt: skip
    lines = [[name, str(share.count), human_size(share.bytes), human_size(share.reclaimable)] for name, share in shares]
    lines.append(["Index", "", human_size(usage.index), ""])
    lines.append(["Total", f"{usage.images} images", human_size(usage.total), human_size(usage.reclaimable)])
    click.echo(table(["TYPE", "COUNT", "SIZE", "RECLAIMABLE"], lines))


@click.command()
@click.option("--repair", is_flag=True, help="Remove what is damaged, so that it is built or pulled again.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def fsck(invocation: Invocation, repair: bool, format_: str) -> int:
    """Verify every blob, snapshot and record of the store. Exit code 17 if something is damaged."""
    from imgbuild.engine.images import check_store
    from imgbuild.errors import CorruptError
    from imgbuild.values import asdict

    findings = check_store(invocation, repair, _waiting)
    damage = [finding for finding in findings if not finding.note]
    if format_ == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{'note' if finding.note else 'damaged'}: {finding.kind} {finding.what}: {finding.message}")
        state = "the store is whole" if not damage else f"{len(damage)} damaged" + (", removed" if repair else "; try --repair")
        click.echo(state)
    return CorruptError.exit_code if damage and not repair else 0


def _waiting() -> None:
    click.echo("waiting until nothing else uses the store ...", err=True)

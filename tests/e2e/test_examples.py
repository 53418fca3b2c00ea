"""Every example is built, run and checked; what goes through a registry comes back the same; what can be reproducible is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.cli import Imgbuild
from demo.examples import ALL, EXAMPLES, Bases, Example
from demo.mirror import host, registry


def _digest(imgbuild: Imgbuild, image: str) -> str:
    return str(json.loads(imgbuild("inspect", image).stdout)[0]["Digest"])


@pytest.fixture(params=ALL, ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    found = request.param
    assert isinstance(found, Example)
    return found


@pytest.fixture
def context(example: Example, tmp_path: Path) -> Path:
    """A copy of the example: in a git work tree, an image is as old as the last commit."""
    return Path(shutil.copytree(example.directory, tmp_path / "one" / example.name))


@pytest.fixture
def other(imgbuild: Imgbuild, tmp_path: Path) -> Iterator[Imgbuild]:
    """An empty store beside that of `imgbuild`."""
    second = imgbuild.at(tmp_path / "other-store")
    yield second
    if second.store.exists():
        shutil.rmtree(second.store)


def test_all_are_known() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {example.name for example in ALL}


@pytest.mark.usefixtures("no_leftovers")
def test_build_run_push_pull_run(
    imgbuild: Imgbuild, other: Imgbuild, bases: Bases, example: Example, context: Path, tmp_path: Path
) -> None:
    options = bases.options.of(example)
    for target in example.targets:
        imgbuild("build", "--target", target, *options, context)
    imgbuild("build", "-t", example.name, *options, context)
    digest = _digest(imgbuild, example.name)
    example.check(imgbuild, example.name)

    again = imgbuild("build", "--progress", "plain", "-t", example.name, *options, context).stderr.splitlines()
    assert _digest(imgbuild, example.name) == digest
    assert not [line for line in again if line.startswith("#") and " DONE" in line]
    assert [line for line in again if line.startswith("#") and " CACHED" in line]

    with registry(tmp_path / "registry") as url:
        name = f"{host(url)}/{example.name}"
        imgbuild("push", example.name, name)
        other("pull", name)
        assert _digest(other, name) == digest
        example.check(other, name)
    for store in (imgbuild, other):
        store("fsck")


@pytest.mark.parametrize("example", [example for example in ALL if example.reproducible], ids=lambda example: example.name, indirect=True)
def test_digest_from_two_directories_and_two_empty_stores(
    imgbuild: Imgbuild, other: Imgbuild, bases: Bases, example: Example, context: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(example.directory, tmp_path / "elsewhere" / "with" / "another-name")
    for store, directory in ((imgbuild, context), (other, elsewhere)):
        store("build", "-t", "image", *bases.options.of(example), directory)
    assert _digest(imgbuild, "image") == _digest(other, "image")


def test_secrets_stay_out_of_the_store(imgbuild: Imgbuild, tmp_path: Path) -> None:
    secret = "index-url-password-8f14e45f"
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "secret").write_text(secret, encoding="utf-8")
    (context / "Buildfile").write_text(
        f"FROM busybox\nRUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf test $(wc -c < /etc/pip.conf) = {len(secret)}\n",
        encoding="utf-8",
    )
    imgbuild("build", "-t", "image", "--compression", "none", "--secret", f"id=pip-conf,src={tmp_path}/secret", context)
    for path in imgbuild.store.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert secret.encode() not in path.read_bytes(), path

"""Handlers for programs of other architectures, read from directories that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgbuild.linux.emulation import architecture_of, find_handler, handlers_are_listed, program_header, runs_itself

ARM64 = "7f454c460201010000000000000000000200b700"
MASK = "ffffffffffffff00fffffffffffffffffeffffff"


def entry(magic: str = ARM64, mask: str | None = MASK, flags: str = "OCF", enabled: str = "enabled", offset: int = 0) -> str:
    lines = [enabled, "interpreter /usr/bin/qemu-aarch64-static", f"flags: {flags}", f"offset {offset}", f"magic {magic}"]
    return "\n".join([*lines, *([f"mask {mask}"] if mask is not None else [])]) + "\n"


def directory(place: Path, status: str = "enabled", **entries: str) -> Path:
    for name, text in {"status": status + "\n", "register": "", **entries}.items():
        (place / name).write_text(text)
    return place


def test_a_handler_is_known_by_what_it_matches(tmp_path: Path) -> None:
    jar = "enabled\ninterpreter /usr/bin/java\nflags: \nextension .jar\n"
    place = directory(tmp_path, anything=entry(), jar=jar, odd="enabled\nmagic xy\n")
    handler = find_handler("arm64", place)
    assert handler is not None
    assert (handler.name, handler.interpreter, handler.enabled, handler.fixed) == ("anything", "/usr/bin/qemu-aarch64-static", True, True)
    for other in ("amd64", "arm", "riscv64", "s390x", "nothing"):
        assert find_handler(other, place) is None


def test_magic_with_an_offset_and_without_a_mask(tmp_path: Path) -> None:
    place = directory(tmp_path, machine=entry("b700", None, offset=18), beyond=entry("b700", None, offset=90))
    handler = find_handler("arm64", place)
    assert handler is not None and handler.name == "machine"
    assert find_handler("amd64", place) is None


def test_the_best_of_several_handlers(tmp_path: Path) -> None:
    place = directory(tmp_path, a=entry(enabled="disabled"), b=entry(flags="OC"), c=entry(flags="F"), d=entry(flags=""))
    handler = find_handler("arm64", place)
    assert handler is not None and handler.name == "c"
    (place / "c").unlink()
    handler = find_handler("arm64", place)
    assert handler is not None and (handler.enabled, handler.fixed) == (True, False)


def test_all_handlers_disabled_at_once(tmp_path: Path) -> None:
    handler = find_handler("arm64", directory(tmp_path, "disabled", a=entry()))
    assert handler is not None and not handler.enabled


def test_where_nothing_is_mounted(tmp_path: Path) -> None:
    assert not handlers_are_listed(tmp_path)
    assert find_handler("arm64", tmp_path) is None
    assert find_handler("arm64", tmp_path / "absent") is None
    assert handlers_are_listed(directory(tmp_path))


@pytest.mark.parametrize(
    ("machine", "architecture", "itself"),
    [("x86_64", "amd64", True), ("x86_64", "386", True), ("x86_64", "arm64", False), ("aarch64", "arm64", True), ("aarch64", "arm", True),
     ("riscv64", "riscv64", True), ("riscv64", "amd64", False), ("x86_64", "", True)],
)  # fmt: skip
def test_what_a_machine_runs_itself(machine: str, architecture: str, itself: bool) -> None:
    assert runs_itself(machine, architecture) == itself


def test_architectures_of_platforms() -> None:
    assert [architecture_of(text) for text in ("linux/arm64", "linux/arm/v7", "linux", "")] == ["arm64", "arm", "", ""]
    assert program_header("nothing") == b""
    assert program_header("s390x")[:20].hex() == "7f454c4602020100000000000000000000020016"

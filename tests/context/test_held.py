"""Contents that were read for a digest wait for their copy, and never take more memory than they may."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.context.digest import TreeDigests
from imgbuild.context.held import SMALL, Held
from imgbuild.context.local import LocalContext


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 900)))))
def test_never_more_than_there_is_room_for(steps: list[tuple[str, int | None]]) -> None:
    held, kept = Held(2000), dict[str, tuple[bytes, bytes]]()
    for path, size in steps:
        if size is None:
            assert held.take(path) == kept.pop(path, None)
            continue
        content = (bytes(size), b"")
        fits = path not in kept and sum(len(data) + 200 for data, _ in kept.values()) + size + 200 <= 2000
        held.keep(path, content)
        if fits:
            kept[path] = content
        assert sum(len(data) for data, _ in kept.values()) <= 2000 and held.room >= 0
    assert held.room == 2000 - sum(len(data) + 200 for data, _ in kept.values())


def test_small_files_of_a_context_are_held_until_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"content")
    (tmp_path / "large").write_bytes(bytes(SMALL + 1))
    with LocalContext(tmp_path) as context:
        TreeDigests(context, context.digests).contents("/")
        (tmp_path / "small").unlink()
        node = context.lstat("/small")
        assert node is not None
        assert context.load("/small", node) == (b"content", b"")
        assert context._held.take("/large") is None

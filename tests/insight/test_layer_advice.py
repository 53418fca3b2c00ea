"""Bytes that nobody sees, held against a naive file system."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.insight.builds import StepRecord
from imgbuild.insight.layer_advice import _lost, below, shadowed
from imgbuild.layer.listing import Listed

PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
ENTRIES = st.builds(Listed, PATHS, st.sampled_from(["file", "dir", "other", "deleted", "emptied"]), st.integers(0, 9))
LAYERS = st.lists(st.lists(ENTRIES, max_size=5, unique_by=lambda entry: entry.path), max_size=5)


def _step(number: int, text: str = "RUN x") -> StepRecord:
    return StepRecord(number=number, name=f"[1/1] {text}", line=number)


def _naive(layers: list[list[Listed]]) -> tuple[int, int]:
    """The bytes that all layers write, and those that are seen in the end."""
    seen: dict[str, int] = {}
    written = 0
    for entries in layers:
        for entry in entries:
            if entry.kind in ("deleted", "emptied"):
                for path in list(seen):
                    if path.startswith(f"{entry.path}/") or (path == entry.path and entry.kind == "deleted"):
                        del seen[path]
        for entry in entries:
            if entry.kind in ("file", "other"):
                for path in [path for path in seen if path.startswith(f"{entry.path}/")]:
                    del seen[path]
                seen[entry.path] = entry.size
                written += entry.size
            elif entry.kind == "dir":
                seen.pop(entry.path, None)
    return written, sum(seen.values())


def _sane(entries: list[Listed]) -> list[Listed]:
    """Without what no layer has: something below what is no directory there."""
    flat = {entry.path for entry in entries if entry.kind != "dir"}
    return [entry for entry in entries if not any(entry.path.startswith(f"{path}/") for path in flat)]


@given(LAYERS)
def test_what_is_lost_and_what_is_seen_is_all_that_was_written(layers: list[list[Listed]]) -> None:
    below_files: list[list[Listed]] = []
    for entries in layers:
        directories = {path.rpartition("/")[0] for path in (entry.path for entry in entries)} - {""}
        parents = {"/".join(path.split("/")[: depth + 1]) for path in directories for depth in range(path.count("/") + 1)}
        kept = _sane(entries)
        missing = parents - {entry.path for entry in kept}
        needed = [path for path in sorted(missing) if any(entry.path.startswith(f"{path}/") for entry in kept)]
        below_files.append([*(Listed(path, "dir") for path in needed), *kept])
    lost = _lost([(_step(number), entries) for number, entries in enumerate(below_files)])
    gone = sum(sum(each.deleted.values()) + sum(each.replaced.values()) for each in lost.values())
    written, seen = _naive(below_files)
    assert gone == written - seen


def test_owners_alone_are_told_from_contents() -> None:
    big = 3 << 20
    cases = (("RUN chown -R 1:1 /d", big, "ownership"), ("RUN chown x; make", big + 1, "overwritten"), ("RUN make", big, "overwritten"))
    for text, size, kind in cases:
        (found,) = shadowed([(_step(1, "COPY d /d"), [Listed("d/f", "file", big)]), (_step(2, text), [Listed("d/f", "file", size)])])
        assert (found.kind, found.bytes) == (kind, big)


def test_little_is_not_worth_a_word() -> None:
    assert list(shadowed([(_step(1), [Listed("f", "file", 1000)]), (_step(2), [Listed("f", "deleted")])])) == []


def test_bytes_below_directories() -> None:
    entries = [Listed("root/.npm/a", "file", 3), Listed("root/.npmrc", "file", 4), Listed("root/.npm", "dir")]
    assert below(entries, ["/root/.npm", "/x"]) == {"/root/.npm": 3, "/x": 0}

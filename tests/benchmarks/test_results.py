"""The pure parts of the benchmark: ratios, verdicts, the table, the picture, and that results are compared first."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.contents import contents_of
from benchmarks.measure import Sample
from benchmarks.plot import picture
from benchmarks.results import Growth, Overhead, Result, growth_table, overhead_table, table


def _result(ours: float, *theirs: float, target: float | None = 0.5, **more: object) -> Result:
    result = Result("a row", target, **more)  # type: ignore[arg-type]
    result.samples["imgbuild"] = [Sample(ours * factor, ours, 1_000_000) for factor in (1, 9, 0.5)]
    for number, seconds in enumerate(theirs):
        result.samples[f"peer{number}"] = [Sample(seconds, seconds, 2_000_000)]
    return result


def test_the_ratio_is_that_of_the_median_to_the_fastest_peer() -> None:
    result = _result(1.0, 4.0, 2.0)
    assert (result.fastest(), result.ratio(), result.verdict()) == ("peer1", 0.5, "reached")
    assert _result(1.1, 4.0, 2.0).verdict() == "not reached"
    assert _result(1.0).verdict() == ""


def test_no_ratio_with_who_made_something_else() -> None:
    result = _result(1.0, 4.0, 2.0)
    result.different = ("peer1",)
    assert (result.fastest(), result.verdict()) == ("peer0", "differs")
    assert "differs from peer1" in table([result], ["imgbuild", "peer0", "peer1"])


def test_a_reference_is_nobodys_peer_and_a_bound_of_its_own() -> None:
    result = _result(0.06, 1.0, beyond=0.04, references=("bare",))
    result.samples["bare"] = [Sample(0.01, None, 0)]
    assert result.peers() == ["peer0"]
    assert result.verdict() == "not reached"
    result.samples["bare"] = [Sample(0.03, None, 0)]
    assert result.verdict() == "reached"
    assert _result(0.07, 1.0, seconds=0.06).verdict() == "not reached"


def test_the_table_says_why() -> None:
    text = table([_result(3.0, 2.0, why="an idea")], ["imgbuild", "peer0"])
    assert text.splitlines()[-1] == "| a row | 3.000 | 2.000 | 1.50 | 0.5 | not reached: an idea | 1.50 | 1 |"


def test_growth() -> None:
    assert Growth("a", {1: 1.0, 2: 2.0, 4: 4.0}).verdict() == "linear or better"
    assert Growth("a", {1: 1.0, 2: 4.0, 4: 16.0}).verdict() == "worse than linear"
    assert "| a | 1: 1.00, 2: 4.00 | 3 | 2.00 |" in growth_table([Growth("a", {1: 1.0, 2: 4.0}, {2: 3_000_000})])


def test_overheads() -> None:
    items = [Overhead("a", [1.0, 1.2, 9.0], [1.0, 1.0, 1.0]), Overhead("b", [1.0], [1.2])]
    assert "| a | 1.200 | 1.000 | 1.200 |" in overhead_table(items)
    assert "1.000; wanted 1.05: reached |" in overhead_table(items)
    assert "1.200; wanted 1.05: not reached |" in overhead_table(items[:1])


def test_the_picture_is_well_formed_whatever_the_names() -> None:
    strange = _result(1.0, 2.0)
    strange.name = '<&"'
    tree = ElementTree.fromstring(picture([strange, _result(9.0, 2.0), _result(1.0)], "a < b"))
    assert len(tree.findall("{http://www.w3.org/2000/svg}rect")) == 3


def _archive(path: Path, *layers: dict[str, bytes]) -> Path:
    def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))

    with tarfile.open(path, "w") as outer:
        for number, layer in enumerate(layers):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for name, data in layer.items():
                    add(archive, name, data)
            add(outer, f"{number}/layer.tar", inner.getvalue())
        add(outer, "manifest.json", json.dumps([{"Layers": [f"{number}/layer.tar" for number in range(len(layers))]}]).encode())
    return path


def test_contents_are_those_of_the_whole_image(tmp_path: Path) -> None:
    one = contents_of(_archive(tmp_path / "1", {"a": b"1", "d/x": b"22"}))
    above = {"./a": b"1", "d/.wh..wh..opq": b"", "d/x": b"22", ".wh.gone": b""}
    above = {"./a": b"1", "d/.wh..wh..opq": b"", "d/x": b"22", ".wh.gone": b""}
    two = contents_of(_archive(tmp_path / "2", {"a": b"old", "d/old": b"", "gone": b""}, above))
    assert one == two
    assert (one.count, one.size) == (2, 3)
    assert contents_of(_archive(tmp_path / "3", {"a": b"2", "d/x": b"22"})) != one

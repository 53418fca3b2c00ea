from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.buildfile.quantities import parse_count, parse_cpus, parse_duration, parse_size
from imgbuild.errors import BuildfileError, Source, Span

from .faults import refused

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1s", SECOND),
        ("1h2m3.5s", 3723 * SECOND + SECOND // 2),
        ("300ms", 300_000_000),
        ("1.5h", 5400 * SECOND),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("2us3µs4μs5ns", 9005),
        ("-1m", -60 * SECOND),
        ("+1m", 60 * SECOND),
        ("-0", 0),
        ("1m1m", 120 * SECOND),
    ],
)
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    "text", ["", "-", "5", "1", "s", ".s", "1 s", "1x", "1d", "1S", "s1", "--1s", "1s ", "1e3s", "9999999999h", "00", "1h1"]
)
def test_not_durations(text: str) -> None:
    refused(parse_duration, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1b", 1),
        ("1k", 1024),
        ("1K", 1024),
        ("512m", 512 << 20),
        ("1g", 1 << 30),
        ("64MiB", 64 << 20),
        ("64MB", 64 << 20),
        ("1.5 GiB", 3 << 29),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
        (".5k", 512),
        ("1.", 1),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 mm", "1  m", "1mi b", "1ib", "0x10", "1e3", "9999999p", " 1"])
def test_not_sizes(text: str) -> None:
    refused(parse_size, text)


@pytest.mark.parametrize(
    ("text", "value"), [("1", SECOND), ("1.5", 3 * SECOND // 2), (".25", SECOND // 4), ("2.", 2 * SECOND), ("0.000000001", 1)]
)
def test_cpus(text: str, value: int) -> None:
    assert parse_cpus(text) == value


@pytest.mark.parametrize("text", ["", ".", "0", "0.0", "-1", "1e3", "1/2", "0.0000000001", "1" * 30])
def test_not_cpus(text: str) -> None:
    refused(parse_cpus, text)


def test_counts() -> None:
    assert parse_count("0") == 0
    assert parse_count("12") == 12
    for text in ("", "-1", "1.0", "x", "٣", "1" * 30):
        refused(parse_count, text)


def test_the_place_is_passed_on() -> None:
    at = Span(Source("B", ("x",)), 1, 1)
    for read in (parse_duration, parse_size, parse_cpus, parse_count):
        assert refused(read, "?", at).at == at
        assert refused(read, "?").at is None


@given(st.text(alphabet="0123456789.hmsnuµkgtpibMB +-e", max_size=12))
def test_only_our_errors(text: str) -> None:
    for read in (parse_duration, parse_size, parse_cpus, parse_count):
        try:
            assert isinstance(read(text), int)
        except BuildfileError as error:
            assert error.message


@given(st.integers(0, 10**15))
def test_nanoseconds_round_trip(value: int) -> None:
    assert parse_duration(f"{value}ns") == value
    assert parse_duration(f"{value // SECOND}.{value % SECOND:09}s") == value

"""How long is waited."""

from __future__ import annotations

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.registry.retry import Backoff, retry_after


def test_retry_after_in_seconds_and_as_a_date() -> None:
    assert retry_after("7", 0) == 7
    assert retry_after(formatdate(1_000_000_030, usegmt=True), 1_000_000_000) == 30
    assert retry_after(formatdate(999_999_000, usegmt=True), 1_000_000_000) == 0


@given(st.text())
def test_retry_after_never_raises(text: str) -> None:
    wait = retry_after(text, 1_000_000_000)
    assert wait is None or wait >= 0


def test_nothing_said() -> None:
    assert retry_after(None, 0) is None
    assert retry_after("", 0) is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_grows_to_its_cap(failures: int, jitter: float) -> None:
    backoff = Backoff(base=0.5, cap=8)
    assert 0.25 <= backoff.delay(failures, jitter) <= 8
    assert backoff.delay(failures + 1, jitter) >= backoff.delay(failures, jitter)

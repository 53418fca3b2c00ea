"""A report as other programs read it."""

from __future__ import annotations

from xml.etree import ElementTree

from imgbuild.engine.junit import report
from imgbuild.errors import Source, Span
from imgbuild.solve.verdicts import Verdict

AT = Span(Source("dir/Build<file>", ("FROM x", 'TEST echo "&"')), 2, 2)


def test_of_no_tests() -> None:
    root = ElementTree.fromstring(report(()))
    assert (root.tag, root.get("tests"), list(root)) == ("testsuites", "0", [])


def test_every_outcome_and_any_text() -> None:
    verdicts = (
        Verdict("one", 'TEST echo "&" <x>', AT, "failed", 1.25, "ended <badly>", "a\x1b[31m\x00\ud800 ]]> & b"),
        Verdict("one", "TEST true", AT, "cached"),
        Verdict("two linux/amd64", "TEST true", AT, "done", 0.5),
        Verdict("two linux/amd64", "TEST slow", AT, "canceled", 0.25),
        Verdict("two linux/amd64", "TEST never", AT, "skipped"),
    )
    root = ElementTree.fromstring(report(verdicts).encode())
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5", "failures": "1", "errors": "0", "skipped": "2", "time": "2.000",
    }  # fmt: skip
    assert [(suite.get("name"), suite.get("tests"), suite.get("skipped")) for suite in root] == [
        ("one", "2", "0"),
        ("two linux/amd64", "3", "2"),
    ]
    first, second, third, *rest = root.iter("testcase")
    assert (first.get("name"), first.get("file"), first.get("line")) == ('TEST echo "&" <x>', "dir/Build<file>", "2")
    failure = first.find("failure")
    assert failure is not None
    assert failure.get("message") == "ended <badly>"
    assert failure.text == "dir/Build<file>:2: ended <badly>\na\ufffd[31m\ufffd\ufffd ]]> & b"
    assert [item.attrib for item in second.iter("property")] == [{"name": "cached", "value": "true"}]
    assert (list(third), third.get("time")) == ([], "0.500")
    assert all(case.find("skipped") is not None for case in rest)

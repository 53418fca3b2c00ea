"""``--output type=junit``: what the tests of a build came to, as the XML that test reports are exchanged in.

A suite for each stage, a case for each TEST, in the Buildfile's order. What was cached says so in a property of its case.
"""

from __future__ import annotations

import sys
from itertools import groupby

from imgbuild.engine.output_options import Output
from imgbuild.errors import ImgbuildError, UsageError
from imgbuild.graph.ops import BuildGraph
from imgbuild.hints import Iterable, Iterator
from imgbuild.light import re
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.solve.verdicts import Verdict, Verdicts

_NO_XML = "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
"""What XML 1.0 has no way to say. Compiled when a report is written, which most builds don't do."""


@contextmanager
def reported(outputs: tuple[Output, ...], graph: BuildGraph) -> Iterator[Verdicts]:
    """What the tests inside are heard by; at the end, also one by an error, the reports that were asked for are written."""
    verdicts = Verdicts()
    try:
        yield verdicts
    except ImgbuildError:
        with suppress(ImgbuildError):
            write_reports(outputs, verdicts.all(graph))
        raise
    write_reports(outputs, verdicts.all(graph))


def write_reports(outputs: Iterable[Output], verdicts: tuple[Verdict, ...]) -> None:
    """Write each of the reports that were asked for."""
    for output in outputs:
        if output.kind != "junit":
            continue
        text = report(verdicts)
        try:
            if output.dest == "-":
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                Path(output.dest).write_text(text, encoding="utf-8")
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"can't write the report {output.dest}: {error.strerror}") from None


def report(verdicts: tuple[Verdict, ...]) -> str:
    """The whole document."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_counts(verdicts)}>"]
    for stage, group in groupby(verdicts, key=lambda verdict: verdict.stage):
        suite = tuple(group)
        lines.append(f"  <testsuite{_attribute('name', stage)}{_counts(suite)}>")
        for verdict in suite:
            lines += _case(verdict)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _counts(verdicts: tuple[Verdict, ...]) -> str:
    failed = sum(verdict.outcome == "failed" for verdict in verdicts)
    skipped = sum(verdict.outcome in ("canceled", "skipped") for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    return f' tests="{len(verdicts)}" failures="{failed}" errors="0" skipped="{skipped}" time="{seconds:.3f}"'


def _case(verdict: Verdict) -> list[str]:
    span = verdict.span
    place = f'{_attribute("file", span.source.name)} line="{span.line}"'
    head = f"    <testcase{_attribute('name', verdict.name)}{_attribute('classname', verdict.stage)}{place} time=\"{verdict.seconds:.3f}\""
    match verdict.outcome:
        case "failed":
            text = f"{span}: {verdict.message}\n{verdict.detail}"
            inner = f"<failure{_attribute('message', verdict.message)}>{_text(text)}</failure>"
        case "cached":
            inner = '<properties><property name="cached" value="true"/></properties>'
        case "canceled" | "skipped":
            inner = f"<skipped{_attribute('message', 'the build ended before')}/>"
        case _:
            return [f"{head}/>"]
    return [f"{head}>", f"      {inner}", "    </testcase>"]


def _attribute(name: str, value: str) -> str:
    return f' {name}="{_text(value)}"'


def _text(value: str) -> str:
    """What may stand in a document: colours of a terminal and bytes that were no text may not."""
    text = re.sub(_NO_XML, "\ufffd", value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")

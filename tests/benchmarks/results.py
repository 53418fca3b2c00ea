"""From samples to a table: medians, ratios to the fastest peer, and whether what was to be reached is. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Sample

OURS = "imgbuild"


@dataclass(slots=True)
class Result:
    """A row's samples by tool, and what is to be reached; `different` names the peers whose image was another."""

    name: str
    target: float | None = None
    seconds: float | None = None
    beyond: float | None = None
    why: str = ""
    references: tuple[str, ...] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    different: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, tool: str) -> float | None:
        """The median of a tool's seconds."""
        taken = self.samples.get(tool)
        return statistics.median(sample.seconds for sample in taken) if taken else None

    def cpu(self, tool: str) -> float | None:
        """The median of a tool's CPU seconds, where they were counted."""
        taken = [sample.cpu for sample in self.samples.get(tool, ()) if sample.cpu is not None]
        return statistics.median(taken) if taken else None

    def peak(self, tool: str) -> int:
        """The largest process of all rounds, in bytes."""
        return max((sample.peak for sample in self.samples.get(tool, ())), default=0)

    def peers(self) -> list[str]:
        """Those that a ratio may be made with: same result, and timed."""
        return [tool for tool in self.samples if tool != OURS and tool not in self.references and tool not in self.different]

    def fastest(self) -> str | None:
        """The peer with the smallest median."""
        return min(self.peers(), key=lambda tool: self.median(tool) or 0.0, default=None)

    def ratio(self) -> float | None:
        """Our median to that of the fastest peer; none where the results differ or nobody is there to compare with."""
        fastest, ours = self.fastest(), self.median(OURS)
        theirs = self.median(fastest) if fastest else None
        return ours / theirs if ours is not None and theirs else None

    def cpu_ratio(self) -> float | None:
        """Our CPU seconds to the least of a peer's."""
        ours = self.cpu(OURS)
        theirs = [cpu for tool in self.peers() if (cpu := self.cpu(tool))]
        return ours / min(theirs) if ours is not None and theirs else None

    def verdict(self) -> str:
        """"reached", "not reached", "differs", or "" where there is nothing to reach or nobody to compare with."""
        if self.different:
            return "differs"
        ours = self.median(OURS)
        if ours is None:
            return "failed"
        checks = []
        if self.target is not None and (ratio := self.ratio()) is not None:
            checks.append(ratio <= self.target)
        if self.seconds is not None:
            checks.append(ours <= self.seconds)
        if self.beyond is not None and (least := min((self.median(tool) or 0.0 for tool in self.references), default=0.0)):
            checks.append(ours <= least + self.beyond)
        if not checks:
            return ""
        return "reached" if all(checks) else "not reached"

    def wanted(self) -> str:
        """What is to be reached, in short."""
        parts = [] if self.target is None else [f"{self.target:g}"]
        parts += [] if self.seconds is None else [f"{self.seconds * 1000:.0f} ms"]
        parts += [] if self.beyond is None else [f"{self.references[0] if self.references else 'crun'} + {self.beyond * 1000:.0f} ms"]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Growth:
    """One kind of work at three sizes: seconds by size."""

    name: str
    seconds: Mapping[int, float]
    peaks: Mapping[int, int] = field(default_factory=dict)

    def exponent(self) -> float:
        """How much longer the largest takes than the smallest, to how much larger it is: 1 is linear, less is better."""
        smallest, largest = min(self.seconds), max(self.seconds)
        return (self.seconds[largest] / self.seconds[smallest]) / (largest / smallest)

    def verdict(self) -> str:
        """Linear within the noise of a machine that others use too."""
        return "linear or better" if self.exponent() <= 1.15 else "worse than linear"


@dataclass(frozen=True, slots=True)
class Overhead:
    """One kind of work with something and without it: the seconds of each time."""

    name: str
    seconds: Sequence[float]
    without: Sequence[float]

    def ratio(self) -> float:
        """The median with it to that without it."""
        return statistics.median(self.seconds) / statistics.median(self.without)


def overhead_table(overheads: Sequence[Overhead], most: float = 1.05) -> str:
    """In Markdown: a row for each kind of work, and all of them together."""
    lines = ["| records, causes, logs, ledger | seconds with | without | ratio |", "|---|---|---|---|"]
    for item in overheads:
        both = (statistics.median(item.seconds), statistics.median(item.without))
        lines.append(f"| {item.name} | {both[0]:.3f} | {both[1]:.3f} | {item.ratio():.3f} |")
    mean = statistics.geometric_mean(item.ratio() for item in overheads)
    verdict = "reached" if mean <= most else "not reached"
    lines.append(f"| geometric mean | | | {mean:.3f}; wanted {most:g}: {verdict} |")
    return "\n".join(lines) + "\n"


def table(results: Sequence[Result], tools: Sequence[str]) -> str:
    """The rows in Markdown: our seconds, each peer's, the ratio, what is wanted, the verdict, CPU and memory."""
    others = [tool for tool in tools if tool != OURS]
    head = ["seconds (median)", OURS, *others, "ratio", "wanted", "verdict", "CPU ratio", "our peak MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for result in results:
        cells = [result.name, _seconds(result, OURS), *(_seconds(result, tool) for tool in others)]
        ratio, cpu = result.ratio(), result.cpu_ratio()
        cells += ["" if ratio is None else f"{ratio:.2f}", result.wanted(), _said(result)]
        cells += ["" if cpu is None else f"{cpu:.2f}", f"{result.peak(OURS) / 1e6:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def growth_table(growths: Sequence[Growth]) -> str:
    """The growth in Markdown: a row for each kind of work."""
    lines = ["| growth | seconds at each size | peak MB | seconds to size | verdict |", "|---|---|---|---|---|"]
    for growth in growths:
        seconds = ", ".join(f"{size:,}: {growth.seconds[size]:.2f}" for size in sorted(growth.seconds))
        peaks = ", ".join(f"{growth.peaks[size] / 1e6:.0f}" for size in sorted(growth.peaks))
        lines.append(f"| {growth.name} | {seconds} | {peaks} | {growth.exponent():.2f} | {growth.verdict()} |")
    return "\n".join(lines) + "\n"


def _seconds(result: Result, tool: str) -> str:
    if tool in result.failed:
        return "failed"
    median = result.median(tool)
    return "" if median is None else f"{median:.3f}"


def _said(result: Result) -> str:
    verdict = result.verdict()
    if verdict == "differs":
        return f"differs from {', '.join(result.different)}"
    return f"{verdict}: {result.why}" if verdict == "not reached" and result.why else verdict

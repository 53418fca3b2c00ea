"""How a layer is stored, as a value: what is asked of `compress`, and what is recorded with a blob."""

from __future__ import annotations

from imgbuild.errors import LayerError
from imgbuild.hints import Literal
from imgbuild.values import dataclass

CompressionKind = Literal["zstd", "gzip", "none"]

DEFAULT_LEVELS: dict[CompressionKind, int] = {"zstd": 2, "gzip": 2, "none": 0}


@dataclass(frozen=True, slots=True)
class Compression:
    """How a layer is stored. zstd has levels 1 to 19, gzip (ISA-L) 0 to 3; None is the level that we found to be worth it."""

    kind: CompressionKind = "zstd"
    level: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_LEVELS:
            raise LayerError(f"unknown compression {self.kind!r}", hint="zstd, gzip or none")
        highest = {"zstd": 19, "gzip": 3, "none": 0}[self.kind]
        if not 0 <= self.effective_level <= highest or (self.kind == "zstd" and self.effective_level == 0):
            raise LayerError(f"{self.kind} has no level {self.level} here", hint=f"the highest is {highest}")

    @property
    def effective_level(self) -> int:
        return DEFAULT_LEVELS[self.kind] if self.level is None else self.level

    def __str__(self) -> str:
        return self.kind if self.kind == "none" else f"{self.kind}:{self.effective_level}"

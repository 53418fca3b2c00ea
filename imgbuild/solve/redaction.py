"""Takes the bytes of secrets out of what steps write, before it is kept."""

from __future__ import annotations

from imgbuild.hints import Iterable
from imgbuild.light import re

MASK = b"***"
SHORTEST = 4
"""Bytes: what is shorter would be found in any output, and is nobody's secret."""


class Redactor:
    """Redacts a stream that comes in pieces: a secret is found across them, for which the end of a piece may have to wait for the next.

    What is looked for is each secret, without the line end of its file, and each line of one that has several, which programs write one
    by one. Of two that begin alike the longer one counts.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        whole = {secret.strip(b"\r\n") for secret in secrets}
        lines = {line.strip() for secret in whole if b"\n" in secret for line in secret.split(b"\n")}
        self._needles = sorted((each for each in whole | lines if len(each) >= SHORTEST), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._needles))) if self._needles else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be let go of by now."""
        if self._pattern is None:
            return data
        data, done = self._held + data, []
        waiting = self._begun(data)
        at = 0
        while (match := self._pattern.search(data, at)) is not None and match.start() < waiting:
            done += [data[at : match.start()], MASK]
            at = match.end()
            if at > waiting:  # what seemed to begin there was a part of this one
                waiting = at + self._begun(data[at:])
        self._held = data[waiting:]
        return b"".join((*done, data[at:waiting]))

    def rest(self) -> bytes:
        """What was held back, at the end."""
        held, self._held = self._held, b""
        return held if self._pattern is None else self._pattern.sub(MASK, held)

    def whole(self, data: bytes) -> bytes:
        """All of a text."""
        return self.feed(data) + self.rest()

    def _begun(self, data: bytes) -> int:
        """The first place from which on `data` may be the beginning of a secret; its end where there is none."""
        longest = len(self._needles[0]) - 1
        for at in range(max(0, len(data) - longest), len(data)):
            rest = data[at:]
            if any(len(needle) > len(rest) and needle.startswith(rest) for needle in self._needles):
                return at
        return len(data)


def redacted_text(text: str, secrets: Iterable[bytes]) -> str:
    """All of a text, as text."""
    return Redactor(secrets).whole(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

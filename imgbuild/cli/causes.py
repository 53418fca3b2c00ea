"""Why steps were not found in the cache, in words."""

from __future__ import annotations

from imgbuild.hints import Iterable, Sequence
from imgbuild.insight.cause import Cause

_MOST = 3
"""Causes that a line names; of more, it says how many."""
_WIDEST = 40

_PLAIN = {
    "first": "first build of this Buildfile",
    "new": "the instruction is new",
    "no-cache": "--no-cache",
    "layer": "its layer is gone from the store",
    "leak": "its layer has a secret, as it was allowed to then",
    "remade": "the step before it was performed again, and left something else",
    "lost": "the store's memory of it is lost",
}

_VARIABLES = {"arg": "ARG ", "env": "ENV ", "workdir": "WORKDIR", "user": "USER", "shell": "SHELL", "epoch": "SOURCE_DATE_EPOCH"}


def causes_text(causes: Sequence[Cause], more: int = 0) -> str:
    """All of it, in one line; `more` causes are not among these."""
    said = [cause_text(cause) for cause in causes[:_MOST]]
    left = len(causes) - len(said) + more
    text = "; ".join(said) + (f"; and {left} more" if left else "")
    return "".join(character if character.isprintable() else "?" for character in text)


def cause_text(cause: Cause, widest: int = _WIDEST) -> str:
    """One cause."""
    kind, subject = cause.kind, cause.subject
    if kind == "first" and cause.what:
        return "no record of an earlier build of this Buildfile is kept"
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "file":
        return _file(cause)
    values = _values(cause, widest)
    if kind in _VARIABLES:
        if cause.what == "order":
            return "the order of the environment changed"
        return f"{_VARIABLES[kind]}{subject} {cause.what if cause.what in ('added', 'removed') else 'changed'}{values}"
    match kind:
        case "variable":
            return f"{', '.join(f'${name}' for name in subject.split(', '))} changed ({cause.what}{values.replace(' (', ' ', 1)}"
        case "secret":
            return f"secret {subject} {cause.what if cause.what in ('added', 'removed') else 'changed'}"
        case "base":
            return f"base {subject if cause.what == 'digest' else ''}".rstrip() + f" changed ({_short(cause.old)} -> {_short(cause.new)})"
        case "version":
            return f"step records have another form{values}"
        case "parent":
            return f"stands on {subject}, which was not cached" if cause.what != "cached" else f"stands on {subject} now"
        case "evicted":
            return f"evicted on {cause.old} by {cause.new}"
        case "failed":
            return f"it {'failed' if cause.what == 'failed' else 'was not finished'} last time"
        case "unknown":
            return "what it was last time is not known any more" + (f": evicted on {cause.old} by {cause.new}" if cause.old else "")
        case "instruction":
            return f"instruction changed{values}"
    return f"{subject} changed{values}"


def _file(cause: Cause) -> str:
    where = f" of {cause.where}" if cause.where else ""
    subject = cause.subject + where
    if cause.what in ("added", "removed"):
        size = cause.new_size if cause.what == "added" else cause.old_size
        return f"{subject} {cause.what}" + (f" ({size:,} bytes)" if size is not None else "")
    if cause.what == "unknown":
        return f"{subject} changed (what of it is not known)"
    if cause.what == "links":
        return f"{subject} changed (which files are one)"
    details = []
    if "content" in cause.what.split(", ") and cause.old_size is not None and cause.new_size is not None:
        details.append(f"{cause.old_size:,} -> {cause.new_size:,} bytes")
    if cause.old is not None or cause.new is not None:
        details.append(f"{cause.old or 'none'} -> {cause.new or 'none'}")
    return f"{subject} changed ({', '.join([cause.what, *details])})"


def _values(cause: Cause, widest: int) -> str:
    """The two values, or that there was none."""
    if cause.old is None and cause.new is None:
        return ""
    old, new = _around(cause.old, cause.new, widest)
    if cause.what == "added":
        return f" ({new})"
    if cause.what == "removed":
        return f" ({old})"
    return f" ({old} -> {new})"


def _around(old: str | None, new: str | None, widest: int) -> Iterable[str]:
    """Both, short: where they are long, from a little before they part."""
    start = 0
    if old is not None and new is not None and max(len(old), len(new)) > widest:
        while start < min(len(old), len(new)) and old[start] == new[start]:
            start += 1
        start = max(0, start - widest // 2)
    return [_quoted(text, start, widest) for text in (old, new)]


def _quoted(text: str | None, start: int, widest: int) -> str:
    if text is None:
        return "none"
    cut = text[start : start + widest]
    return f'"{"..." if start else ""}{cut}{"..." if start + widest < len(text) else ""}"'


def _short(digest: str | None) -> str:
    return (digest or "none")[:19] if digest is None or digest.startswith("sha256:") else digest

"""One reason why a step was not found in the cache. Light: the first build of a store needs no more of them."""

from __future__ import annotations

from imgbuild.hints import Any
from imgbuild.values import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason. `kind` is "file", "arg", "env", "variable", "base", "instruction", "flag", "option", "user", "workdir", "shell", "epoch",
    "version", "secret" where a field differs; "parent" where only what the step stands on does; "first", "new", "evicted", "no-cache",
    "layer", "leak" and "remade" where none does. `subject` is the path, the name of the variable, flag or option, the id of the secret;
    `what` of it differs: for a file, added, removed, content, mode and others, joined by commas; of a "first", "forgotten" where builds
    were forgotten. `where` is what a file was read from, "" for the build context. `old` and `new` are the values, None where there is
    none; sizes are of files, in bytes."""

    kind: str
    subject: str = ""
    what: str = ""
    where: str = ""
    old: str | None = None
    new: str | None = None
    old_size: int | None = None
    new_size: int | None = None


def cause_fields(cause: Cause) -> dict[str, Any]:
    """A cause as JSON; what it does not have is left out."""
    return {name: value for name, value in asdict(cause).items() if value is not None and (value or name in ("old", "new"))}

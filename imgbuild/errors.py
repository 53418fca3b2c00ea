"""What can go wrong, in words for a person. Every error that reaches a user is one of these.

An error is raised once, where the cause is known, and rendered once, in ``cli``. It carries a message, optionally the
place in a Buildfile (`Span`), a hint that says what to do, a stable `reference` to search for, and an exit code by kind.
"""

from __future__ import annotations

from imgbuild.hints import Any
from imgbuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """A text that errors can point into: its name as the user knows it, its lines without their ends, and the line that
    included it, if one did."""

    name: str
    lines: tuple[str, ...] = field(repr=False)
    included: Span | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Span:
    """Lines `line`..`end_line` (1-based, inclusive) of a source; `column`..`end_column` (1-based, exclusive end) when
    a part of one line is meant, else 0."""

    source: Source = field(repr=False)
    line: int
    end_line: int
    column: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        column = f":{self.column}" if self.column else ""
        return f"{self.source.name}:{self.line}{column}"

    @property
    def lines(self) -> str:
        """The place by its lines: ``Buildfile:3``, or ``Buildfile:3-5``."""
        last = f"-{self.end_line}" if self.end_line > self.line else ""
        return f"{self.source.name}:{self.line}{last}"


class ImgbuildError(Exception):
    """The root of all errors for users.

    `message` is one sentence without a full stop; `at` the place it is about; `hint` what to do; `detail` further
    lines to be shown as they are (a log's end, a kernel's own words); `notes` what else is known, a sentence each.
    """

    reference = "error"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        at: Span | None = None,
        hint: str | None = None,
        detail: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint
        self.detail = detail
        self.notes = notes

    def located(self, at: Span | None) -> ImgbuildError:
        """The same error with a place, unless it has one already."""
        if self.at is None:
            self.at = at
        return self


class StepFailed(ImgbuildError):
    """A step's command ended with an error, a signal, or beyond a limit. `kept` is the id that its state is kept by, if it is, `usage`
    what the command cost (a `sandbox.spec.Usage`), where that is known."""

    reference = "step-failed"
    exit_code = 1
    kept = ""
    usage: Any = None


class LeakError(ImgbuildError):
    """A layer or an image's config would have the bytes of a secret."""

    reference = "secret-leak"
    exit_code = 1


class UsageError(ImgbuildError):
    """The command line asks for something that can't be meant."""

    reference = "usage"
    exit_code = 2


class BuildfileError(ImgbuildError):
    """The Buildfile can't be read, parsed or lowered."""

    reference = "buildfile"
    exit_code = 10


class UnsupportedError(BuildfileError):
    """The Buildfile is right, but asks for what is not performed here."""

    reference = "unsupported"
    exit_code = 11


class ContextError(ImgbuildError):
    """The build context lacks a file, or a file of it can't be read."""

    reference = "context"
    exit_code = 12


class NotFoundError(ImgbuildError):
    """A named image, container, stage or step does not exist."""

    reference = "not-found"
    exit_code = 13


class ConflictError(ImgbuildError):
    """The name is taken, or the thing is in use."""

    reference = "conflict"
    exit_code = 14


class RegistryError(ImgbuildError):
    """A registry is down, refuses, or breaks the protocol."""

    reference = "registry"
    exit_code = 15


class AuthError(RegistryError):
    """A registry wants credentials that it was not given."""

    reference = "auth"
    exit_code = 16


class CorruptError(ImgbuildError):
    """Bytes differ from their digest, or a record from its form."""

    reference = "corrupt"
    exit_code = 17


class LayerError(ImgbuildError):
    """A tar that is not a layer: malformed, or hostile."""

    reference = "layer"
    exit_code = 18


class ImageError(ImgbuildError):
    """A manifest, index or image config that breaks the specification, or is for another platform."""

    reference = "image"
    exit_code = 19


class SandboxError(ImgbuildError):
    """The kernel or its settings do not allow what a sandbox needs."""

    reference = "sandbox"
    exit_code = 20


class StoreError(ImgbuildError):
    """The store can't be written or read: no space, no permission, another version."""

    reference = "store"
    exit_code = 21


class SettingsError(ImgbuildError):
    """The settings file is wrong."""

    reference = "settings"
    exit_code = 22

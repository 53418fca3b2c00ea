"""What a registry or the way to it can answer instead of what was asked, as errors for a person, without secrets."""

from __future__ import annotations

from imgbuild.errors import AuthError, RegistryError
from imgbuild.hints import Iterable
from imgbuild.light import json
from imgbuild.registry.redaction import redacted, shown_url
from imgbuild.values import dataclass

_MAX_WORDS = 400


class UnreachableError(RegistryError):
    """No answer: no connection, a connection that broke, or one whose certificate is wrong."""

    def __init__(self, message: str, *, retryable: bool = True, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.retryable = retryable


class StatusError(RegistryError):
    """An answer with another status than the ones asked for; `code` is the registry's own word, or ""."""

    def __init__(self, message: str, *, status: int, code: str = "", hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.status = status
        self.code = code


class RefusedError(AuthError):
    """401 or 403 after all that could be tried."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of whom, for an error's words: "reading the manifest of a/b:c", the host, and the login's name."""

    what: str
    host: str
    login: str


def status_error(asked: Asked, method: str, url: str, status: int, body: bytes, secrets: Iterable[str] = ()) -> RegistryError:
    """The error for an unexpected status, with the registry's own code and message."""
    code, words = registry_words(body)
    said = ": ".join(filter(None, (code, words)))
    text = f"{asked.what} failed: {asked.host} answered {status}" + (f" ({said})" if said else "")
    message = redacted(text, secrets)
    detail = f"{method} {shown_url(url)}"
    if status in (401, 403):
        return RefusedError(message, hint=f"`imgbuild login {asked.login}`, as a user who may do this", detail=detail)
    return StatusError(message, status=status, code=code, hint=_hint(status, code, asked), detail=detail)


def registry_words(body: bytes) -> tuple[str, str]:
    """The first error's code and message (distribution-spec, "Error Codes"); ("", "") where there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    errors = value.get("errors")
    entry = errors[0] if isinstance(errors, list) and errors else value
    if not isinstance(entry, dict):
        return "", ""
    code = entry.get("code") or entry.get("error") or ""
    message = entry.get("message") or entry.get("error_description") or entry.get("details") or ""
    detail = entry.get("detail")
    words = _line(message)
    if isinstance(detail, str) and detail and _line(detail) != words:
        words = f"{words}; {_line(detail)}" if words else _line(detail)
    return _line(code)[:64], words


def broken_protocol(asked: Asked, problem: str) -> RegistryError:
    """An answer that the distribution-spec does not allow."""
    return RegistryError(f"{asked.what} failed: {asked.host} breaks the protocol: {problem}")


def _line(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in value)[:_MAX_WORDS].strip()


def _hint(status: int, code: str, asked: Asked) -> str | None:
    if status == 404:
        return f"check the name; where it is private, `imgbuild login {asked.login}`"
    if status == 413:
        return "a proxy before the registry limits the size of requests; set `chunk-size` in the settings, or raise its limit"
    if status == 429:
        return f"the registry limits requests; `imgbuild login {asked.login}` often raises the limit, a mirror avoids it"
    if code == "UNSUPPORTED" or status == 405:
        return "this registry does not support it; perhaps it is a read-only mirror"
    return "the registry has a problem of its own; try again later" if status >= 500 else None

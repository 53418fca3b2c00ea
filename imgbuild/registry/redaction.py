"""What may be shown of a URL or a server's words: never a password, a token or a signature."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from imgbuild.hints import Iterable
from imgbuild.light import re

_MASK = "***"
_SCHEME_WORD = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_USERINFO = re.compile(r"://[^/\s@]+@")
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]+")


def shown_url(url: str) -> str:
    """A URL without user information, query and fragment: redirects and upload locations carry secrets there."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without what looks like one."""
    for secret in sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    text = _SCHEME_WORD.sub(lambda match: f"{match[1]} {_MASK}", text)
    return _QUERY.sub(r"\1", _USERINFO.sub("://", text))

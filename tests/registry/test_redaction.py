"""No secret is ever shown."""

from __future__ import annotations

from imgbuild.registry.credentials import Credential
from imgbuild.registry.redaction import redacted, shown_url


def test_a_url_without_its_secrets() -> None:
    assert shown_url("https://user:pass@host:1/a/b?X-Signature=abc#f") == "https://host:1/a/b"


def test_words_without_secrets() -> None:
    text = redacted("bad token tok-12345 at https://u:p@h/x?sig=abc with Bearer eyJabc.def", ["tok-12345"])
    assert "tok-12345" not in text and "eyJabc" not in text and "sig" not in text and "u:p" not in text


def test_a_credential_does_not_print_its_secrets() -> None:
    assert "hush" not in repr(Credential("me", "hush", "hush-token"))

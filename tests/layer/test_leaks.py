"""Secrets are found in a layer in each of their forms, wherever pieces begin and end; and nothing else is."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgbuild.errors import LeakError
from imgbuild.layer.leaks import SHORTEST, Leaks, signs

TOKEN = b"ghp_Ab3dE6gH9jKlMn0pQrStUvWxYz12345678ab"
ODD = b"p&ss w0rd/?~>\xc3\xa9=%"
KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"".join(
    base64.b64encode(bytes((number * 7 + line * 31) % 256 for number in range(48))) + b"\n" for line in range(6)
) + b"-----END PRIVATE KEY-----\n"  # fmt: skip


def tar_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def searched(tar: bytes, secrets: dict[str, bytes], *, size: int = 1 << 20, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
    search = Leaks(secrets, allowed).search()
    assert search is not None
    for start in range(0, len(tar), size):
        search.look(tar[start : start + size])
    return search.judge(lambda: io.BytesIO(tar))


def wrapped(width: int) -> Callable[[bytes], bytes]:
    def encode(data: bytes) -> bytes:
        text = base64.b64encode(data)
        return b"\n".join(text[at : at + width] for at in range(0, len(text), width))

    return encode


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "raw in a text": lambda data: b"key = '" + data + b"'\n",
    "base64": base64.b64encode,
    "base64 after one": lambda data: base64.b64encode(b":" + data),
    "base64 after two": lambda data: base64.b64encode(b"a:" + data),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 before others": lambda data: base64.b64encode(data + b"@host/path"),
    "base64 in lines of 76": wrapped(76),
    "base64 in lines of 64": wrapped(64),
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "hex in lines of 60": lambda data: b"\n".join(data.hex().encode()[at : at + 60] for at in range(0, 2 * len(data), 60)),
    "URL": lambda data: quote(data, safe="").encode(),
    "URL, plus": lambda data: quote_plus(data).encode(),
    "URL, lower": lambda data: re.sub("%..", lambda found: found[0].lower(), quote(data, safe="")).encode(),
    "URL of a browser": lambda data: quote(data, safe="!'()*").encode(),
}


HOOK = b"https://www.example.org/hook?0123456789"


@pytest.mark.parametrize("secret", [TOKEN, ODD, KEY, b"8 bytes!", b"xyz xyz x", HOOK, bytes(range(1, 60)), TOKEN * 3, b"with a newline\n"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_it(form: str, secret: bytes) -> None:
    leaking = FORMS[form](secret.strip(b"\n"))
    with pytest.raises(LeakError, match="'app/conf' has the secret 'k' in it"):
        searched(tar_of(**{"etc/other": b"nothing", "app/conf": b"before " + leaking + b" after"}), {"k": secret})


@settings(deadline=None)
@given(
    secret=st.binary(min_size=SHORTEST, max_size=120).filter(lambda data: signs("k", data) != ()),
    before=st.binary(max_size=40),
    size=st.integers(1, 700),
    encode=st.sampled_from([lambda data: data, base64.b64encode, lambda data: data.hex().encode()]),
)
@example(secret=TOKEN, before=b"", size=1, encode=base64.b64encode)
def test_it_is_found_across_pieces(secret: bytes, before: bytes, size: int, encode: Callable[[bytes], bytes]) -> None:
    tar = tar_of(f=before + encode(secret.strip(b"\r\n")))
    assert searched(tar, {"k": secret}, size=size, allowed=("k",)) == ("k",)


def test_a_line_of_a_key_and_of_a_file_of_several() -> None:
    lines = KEY.splitlines()
    for line in (lines[4], lines[6]):
        with pytest.raises(LeakError, match=r"\(a part of it\)"):
            searched(tar_of(f=b"x" + line), {"k": KEY})
    settings = b"//registry.example/:_authToken=npm_0123456789abcdefghij\nregistry=https://registry.npmjs.org/\n"
    with pytest.raises(LeakError, match=r"\(a part of it\)"):
        searched(tar_of(f=b"npm_0123456789abcdefghij"), {"k": settings})
    account = b'{"type": "x", "private_key": "' + KEY.replace(b"\n", b"\\n") + b'"}'
    with pytest.raises(LeakError):
        searched(tar_of(f=KEY), {"k": account})


def test_what_many_files_have_is_not_taken_for_it() -> None:
    first = KEY.splitlines()[1]
    other = b"-----BEGIN PRIVATE KEY-----\n" + first + b"\nno\n-----END PRIVATE KEY-----\n"
    assert searched(tar_of(f=other), {"k": KEY}) == ()
    maven = b'<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"\n xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    assert searched(tar_of(f=maven), {"k": maven + b"<password>0123456789abcdef0123</password>\n</settings>\n"}) == ()


LOGIN = b'{"auths": {"ghcr.io": {"auth": "dXNlcjpteS1wYXNzd29yZC0xMjM0NQ=="}}}'


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        (LOGIN, b"dXNlcjpteS1wYXNzd29yZC0xMjM0NQ=="),
        (LOGIN.replace(b"{", b"{\n\t").replace(b"}", b"\n}") + b"\n", b"dXNlcjpteS1wYXNzd29yZC0xMjM0NQ=="),
        (b"//r/:_authToken=ya29.a0AfB_byC3kT0q9x-Zs81kLq\nregistry=https://r/\n", b"ya29.a0AfB_byC3kT0q9x-Zs81kLq"),
        (b"Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"),
        (b"key A1B2C-D3E4F-G5H6I-J7K8L.\n", b"A1B2C-D3E4F-G5H6I-J7K8L"),
        (b"".join(b"T%d=%02dabcdefghijkl%02d\n" % (number, number, number) for number in range(40)), b"39abcdefghijkl39"),
    ],
)
def test_words_of_files(secret: bytes, word: bytes) -> None:
    with pytest.raises(LeakError, match=r"\(a part of it\)"):
        searched(tar_of(f=b"=" + word), {"k": secret})


@pytest.mark.parametrize(
    "word",
    [
        b"x86_64-linux-gnu",
        b"/usr/lib/jvm/java-17-openjdk-amd64",
        b"utf8mb4_unicode_ci",
        b"org.hibernate.dialect.MySQL8Dialect",
        b"application/vnd.api.v2",
    ],
)
def test_settings_beside_secrets_are_none(word: bytes) -> None:
    assert searched(tar_of(f=word), {"k": b"PASSWORD=correct-horse-battery\nSETTING=" + word + b"\n"}) == ()


@pytest.mark.parametrize("secret", [TOKEN, TOKEN[:24], TOKEN + b"12345678"])
@pytest.mark.parametrize("width", [64, 76])
def test_base64_with_breaks_in_the_secret(secret: bytes, width: int) -> None:
    for before in range(width):
        with pytest.raises(LeakError, match=r"\(as base64\)"):
            searched(tar_of(f=wrapped(width)(b"." * before + secret + b"@host")), {"k": secret})


def _pem(kind: str, line: int) -> bytes:
    return KEY.replace(b"PRIVATE KEY", kind.encode()).replace(KEY.splitlines()[3], b"%064d" % line)


@pytest.mark.parametrize("kind", ["CERTIFICATE", "TRUSTED CERTIFICATE", "PUBLIC KEY", "X509 CRL", "CERTIFICATE REQUEST"])
def test_what_is_public_is_no_secret(kind: str) -> None:
    bundle = b"# A name\n" + _pem(kind, 1) + _pem(kind, 2)
    assert signs("ca", bundle) == ()
    assert Leaks({"ca": bundle}).weak == ()
    lines = b"".join(b"%032x\n" % (number << 99) for number in range(9))
    private = b"-----BEGIN RSA PRIVATE KEY-----\n" + lines + b"-----END RSA PRIVATE KEY-----\n"
    assert searched(tar_of(f=bundle), {"k": bundle + private}) == ()
    with pytest.raises(LeakError):
        searched(tar_of(f=private), {"k": bundle + private})


def test_a_password_in_a_url() -> None:
    for secret in (b"https://ann:pass.word%2@host/simple", b"[global]\nindex-url = https://:s3cretpw!@host/simple\n"):
        password = secret.partition(b"//")[2].partition(b":")[2].partition(b"@")[0]
        with pytest.raises(LeakError, match=r"\(a part of it\)"):
            searched(tar_of(f=b"password " + password), {"k": secret})


@given(data=st.binary(max_size=3000))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    assert searched(tar_of(f=data), {"k": TOKEN, "other": KEY}, size=512) == ()


def test_names_targets_and_attributes_count() -> None:
    token = TOKEN.decode()
    for info in (tarfile.TarInfo(f"d/{token}"), tarfile.TarInfo("link"), tarfile.TarInfo("file")):
        if info.name == "link":
            info.type, info.linkname = tarfile.SYMTYPE, f"/{token}"
        if info.name == "file":
            info.pax_headers = {"SCHILY.xattr.user.note": token}
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(info)
        shown = info.name.replace(token, r"\*\*\*")
        with pytest.raises(LeakError, match=f"'{shown}' has the secret 'k' in its name, target or attributes"):
            searched(stream.getvalue(), {"k": TOKEN})


@pytest.mark.parametrize("size", [1, 100, 512, 700, 1 << 20])
def test_a_name_in_two_parts_counts(size: int) -> None:
    secret = b"Ab3dE6gH9jKl/Mn0pQrStUvWx/Yz1234"
    for depth in range(10, 100, 7):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in ("a", f"{'d' * depth}/{secret.decode()}/{'e' * 80}", "f"):
                archive.addfile(tarfile.TarInfo(name))
        assert secret not in stream.getvalue()
        with pytest.raises(LeakError, match="has the secret 'k' in its name, target or attributes"):
            searched(stream.getvalue(), {"k": secret}, size=size)


def test_all_files_are_named_as_far_as_there_are_few() -> None:
    with pytest.raises(LeakError) as caught:
        searched(tar_of(**{f"f{number}": TOKEN for number in range(9)}), {"k": TOKEN})
    assert "'f0'" in caught.value.message
    assert len(caught.value.notes) == 6
    assert caught.value.notes[-1] == "and 3 more"


def test_what_is_allowed_and_what_is_not() -> None:
    secrets = {"a": TOKEN, "b": ODD}
    assert searched(tar_of(f=TOKEN), secrets, allowed=("a",)) == ("a",)
    with pytest.raises(LeakError, match="the secret 'b'"):
        searched(tar_of(f=TOKEN, g=ODD), secrets, allowed=("a",))
    leaks = Leaks(secrets, ("a",))
    assert leaks.forbids(["b"])
    assert not leaks.forbids(["a", "unknown"])


@pytest.mark.parametrize("short", [b"", b"1234567", b"1234567\r\n", b"\n" * 9, b"\0" * 600, b"00000000", b" " * 12, b"1212121212"])
def test_what_is_too_short_or_too_plain_is_not_looked_for(short: bytes) -> None:
    assert signs("k", short) == ()
    assert Leaks({"k": short, "long": TOKEN}).weak == ("k",)
    assert Leaks({"k": short}).search() is None


def test_a_secret_is_in_no_representation() -> None:
    assert TOKEN.decode() not in repr(signs("k", TOKEN))

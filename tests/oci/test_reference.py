"""Names of images: the abbreviations, what is refused, and that a familiar name reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import ImageError
from imgbuild.oci.reference import Reference, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("me/tool", "docker.io/me/tool:latest"),
        ("index.docker.io/library/a", "docker.io/library/a:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b"),
        ("127.0.0.1:1/a/b/c", "127.0.0.1:1/a/b/c:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}"),
        (f"r.io/a:t@{DIGEST}", f"r.io/a:t@{DIGEST}"),
        ("a__b/c--d", "docker.io/a__b/c--d:latest"),
    ],
)
def test_what_a_name_means(text: str, full: str) -> None:
    assert str(parse_reference(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "A",
        "a/B",
        "-a",
        "a-",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a:b c",
        "a:" + "t" * 129,
        "a@sha256:ab",
        "a@",
        "a@" + DIGEST[:-1],
        "a" * 256,
        "r_x.io/a",
        "a..b",
        "../a",
        "a:é",
        "a@md5:" + "0" * 32,
        "a\n",
        "http://a/b",
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ImageError):
        parse_reference(text)


PARTS = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,4})?", fullmatch=True)
REGISTRIES = st.sampled_from(["docker.io", "localhost", "localhost:5000", "r.io", "10.0.0.1:80"])


@given(REGISTRIES, st.lists(PARTS, min_size=1, max_size=3), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True))
def test_familiar_names_read_back(registry: str, parts: list[str], tag: str) -> None:
    repository = "/".join(parts)
    if registry == "docker.io" and len(parts) == 1:
        repository = f"library/{repository}"
    reference = Reference(registry, repository, tag)
    assert parse_reference(reference.familiar()) == reference
    assert parse_reference(str(reference)) == reference

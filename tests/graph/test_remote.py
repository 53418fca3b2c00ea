"""Remote sources by their text: which are Git repositories, which are files, and what is neither."""

from __future__ import annotations

import pytest

from imgbuild.errors import BuildfileError
from imgbuild.graph.ops import RemoteSource
from imgbuild.graph.remote import commit_checksum, is_commit, parse_remote, sha256_checksum

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("text", ["a.txt", "./http://x", "../x.git", "/https://x/y", "github.com/a/b", "a@b", "git", "c:/x", "dir/git@x", "file:///x"])
def test_paths(text: str) -> None:
    assert parse_remote(text) is None


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("https://h/a/b.tar.gz", "https://h/a/b.tar.gz", "b.tar.gz"),
        ("HTTP://h:80/a/?q=/z", "HTTP://h:80/a/?q=/z", "a"),
        ("https://h", "https://h", "__unnamed__"),
        ("https://h/?x", "https://h/?x", "__unnamed__"),
        ("https://h/a%20b%C3%A4#part", "https://h/a%20b%C3%A4", "a bä"),
        ("https://h/x.git/", "https://h/x.git/", "x.git"),
        ("https://h/a/../b", "https://h/a/../b", "b"),
        ("https://h/%2e%2e", "https://h/%2e%2e", "__unnamed__"),
    ],
)
def test_files(text: str, url: str, name: str) -> None:
    assert parse_remote(text) == RemoteSource("http", url, name=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a.git", RemoteSource("git", "https://h/a.git")),
        ("http://h/a.git#v1:sub/../dir/", RemoteSource("git", "http://h/a.git", ref="v1", subdir="dir")),
        ("git://h/a", RemoteSource("git", "git://h/a")),
        ("ssh://git@h:22/a#:d", RemoteSource("git", "ssh://git@h:22/a", subdir="d")),
        ("git@h:a/b.git#r", RemoteSource("git", "git@h:a/b.git", ref="r")),
        ("deploy@h.org:b", RemoteSource("git", "deploy@h.org:b")),
        ("https://h/a.git?tag=v1", RemoteSource("git", "https://h/a.git", ref="refs/tags/v1")),
        ("https://h/a.git?branch=refs/heads/x%2Fy", RemoteSource("git", "https://h/a.git", ref="refs/heads/x/y")),
        ("https://h/a.git?commit=" + HASH, RemoteSource("git", "https://h/a.git", ref=HASH, checksum=HASH)),
        ("https://h/a.git?ref=x&checksum=AB&subdir=d", RemoteSource("git", "https://h/a.git", ref="x", checksum="ab", subdir="d")),
        ("https://h/a.git?ref=x#x:d", RemoteSource("git", "https://h/a.git", ref="x", subdir="d")),
        (
            "https://h/a.git?keep-git-dir&submodules=0",
            RemoteSource("git", "https://h/a.git", keep_git_dir=True, submodules=False),
        ),
        ("https://h/a.git?keep-git-dir=false&submodules", RemoteSource("git", "https://h/a.git", keep_git_dir=False)),
    ],
)
def test_repositories(text: str, expected: RemoteSource) -> None:
    assert parse_remote(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https:///x", "https://h/a b", "ssh://-o/x", "ssh:///x", "git@-h:x", "https://h/a.git#-x", "https://h/a.git#a b", "https://h/a.git#x.lock",
        "https://h/a.git?ref=a&ref=b", "https://h/a.git?x=1", "https://h/a.git?tag=a&branch=b", "https://h/a.git?ref=a#b", "https://h/a.git?ref=",
        "https://h/a.git?checksum=g", "https://h/a.git?submodules=x", "https://h/a.git?subdir=a#b:c", "https://h/a.git?commit=ab&checksum=cd",
        "https://h/%00", "git://h/a\n",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(BuildfileError):
        parse_remote(text)


def test_checksums() -> None:
    assert is_commit(HASH) and not is_commit(HASH[1:]) and not is_commit("main")
    assert commit_checksum("ABC") == "abc"
    assert sha256_checksum("sha256:" + "0" * 64) == "sha256:" + "0" * 64
    for text in ("sha256:", "sha256:" + "A" * 64, "0" * 64):
        with pytest.raises(BuildfileError):
            sha256_checksum(text)
    for text in ("", "g", "0" * 65, "sha256:00"):
        with pytest.raises(BuildfileError):
            commit_checksum(text)

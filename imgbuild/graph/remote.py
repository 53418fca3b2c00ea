"""Remote sources by their text: what is a Git repository, what a file behind a URL, and what is said of either in the text.

The forms are BuildKit's (dfgitutil, gitutil): a URL whose path ends in ``.git``, ``git://``, ``ssh://`` and ``user@host:path``, followed
by ``?key=value&...`` and ``#ref:subdir``. Nothing that git could take for an option gets through. Not here: fetching (fetch).
"""

from __future__ import annotations

import posixpath

from imgbuild.errors import BuildfileError
from imgbuild.graph.ops import RemoteSource
from imgbuild.patterns import DOTALL, IGNORECASE, pattern
from imgbuild.values import replace

UNNAMED = "__unnamed__"
"""The name of a file whose URL has none: BuildKit's."""

_URL = pattern(r"(https?|git|ssh)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", IGNORECASE | DOTALL)
_SCP = pattern(r"([A-Za-z0-9_][A-Za-z0-9_-]*)@([A-Za-z0-9.-]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", DOTALL)
_PERCENT = pattern(r"(?:%[0-9a-fA-F]{2})+")
_SHA256 = pattern(r"sha256:[0-9a-f]{64}")
_OTHER_SHA = pattern(r"sha(384|512):[0-9a-f]+")
_COMMIT = pattern(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHECKSUM = pattern(r"[0-9a-fA-F]+")
_BAD_REF = pattern(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|\.lock(/|$)|[/.]$")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def parse_remote(text: str) -> RemoteSource | None:
    """What a source of ADD, or a build context, means if it is remote; None where it is a path. BuildfileError where it is malformed."""
    if text.startswith(("./", "../", "/")):
        return None
    match = _URL.fullmatch(text)
    if match is not None:
        scheme, host, path, query, fragment = match.groups()
        if scheme.lower() in ("http", "https") and not path.endswith(".git"):
            return _file(text, host, path)
        _check_host(text, host)
        return _git(f"{scheme.lower()}://{host}{path}", query, fragment)
    match = _SCP.fullmatch(text)
    if match is None:
        return None
    user, host, path, query, fragment = match.groups()
    _check_host(text, host)
    return _git(f"{user}@{host}:{path}", query, fragment)


def parse_context(text: str) -> RemoteSource | None:
    """As `parse_remote`, for a build context: there ``github.com/NAME/REPOSITORY`` is a repository, too."""
    if text.startswith("github.com/"):
        remote = parse_remote(f"git://{text}")
        return None if remote is None else replace(remote, url=f"https://{remote.url.removeprefix('git://')}")
    return parse_remote(text)


def is_commit(ref: str) -> bool:
    """Whether a ref is a whole commit hash, which means the same for ever."""
    return _COMMIT.fullmatch(ref) is not None


def sha256_checksum(text: str) -> str:
    """The value of ``--checksum`` for a file; BuildfileError where it is none."""
    if _SHA256.fullmatch(text):
        return text
    algorithm = text.partition(":")[0]
    if _OTHER_SHA.fullmatch(text):
        raise BuildfileError(f"the checksum is of the kind {algorithm}, which is not known here", hint="give the sha256 one")
    raise BuildfileError(f"bad checksum {text!r}", hint="write sha256: and 64 hexadecimal digits")


def commit_checksum(text: str) -> str:
    """The value of ``--checksum`` for a repository, a commit's hash or its beginning; BuildfileError where it is none."""
    if len(text) > 64 or not _CHECKSUM.fullmatch(text):
        raise BuildfileError(f"bad checksum {text!r} for a Git source", hint="it is a commit's hash, or its beginning, in hexadecimal")
    return text.lower()


def _file(text: str, host: str, path: str) -> RemoteSource:
    url = text.partition("#")[0]
    if not host.rpartition("@")[2] or any(char <= " " or char == "\x7f" for char in url):
        raise BuildfileError(f"{text!r} is not a URL that can be fetched", hint="write https://HOST/PATH, with spaces as %20")
    name = posixpath.basename(posixpath.normpath(_unquoted(path))) if path.strip("/") else ""
    if "\0" in name or name in ("..",):
        raise BuildfileError(f"the last part of {text!r} can't be the name of a file")
    return RemoteSource("http", url, name=name if name not in ("", ".") else UNNAMED)


def _git(remote: str, query: str | None, fragment: str | None) -> RemoteSource:
    ref, _, subdir = _unquoted(fragment or "").partition(":")
    said = _Said(ref, subdir)
    for field in filter(None, (query or "").split("&")):
        key, equals, value = field.partition("=")
        said.add(_unquoted(key.replace("+", " ")), _unquoted(value.replace("+", " ")) if equals else "")
    ref = said.final_ref()
    if ref and _BAD_REF.search(ref):
        raise BuildfileError(f"{ref!r} can't be a Git ref")
    return RemoteSource(
        "git", remote, ref=ref, subdir=_subdir(said.subdir), checksum=commit_checksum(said.checksum) if said.checksum else "",
        keep_git_dir=said.keep_git_dir, submodules=said.submodules is not False,
    )  # fmt: skip


class _Said:
    """What fragment and query say together."""

    def __init__(self, ref: str, subdir: str) -> None:
        self.ref, self.subdir = ref, subdir
        self.tag = self.branch = self.checksum = ""
        self.keep_git_dir: bool | None = None
        self.submodules: bool | None = None
        self._seen: set[str] = set()

    def add(self, key: str, value: str) -> None:
        if key in self._seen:
            raise BuildfileError(f"the query of a Git URL has {key!r} twice")
        self._seen.add(key)
        if not value and key not in ("submodules", "keep-git-dir"):
            raise BuildfileError(f"{key!r} in the query of a Git URL has no value")
        match key:
            case "ref":
                self.ref = self._one("ref", self.ref, value)
            case "subdir":
                self.subdir = self._one("subdir", self.subdir, value)
            case "tag":
                self.tag = f"refs/tags/{value.removeprefix('refs/tags/')}"
            case "branch":
                self.branch = f"refs/heads/{value.removeprefix('refs/heads/')}"
            case "checksum" | "commit":
                self.checksum = self._one("checksum", self.checksum, value)
            case "keep-git-dir":
                self.keep_git_dir = _truth(key, value)
            case "submodules":
                self.submodules = _truth(key, value)
            case _:
                known = "ref, tag, branch, commit, checksum, subdir, submodules, keep-git-dir"
                raise BuildfileError(f"{key!r} is not known in the query of a Git URL", hint=f"it has {known}")

    def final_ref(self) -> str:
        if self.tag and self.branch:
            raise BuildfileError("the query of a Git URL has both a branch and a tag")
        ref = self._one("ref", self.ref, self.tag or self.branch) if self.tag or self.branch else self.ref
        return ref or self.checksum

    @staticmethod
    def _one(key: str, before: str, value: str) -> str:
        if before and before != value:
            raise BuildfileError(f"a Git URL says two things of its {key}: {before!r} and {value!r}")
        return value


def _truth(key: str, value: str) -> bool:
    if not value or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise BuildfileError(f"bad value {value!r} of {key!r} in the query of a Git URL", hint="it is true or false")


def _subdir(text: str) -> str:
    """A directory inside the repository, clean and relative."""
    if "\0" in text:
        raise BuildfileError(f"the directory {text!r} can't be in a Git repository")
    return posixpath.normpath(f"/{text}").lstrip("/")


def _check_host(text: str, host: str) -> None:
    name = host.rpartition("@")[2]
    if not name or host.startswith("-") or name.startswith("-") or any(char <= " " or char == "\x7f" for char in text):
        raise BuildfileError(f"{text!r} is not the URL of a Git repository")


def _unquoted(text: str) -> str:
    """Percent-encoded bytes as text; what is no UTF-8 stays bytes (surrogateescape)."""
    return _PERCENT.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogateescape"), text)

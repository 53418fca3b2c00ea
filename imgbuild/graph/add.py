"""Remote sources of an ADD: which of its words they are, and what its flags say of them. BuildKit's rules (dispatchCopy)."""

from __future__ import annotations

from imgbuild.buildfile import instructions as ast
from imgbuild.errors import BuildfileError
from imgbuild.graph.ops import RemoteSource
from imgbuild.graph.remote import commit_checksum, parse_remote, sha256_checksum
from imgbuild.values import replace


def remote_sources(item: ast.Copy, words: tuple[str, ...], checksum: str) -> tuple[RemoteSource, ...]:
    """The remote ones among the sources of ADD; `words` are the sources with their variables replaced, `checksum` is the flag's value.

    BuildfileError for a remote source of COPY, and for flags that don't fit."""
    found = []
    for position, (text, word) in enumerate(zip(words, item.sources, strict=True)):
        try:
            remote = parse_remote(text)
        except BuildfileError as error:
            raise error.located(word.span) from None
        if remote is None:
            continue
        if not isinstance(item, ast.Add):
            what = "a URL" if remote.kind == "http" else "a Git repository"
            raise BuildfileError(f"a source of COPY can't be {what}: {text}", at=word.span, hint="ADD fetches remote sources")
        found.append(replace(remote, position=position))
    _check_flags(item, words, tuple(found), checksum)
    return tuple(_with_flags(item, remote, checksum) for remote in found)


def _check_flags(item: ast.Copy, words: tuple[str, ...], remotes: tuple[RemoteSource, ...], checksum: str) -> None:
    flag = item.flag("checksum")
    if flag is None or not checksum:
        return
    if len(words) + len(item.heredocs) != 1:
        raise BuildfileError("--checksum is of one source, but there are several", at=flag.span, hint="write an ADD for each")
    if not remotes:
        raise BuildfileError("--checksum needs a source that is a URL or a Git repository", at=flag.span)


def _with_flags(item: ast.Copy, remote: RemoteSource, checksum: str) -> RemoteSource:
    flag = item.flag("checksum")
    try:
        if remote.kind == "http":
            unpack = item.flag("unpack")
            wanted = unpack is not None and (unpack.value or "true").lower() == "true"
            return replace(remote, checksum=sha256_checksum(checksum) if checksum else "", unpack=wanted)
        if checksum:
            given = commit_checksum(checksum)
            if remote.checksum and remote.checksum != given:
                raise BuildfileError(f"--checksum={checksum} and the one in the URL, {remote.checksum}, differ")
            remote = replace(remote, checksum=given)
    except BuildfileError as error:
        raise error.located(flag.span if flag is not None else None) from None
    keep = item.flag("keep-git-dir")
    if keep is None:
        return remote
    kept = (keep.value or "true").lower() == "true"
    if remote.keep_git_dir is not None and remote.keep_git_dir != kept:
        raise BuildfileError("--keep-git-dir and keep-git-dir in the URL differ", at=keep.span)
    return replace(remote, keep_git_dir=kept)

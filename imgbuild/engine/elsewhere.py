"""Build contexts that are no directory here: stdin, a tar, a URL, a Git repository. They are brought in before the build is planned.

What is unpacked lies in the store's temporary area for as long as the build lasts; a repository's tree is kept with the other sources.
Such a context may be hostile: nothing in it is read through a symlink that leads out of it.
"""

from __future__ import annotations

import os
import stat
import sys

from imgbuild.context.ignore import Ignore
from imgbuild.engine.remote import REMOTE_FILE, Fetchers, OnEvent
from imgbuild.engine.replay import NAMES
from imgbuild.engine.request import BuildRequest
from imgbuild.engine.source import MOST_BYTES, BuildSource
from imgbuild.engine.step_options import opened_agents, read_agents, read_secrets
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import BuildfileError, ContextError, ImgbuildError, UsageError
from imgbuild.graph.ops import RemoteSource
from imgbuild.graph.remote import parse_context
from imgbuild.hints import TYPE_CHECKING, Iterator
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.linux.paths import Root
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.context.single import SingleFile

_NO_EPOCH = 1 << 34


def is_elsewhere(context: str) -> bool:
    """Whether a build context must be brought in first."""
    return not os.path.isdir(context) and (context == "-" or os.path.isfile(context) or _remote(context) is not None)


@contextmanager
def brought_in(place: Workplace, request: BuildRequest, on_event: OnEvent) -> Iterator[BuildRequest]:
    """The request with its context brought in, where it must be, for as long as this lasts."""
    if not is_elsewhere(request.context):
        yield request
        return
    secrets = read_secrets(request.secrets, place.environ)
    with (
        opened_agents(read_agents(request.ssh, place.environ), place.environ) as agents,
        Fetchers(place, secrets, on_event, offline=request.pull == "never", agents=agents) as fetchers,
        place.store.temporary("context") as scratch,
    ):
        found = _Elsewhere(place, request, fetchers, scratch)
        try:
            source = found.source()
        except ImgbuildError as error:
            if error.at is None and not isinstance(error, UsageError):
                error.message = f"the build context {_shown(request.context)!r} can't be used: {error.message}"
            raise
        yield replace(request, source=source)


class _Elsewhere:
    def __init__(self, place: Workplace, request: BuildRequest, fetchers: Fetchers, scratch: Path) -> None:
        self._place = place
        self._request = request
        self._fetchers = fetchers
        self._scratch = scratch

    def source(self) -> BuildSource:
        context = self._request.context
        if context == "-":
            return self._stdin()
        remote = _remote(context)
        if remote is None:
            return self._unpacked(_single(Path(os.path.realpath(context))))
        if remote.kind == "git":
            return self._repository(remote)
        file = self._fetchers.file(remote)
        from imgbuild.context.single import SingleFile

        single = SingleFile(REMOTE_FILE, self._place.store.blobs.path(file.digest), file.size, 0o600, 0)
        return self._unpacked(single) if _is_archive(single) else self._one_file(single, _shown(context))

    def _stdin(self) -> BuildSource:
        if self._request.file == "-":
            raise UsageError("stdin can't be both the build context and the Buildfile")
        data = self._scratch / "stdin"
        with data.open("wb") as spool:
            while block := sys.stdin.buffer.read(1 << 20):
                spool.write(block)
        single = _single(data)
        if _is_archive(single):
            return self._unpacked(single)
        if self._request.file is not None:
            hint = "leave -f out; or give a directory as the context, and the Buildfile with -f -"
            raise UsageError(f"stdin holds a Buildfile, and -f {self._request.file} names another", hint=hint)
        return self._only(data.read_bytes()[: MOST_BYTES + 1], "stdin")

    def _only(self, text: bytes, name: str) -> BuildSource:
        """A Buildfile without anything beside it."""
        empty = self._scratch / "files"
        empty.mkdir(exist_ok=True)
        return BuildSource(empty, text, name, Ignore(), fetched=True)

    def _one_file(self, single: SingleFile, name: str) -> BuildSource:
        """A Buildfile behind a URL, which is also the only file of its context."""
        fd = single.open(single.path)
        with open(fd, "rb") as stream:
            text = stream.read(MOST_BYTES + 1)
        source = self._only(text, name)
        (source.context / REMOTE_FILE).write_bytes(text)
        return source

    def _unpacked(self, single: SingleFile) -> BuildSource:
        from imgbuild.context.tree import Found
        from imgbuild.rootfs.copy import CopyRequest, TreeSource, perform_copy
        from imgbuild.snapshot.union import UnionView

        if not _is_archive(single):
            raise ContextError("it is neither a directory nor a tar", hint="give the directory that holds the files to copy")
        files = self._scratch / "files"
        files.mkdir()
        source = TreeSource(single, (Found(REMOTE_FILE, single.path),))
        request = CopyRequest((source,), "/", _NO_EPOCH, owner="0:0", unpack=True)
        with UnionView(()) as nothing:
            perform_copy(request, nothing, files, userxattr=self._place.features.rootless)
        return self._found(files)

    def _repository(self, remote: RemoteSource) -> BuildSource:
        kept = [word.partition("=")[2] for word in self._request.build_args if word.startswith("BUILDKIT_CONTEXT_KEEP_GIT_DIR=")]
        if kept and kept[-1].lower() in ("1", "t", "true"):
            remote = replace(remote, keep_git_dir=True)
        tree = self._fetchers.repository(remote)
        return replace(self._found(tree.path), kept=True, time=tree.time)

    def _found(self, directory: Path) -> BuildSource:
        """The Buildfile and the ignore file of a context."""
        request = self._request
        with Root.open_path(directory) as root:
            if request.text is not None:
                return BuildSource(directory, request.text, request.file or "Buildfile", _ignore(root, None), fetched=True)
            if request.file == "-":
                return BuildSource(directory, sys.stdin.buffer.read(MOST_BYTES + 1), "stdin", _ignore(root, None), fetched=True)
            name = request.file or next((name for name in NAMES if _read(root, name) is not None), None)
            if name is None:
                raise BuildfileError("there is no Buildfile in it", hint=f"its name is one of {', '.join(NAMES)}, or is given with -f")
            found = _read(root, name)
            if found is None:
                raise BuildfileError(f"{name} does not exist in it", hint="-f names the Buildfile inside of the context")
            text, real = found
            return BuildSource(directory, text, name, _ignore(root, name), Path(real), fetched=True)


def _remote(context: str) -> RemoteSource | None:
    try:
        return parse_context(context)
    except BuildfileError as error:
        raise UsageError(f"the build context {_shown(context)!r} can't be used: {error.message}", hint=error.hint) from None


def _shown(context: str) -> str:
    """A context as a person may see it: a URL without what authorizes."""
    if "://" not in context:
        return context
    from imgbuild.registry.redaction import redacted

    return redacted(context)


def _single(path: Path) -> SingleFile:
    from imgbuild.context.single import SingleFile

    try:
        return SingleFile(REMOTE_FILE, path, path.stat().st_size, 0o600, 0)
    except OSError as error:
        raise ContextError(f"can't read it: {error.strerror}") from None


def _is_archive(single: SingleFile) -> bool:
    from imgbuild.rootfs.copy_unpack import is_archive

    try:
        return is_archive(single, single.path)
    except OSError as error:
        raise ContextError(f"can't read it: {error.strerror}") from None


def _ignore(root: Root, buildfile: str | None) -> Ignore:
    names = [".dockerignore"] if buildfile is None else [f"{buildfile}.dockerignore", ".dockerignore"]
    for name in names:
        found = _read(root, name)
        if found is not None:
            return Ignore.parse(found[0].decode("utf-8", "surrogateescape"), os.path.basename(name))
    return Ignore()


def _read(root: Root, name: str) -> tuple[bytes, str] | None:
    """The content of a file inside of a context, and its real path; None where there is none."""
    try:
        with root.opened(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            with open(fd, "rb", closefd=False) as stream:
                text = stream.read(MOST_BYTES + 1)
            real = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    if len(text) > MOST_BYTES:
        raise BuildfileError(f"{name} is larger than {MOST_BYTES >> 20} MiB")
    return text, real

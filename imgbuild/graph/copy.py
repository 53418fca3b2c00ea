"""COPY and ADD, lowered: words and flags with their variables replaced, as a `CopyOp`.

Semantics are BuildKit's (dispatchCopy). Not here: what a source word means (context), where it goes (rootfs).
"""

from __future__ import annotations

import posixpath

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand, expand_heredoc
from imgbuild.buildfile.modes import parse_mode
from imgbuild.errors import BuildfileError
from imgbuild.graph.add import remote_sources
from imgbuild.graph.ops import CopyOp, FileText, Origin
from imgbuild.hints import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imgbuild.oci.config import RunConfig



class StageState(Protocol):
    """What COPY and ADD need to know of the stage that they stand in."""

    buildfile: ast.Buildfile
    config: RunConfig
    env: dict[str, str]
    epoch: int

    def expand(self, word: ast.Word) -> str: ...

    def source(self, name: str) -> Origin: ...

    def independent_epoch(self, source: int | None) -> int: ...

    def add_step(self, op: CopyOp, instruction: ast.Instruction, created_by: str) -> None: ...


def lower_copy(stage: StageState, item: ast.Copy) -> None:
    """Append the step of a COPY or ADD to its stage."""
    add = isinstance(item, ast.Add)
    name = "ADD" if add else "COPY"
    sources = tuple(stage.expand(word) for word in item.sources)
    for source, word in zip(sources, item.sources, strict=True):
        if not source:
            raise BuildfileError(f"a source of {name} is empty once its variables are replaced", at=word.span)
    remotes = remote_sources(item, sources, _flag(stage, item, "checksum"))
    documents = tuple(_document(stage, heredoc) for heredoc in item.heredocs)
    destination = _destination(stage, item.destination)
    if len(sources) + len(documents) > 1 and not destination.endswith("/"):
        raise BuildfileError(
            f"with more than one source, the destination of {name} must be a directory and end in '/'", at=item.destination.span
        )
    source_flag = item.flag("from")
    origin = stage.source(source_flag.value) if source_flag is not None and source_flag.value else Origin()
    chown, chmod = _flag(stage, item, "chown"), _mode(stage, item)
    link = _link(item, chown, chmod)
    op = CopyOp(
        sources=tuple(source for number, source in enumerate(sources) if all(remote.position != number for remote in remotes)),
        remotes=remotes,
        destination=destination,
        epoch=stage.independent_epoch(origin.stage) if link else stage.epoch,
        stage=origin.stage,
        context=origin.context,
        documents=documents,
        chown=chown,
        chmod=chmod,
        unpack=_switch(item, "unpack", default=add),
        link=link,
        parents=_switch(item, "parents"),
        exclude=tuple(flag.value or "" for flag in item.flags if flag.name == "exclude"),
        optional=_switch(item, "optional"),
    )
    flags = (f"--{flag.name}" if flag.value is None else f"--{flag.name}={flag.value}" for flag in item.flags)
    words = (*flags, *sources, *(f"<<{doc.name}" for doc in documents))
    stage.add_step(op, item, f"{name} {' '.join((*words, destination))}")


def _link(item: ast.Copy, chown: str, chmod: str) -> bool:
    """Whether --link holds: BuildKit drops it beside --chmod, and so files keep following the symlinks of the destination there."""
    if not _switch(item, "link") or chmod:
        return False
    for part in chown.split(":", 1):
        if part and not (part.isascii() and part.isdigit()):
            flag = item.flag("chown")
            raise BuildfileError(
                f"--chown={chown} can't be looked up with --link, which reads nothing of the image",
                at=flag.span if flag else None,
                hint="write the numbers of the user and the group, or leave --link out",
            )
    return True


def _switch(item: ast.Copy, name: str, *, default: bool = False) -> bool:
    flag = item.flag(name)
    return default if flag is None else (flag.value or "true").lower() == "true"


def _mode(stage: StageState, item: ast.Copy) -> str:
    """The value of --chmod, which is read once now so that a bad one is said before anything is done."""
    mode = _flag(stage, item, "chmod")
    flag = item.flag("chmod")
    if mode and flag is not None:
        try:
            parse_mode(mode)
        except BuildfileError as error:
            raise error.located(flag.span) from None
    return mode


def _document(stage: StageState, heredoc: ast.Heredoc) -> FileText:
    if not heredoc.expand:
        return FileText(heredoc.name, heredoc.content)
    return FileText(heredoc.name, expand_heredoc(heredoc.content, stage.env, stage.buildfile.escape, heredoc.span))


def _flag(stage: StageState, item: ast.Copy, name: str) -> str:
    """The value of a flag in which variables are replaced; "" where it does not stand."""
    flag = item.flag(name)
    return "" if flag is None else expand(flag.value or "", stage.env, stage.buildfile.escape, flag.span)


def _destination(stage: StageState, word: ast.Word) -> str:
    written = stage.expand(word) or "."  # an empty one is the working directory
    path = posixpath.normpath(posixpath.join("/", stage.config.working_dir, written)).replace("//", "/", 1)
    directory = written.endswith(("/", "/.")) or written in (".", "..")
    return path + "/" if directory and path != "/" else path

"""What a step reads beside its parent, as digests for its key: files of the build context, of other stages, of images; secrets.

Digests of what a stage holds are remembered by the ChainID of its layers, so that a build in which all is cached needs no file of it.
"""

from __future__ import annotations

from imgbuild.errors import BuildfileError, ContextError, ImgbuildError
from imgbuild.graph.key import RECORD_VERSION
from imgbuild.graph.ops import CopyOp, MountOp, RemoteSource, RunOp, Step
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import contextmanager
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import RootState
from imgbuild.values import dataclass, field

if TYPE_CHECKING:  # a build without COPY reads no files
    from imgbuild.context.digest import Kept
    from imgbuild.context.tree import Found, Tree
    from imgbuild.rootfs.copy import CopyRequest, TreeSource

States = Callable[[int], RootState]
"""The state at the end of a stage, by its index."""


@dataclass(frozen=True, slots=True)
class Memo:
    """A digest of a stage that was made by this build: to be remembered when the stage's layers are known."""

    state: RootState
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Digests by the name of the input, what is yet to be remembered of them, and what they were made of, as far as they were made."""

    digests: dict[str, str] = field(default_factory=dict)
    memos: tuple[Memo, ...] = ()
    kept: tuple[Kept, ...] = ()


def step_inputs(rooms: Rooms, step: Step, states: States) -> StepInputs:
    """The inputs of a step; ContextError where a source does not exist."""
    if isinstance(step.op, CopyOp):
        return _copy_inputs(rooms, step.op, states)
    if isinstance(step.op, RunOp):
        return _mount_inputs(rooms, step.op, states)
    return StepInputs()


def copy_request(rooms: Rooms, op: CopyOp, tree: Tree) -> CopyRequest:
    """A COPY or ADD as the room that performs it wants it, with its sources found in `tree`."""
    from imgbuild.rootfs.copy import CopyRequest, InlineSource

    _check_excluded(op)
    try:
        sources = [_source(op, tree, word) for word in op.sources]
    except ContextError as error:
        if op.sources and op.sources[0].startswith("["):
            error.hint = error.hint or "if the JSON form was meant: it needs double quotes and commas"
        raise
    for remote in op.remotes:
        sources.insert(remote.position, _remote(rooms, remote))
    documents = tuple(InlineSource(file.name, file.content.encode("utf-8", "surrogateescape")) for file in op.documents)
    return CopyRequest(
        sources=(*sources, *documents),
        destination=op.destination,
        epoch=op.epoch,
        owner=op.chown or None,
        mode=op.chmod or None,
        unpack=op.unpack,
        exclude=op.exclude,
    )


def _check_excluded(op: CopyOp) -> None:
    if op.exclude:
        from imgbuild.context.glob import BadPattern
        from imgbuild.context.ignore import Ignore

        try:
            Ignore.of(op.exclude)
        except BadPattern as error:
            raise BuildfileError(f"a bad pattern for --exclude: {error}") from None


def _source(op: CopyOp, tree: Tree, word: str) -> TreeSource:
    """What one source word of COPY or ADD means. With --parents, "/./" parts the directory that is copied from from what is copied;
    a path without wildcards must be there."""
    from imgbuild.context.glob import BadPattern, is_pattern
    from imgbuild.context.ignore import Ignore
    from imgbuild.context.patterns import clean
    from imgbuild.rootfs.copy import TreeSource

    if not op.parents:
        return TreeSource(tree, _found(tree, word, op.optional))
    top, pivot, pattern = word.partition("/./")
    if not pivot:
        top, pattern = "/", word
    top, pattern = clean(f"/{top}"), clean(f"/{pattern}")[1:]
    if not is_pattern(f"{top}/{pattern}"):
        if not _found(tree, f"{top.rstrip('/')}/{pattern}", op.optional):
            return TreeSource(tree, ())
        _check_real(tree, top, pattern, word)
    try:
        Ignore.of((pattern,))
    except BadPattern as error:
        raise ContextError(f"bad pattern {word!r}: {error}") from None
    return TreeSource(tree, _found(tree, top, op.optional), pattern)


def _check_real(tree: Tree, top: str, pattern: str, word: str) -> None:
    """ContextError where a path of --parents leads through a symlink: what is behind it would be left out without a word."""
    path = f"{tree.resolve(top).rstrip('/')}/{pattern}"
    if tree.resolve(path, follow_last=False) != path:
        hint = "name the path that it leads to, or write /./ behind the symlink"
        raise ContextError(f"{word!r} leads through a symlink, which --parents does not follow", hint=hint)


def _remote(rooms: Rooms, remote: RemoteSource) -> TreeSource:
    """What was fetched: a file by its name, or all that is in a repository's tree."""
    from imgbuild.context.tree import Found
    from imgbuild.rootfs.copy import TreeSource

    found = Found(remote.name, f"/{remote.name}") if remote.kind == "http" else Found("", "/")
    return TreeSource(rooms.remote(remote), (found,), unpack=remote.unpack)


def mount_request(tree: Tree, source: str, epoch: int) -> CopyRequest:
    """A copy of what a mount shows: a directory's contents or a file, at ``/source``."""
    from imgbuild.rootfs.copy import CopyRequest, TreeSource

    return CopyRequest(sources=(TreeSource(tree, _found(tree, source)),), destination="/source", epoch=epoch)


def _found(tree: Tree, source: str, optional: bool = False) -> tuple[Found, ...]:
    from imgbuild.context.local import LocalContext
    from imgbuild.context.tree import match

    if isinstance(tree, LocalContext):
        return tree.match(source, optional=optional)
    return match(tree, source, where="the stage or image", optional=optional)


@contextmanager
def source_tree(rooms: Rooms, op: CopyOp | MountOp, states: States) -> Iterator[Tree]:
    """What a COPY or a mount reads: a stage's root file system, a named context, or the build context."""
    if op.stage is None:
        yield rooms.files(op.context)
    else:
        with rooms.view(states(op.stage).lowers()) as view:
            yield view


def _copy_inputs(rooms: Rooms, op: CopyOp, states: States) -> StepInputs:
    def digests(tree: Tree) -> StepInputs:
        return _named(copy_request(rooms, op, tree))

    if op.stage is None:
        return digests(rooms.files(op.context))
    ways = [op.destination.endswith("/"), op.parents, op.exclude, op.optional]
    words = json.dumps(["copy", op.sources, [file.name for file in op.documents], *ways])
    return _of_stage(rooms, op, states, words, digests)


def _mount_inputs(rooms: Rooms, op: RunOp, states: States) -> StepInputs:
    found = _secret_inputs(rooms, op)
    memos: tuple[Memo, ...] = ()
    kept: tuple[Kept, ...] = ()
    for number, mount in enumerate(op.mounts):
        if not (mount.kind == "bind" or mount.stage is not None or mount.context):
            continue
        try:
            inputs = _one_mount(rooms, mount, op.epoch, states)
        except ImgbuildError as error:
            raise error.located(mount.span) from None
        found |= {f"{_of_mount(number)}{name}": digest for name, digest in inputs.digests.items()}
        memos += inputs.memos
        kept += inputs.kept
        for each in inputs.kept:
            each.mount = number
    return StepInputs(found, memos, kept)


def _secret_inputs(rooms: Rooms, op: RunOp) -> dict[str, str]:
    if not rooms.secrets or not any(mount.kind == "secret" for mount in op.mounts):
        return {}
    from imgbuild.solve.secrets import secret_inputs

    return secret_inputs(rooms.store, rooms.secrets, op)


def mount_digests(inputs: Mapping[str, str], number: int) -> dict[str, str]:
    """Of the inputs of a RUN, those of one of its mounts, by their own names."""
    prefix = _of_mount(number)
    return {name.removeprefix(prefix): digest for name, digest in inputs.items() if name.startswith(prefix)}


def context_digests(rooms: Rooms, op: CopyOp | MountOp, epoch: int) -> dict[str, str]:
    """The digests of what a COPY or a mount reads of a build context as it is now, by their own names."""
    tree = rooms.files(op.context)
    return _named(copy_request(rooms, op, tree) if isinstance(op, CopyOp) else mount_request(tree, op.source, epoch)).digests


def _of_mount(number: int) -> str:
    return f"mount {number} "


def _one_mount(rooms: Rooms, mount: MountOp, epoch: int, states: States) -> StepInputs:
    if mount.stage is None:
        return _named(mount_request(rooms.files(mount.context), mount.source, epoch))

    def digests(tree: Tree) -> StepInputs:
        from imgbuild.context.digest import Kept, TreeDigests

        # The mount shows the directory itself, its mode and its owner.
        kept = Kept()
        made = {found.name: TreeDigests(tree, kept=kept).entry(found.path) for found in _found(tree, mount.source)}
        return StepInputs(made, kept=(kept,))

    return _of_stage(rooms, mount, states, json.dumps(["mount", mount.source]), digests)


def _of_stage(
    rooms: Rooms, op: CopyOp | MountOp, states: States, words: str, digests: Callable[[Tree], StepInputs]
) -> StepInputs:
    """The digests of files in a stage: remembered ones if the stage is known by its layers, else made from the files."""
    assert op.stage is not None
    state = states(op.stage)
    index = rooms.store.index
    words = f"{RECORD_VERSION} {words}"
    if not state.performed:
        known = index.content_digest(state.chain(), words)
        if known is not None:
            return StepInputs(json.loads(known))
    with source_tree(rooms, op, states) as tree:
        found = digests(tree)
    memo = Memo(state, words, json.dumps(found.digests))
    if state.performed:
        return StepInputs(found.digests, (memo,), found.kept)
    remember(rooms, memo)
    return found


def remember(rooms: Rooms, memo: Memo) -> None:
    """Note a stage's digests under its ChainID; waits for the stage's captures."""
    rooms.store.index.record_content_digest(memo.state.chain(), memo.path, memo.text)


def _named(request: CopyRequest) -> StepInputs:
    """Digests by source and the name that it gives to the result; equal names of several sources are told apart by order."""
    from imgbuild.rootfs.copy import input_digests

    made = input_digests(request)
    found = {f"{number} {item.source} {item.name}".rstrip(): item.digest for number, item in enumerate(made)}
    return StepInputs(found, kept=tuple(item.kept for item in made if item.kept is not None))

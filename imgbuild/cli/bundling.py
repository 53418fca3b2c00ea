"""Makes the bundle (see `imgbuild.cli.start`): imported by the few processes that have missed something in it."""

from __future__ import annotations

import _frozen_importlib_external as external
import _imp
import _sre  # type: ignore[import-not-found]
import marshal
import os
import sys

from imgbuild.cli.start import FORM, KEY, Bundle, is_bundled, made_here
from imgbuild.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(bundle: Bundle, missed: Sequence[str]) -> None:
    """Put what is in the bundle and still right, and what was missed, into the bundle's place."""
    assert bundle.path is not None
    if "imgbuild.sandbox.zygote" in missed:
        # What is loaded by the zygote alone, which keeps nothing.
        import imgbuild.sandbox.spawner  # noqa: F401

        missed = [*missed, *(name for name in bundle.unknown if is_bundled(name))]
    parts = [_stub()]
    offset = len(parts[0])
    modules: dict[str, tuple[object, ...]] = {}
    for name in dict.fromkeys([*bundle.modules, *missed]):
        found = _kept(bundle, name) or _made(name)
        if found is not None:
            source, mtime_ns, size, is_package, data = found
            modules[name] = (source, mtime_ns, size, is_package, offset, len(data), _imp.source_hash(KEY, data))
            parts.append(data)
            offset += len(data)
    patterns = bundle.patterns | {given: compiled for given in bundle.uncompiled if (compiled := _compiled(*given)) is not None}
    contents: Any = made_here(), modules, patterns
    index = marshal.dumps(contents)
    parts += [index, len(index).to_bytes(8, "little"), _imp.source_hash(KEY, index), FORM]
    _publish(bundle.path, b"".join(parts))


def _kept(bundle: Bundle, name: str) -> tuple[str, int, int, bool, bytes] | None:
    data = bundle.read(name)
    if data is None:
        return None
    source, mtime_ns, size, is_package = bundle.modules[name][:4]
    return source, mtime_ns, size, is_package, data


def _made(name: str) -> tuple[str, int, int, bool, bytes] | None:
    source = is_bundled(name) and sys.modules[name].__file__
    if not source:
        return None
    status = os.stat(source)  # first: what is edited after it is seen as such
    code = external.SourceFileLoader(name, source).get_code(name)
    return source, status.st_mtime_ns, status.st_size, hasattr(sys.modules[name], "__path__"), marshal.dumps(code)


def _compiled(text: str | bytes, flags: int) -> bytes | None:
    """What `re` gives to its C code, by the parts of it that find that out."""
    import re
    from re import _compiler, _parser  # type: ignore[attr-defined]

    tree = _parser.parse(text, flags)
    state = tree.state
    names: list[str | None] = [None] * state.groups
    for name, number in state.groupdict.items():
        names[number] = name
    code = [int(word) for word in _compiler._code(tree, flags)]
    made = (int(flags | state.flags), code, state.groups - 1, dict(state.groupdict), tuple(names))
    return marshal.dumps(made) if _sre.compile(text, *made) == re.compile(text, flags) else None


def _stub() -> bytes:
    """The file as Python would have it, as which it is found, checked and removed: the code of `bundled`."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundled.py")
    with open(source, "rb") as file:
        status = os.stat(file.fileno())
        code = compile(file.read(), source, "exec", dont_inherit=True)
    return bytes(external._code_to_timestamp_pyc(code, int(status.st_mtime), status.st_size))  # type: ignore[attr-defined]


def _publish(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    made = f"{path}.{os.getpid()}"
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise

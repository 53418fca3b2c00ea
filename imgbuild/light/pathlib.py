"""Paths as the standard module has them, over one string: half of the time of a command's imports went to what that module imports.

What is not here (`glob`, `as_uri`, ...) is asked of a standard path, which is imported then. Standard paths are instances of these
classes, too, and equal to those of the same name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path, PurePosixPath
    from typing import Any
else:
    import io
    import os
    import stat
    import sys
    from errno import EBADF, ELOOP, ENOENT, ENOTDIR

    _ABSENT = (ENOENT, ENOTDIR, EBADF, ELOOP)

    class _Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            if type.__instancecheck__(cls, value):
                return True
            standard = sys.modules.get("pathlib")
            return standard is not None and isinstance(value, getattr(standard, cls.__name__))

    def _normal(text: str) -> str:
        """Without what says nothing: slashes at the end, double ones, and dots."""
        if not text.endswith("/") and "//" not in text and "/." not in text and not text.startswith("./"):
            return text or "."
        root = "" if text[:1] != "/" else "//" if text[:2] == "//" and text[2:3] != "/" else "/"
        return root + "/".join([part for part in text.split("/") if part and part != "."]) or "."

    def _text(given: object) -> str:
        text = os.fspath(given)
        if not isinstance(text, str):
            raise TypeError(f"a path is made of text, not of {type(text).__name__}")
        return text

    class PurePosixPath(metaclass=_Kind):
        """As `pathlib.PurePosixPath`."""

        __slots__ = ("_words",)

        def __init__(self, *given: str | os.PathLike[str]) -> None:
            text = ""
            for more in given:
                more = _text(more)
                text = more if not text or more[:1] == "/" else f"{text}{more}" if text[-1] == "/" else f"{text}/{more}"
            self._words = _normal(text)

        @classmethod
        def _of(cls, normal: str) -> PurePosixPath:
            made = cls.__new__(cls)
            made._words = normal
            return made

        def __str__(self) -> str:
            return self._words

        __fspath__ = __str__

        def __repr__(self) -> str:
            return f"{type(self).__name__}({self._words!r})"

        def __bytes__(self) -> bytes:
            return os.fsencode(self._words)

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), (self._words,)

        def __eq__(self, other: object) -> bool:
            return self._words == str(other) if isinstance(other, PurePosixPath) else NotImplemented

        def __hash__(self) -> int:
            # As the standard ones, to which they are equal.
            return hash(self._words) if sys.version_info >= (3, 12) else hash(tuple(self._order()))

        def __lt__(self, other: PurePosixPath) -> bool:
            return self._order() < type(self)(other)._order()

        def __le__(self, other: PurePosixPath) -> bool:
            return self._order() <= type(self)(other)._order()

        def __gt__(self, other: PurePosixPath) -> bool:
            return self._order() > type(self)(other)._order()

        def __ge__(self, other: PurePosixPath) -> bool:
            return self._order() >= type(self)(other)._order()

        def _order(self) -> list[str]:
            below = self._words.lstrip("/")
            root = self._words[: len(self._words) - len(below)]
            return [*([root] if root else ()), *(below.split("/") if below and below != "." else ())]

        def __truediv__(self, more: str | os.PathLike[str]) -> PurePosixPath:
            try:
                text = _text(more)
            except TypeError:
                return NotImplemented
            if not text or text[0] == "/" or self._words == ".":
                return type(self)(self._words, text)
            return self._of(_normal(f"{self._words}{'' if self._words[-1] == '/' else '/'}{text}"))

        def __rtruediv__(self, before: str | os.PathLike[str]) -> PurePosixPath:
            return type(self)(before, self)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            import pathlib

            return getattr(getattr(pathlib, type(self).__name__)(self._words), name)

        @property
        def name(self) -> str:
            """The last part."""
            return "" if self._words == "." else self._words.rpartition("/")[2]

        @property
        def suffix(self) -> str:
            """The end of the name, from its last dot on."""
            name = self.name
            dot = name.rfind(".")
            return name[dot:] if 0 < dot < len(name) - 1 else ""

        @property
        def parent(self) -> PurePosixPath:
            """The path of the directory."""
            before, slash, name = self._words.rpartition("/")
            if not name:
                return self
            return self._of(before if before.strip("/") else before + slash or ".")

        @property
        def parents(self) -> tuple[PurePosixPath, ...]:
            """The directory, its own one, and so on."""
            found = []
            path = self
            while (parent := path.parent)._words != path._words:
                found.append(parent)
                path = parent
            return tuple(found)

        def is_absolute(self) -> bool:
            """Whether it begins at the root."""
            return self._words[0] == "/"

        def joinpath(self, *more: str | os.PathLike[str]) -> PurePosixPath:
            """With more after it."""
            return type(self)(self._words, *more)

        def with_name(self, name: str) -> PurePosixPath:
            """Another one in the same directory."""
            if not self.name or not name or "/" in name or name == ".":
                raise ValueError(f"{self._words!r} can't be named {name!r}")
            return self._of(self._words[: len(self._words) - len(self.name)] + name)

    class Path(PurePosixPath):
        """As `pathlib.Path`."""

        __slots__ = ()

        @classmethod
        def cwd(cls) -> Path:
            """Where this process is."""
            return cls(os.getcwd())

        @classmethod
        def home(cls) -> Path:
            """The user's directory."""
            return cls("~").expanduser()

        def expanduser(self) -> Path:
            """With the user's directory for a tilde."""
            if self._words[0] != "~":
                return self
            found = os.path.expanduser(self._words)
            if found[:1] == "~":
                raise RuntimeError("Could not determine home directory.")
            return type(self)(found)

        def absolute(self) -> Path:
            """From the root on."""
            return self if self._words[0] == "/" else type(self)(os.getcwd(), self)

        def resolve(self, strict: bool = False) -> Path:
            """Without symlinks."""
            try:
                return type(self)(os.path.realpath(self._words, strict=strict))
            except OSError as error:
                if error.errno != ELOOP:
                    raise
                raise RuntimeError(f"Symlink loop from {self._words!r}") from None

        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            """What the kernel knows of it."""
            return os.stat(self._words, follow_symlinks=follow_symlinks)

        def lstat(self) -> os.stat_result:
            """What the kernel knows of it, or of the symlink that it is."""
            return os.lstat(self._words)

        def _mode(self, follow: bool = True) -> int:
            try:
                return os.stat(self._words, follow_symlinks=follow).st_mode
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
            except ValueError:
                pass  # a zero byte
            return 0

        def exists(self) -> bool:
            """Whether it is there."""
            return self._mode() != 0

        def is_dir(self) -> bool:
            """Whether it is a directory, or leads to one."""
            return stat.S_ISDIR(self._mode())

        def is_file(self) -> bool:
            """Whether it is a file, or leads to one."""
            return stat.S_ISREG(self._mode())

        def is_symlink(self) -> bool:
            """Whether it is a symlink."""
            return stat.S_ISLNK(self._mode(follow=False))

        def open(
            self, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None, newline: str | None = None
        ) -> Any:  # fmt: skip
            """The file, opened."""
            return io.open(self._words, mode, buffering, encoding, errors, newline)  # noqa: UP020  (ours has the name)

        def read_bytes(self) -> bytes:
            """All that is in it."""
            with self.open("rb") as file:
                return file.read()

        def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
            """All that is in it, as text."""
            with self.open("r", encoding=encoding, errors=errors) as file:
                return file.read()

        def write_bytes(self, data: bytes) -> int:
            """Make it hold these."""
            with self.open("wb") as file:
                return file.write(data)

        def write_text(
            self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
        ) -> int:  # fmt: skip
            """Make it hold this."""
            with self.open("w", encoding=encoding, errors=errors, newline=newline) as file:
                return file.write(data)

        def iterdir(self) -> Iterator[Path]:
            """What is in it."""
            for name in os.listdir(self._words):
                yield self / name

        def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
            """Make the directory."""
            try:
                os.mkdir(self._words, mode)
            except FileNotFoundError:
                if not parents or self.parent._words == self._words:
                    raise
                self.parent.mkdir(parents=True, exist_ok=True)
                self.mkdir(mode, parents=False, exist_ok=exist_ok)
            except OSError:
                if not exist_ok or not self.is_dir():
                    raise

        def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
            """Change its mode."""
            os.chmod(self._words, mode, follow_symlinks=follow_symlinks)

        def rename(self, target: str | os.PathLike[str]) -> Path:
            """Give it that name."""
            os.rename(self._words, target)
            return type(self)(target)

        def replace(self, target: str | os.PathLike[str]) -> Path:
            """Give it that name."""
            os.replace(self._words, target)
            return type(self)(target)

        def readlink(self) -> Path:
            """Where the symlink leads."""
            return type(self)(os.readlink(self._words))

        def symlink_to(self, target: str | os.PathLike[str]) -> None:
            """Make it a symlink."""
            os.symlink(target, self._words)

        def unlink(self, missing_ok: bool = False) -> None:
            """Remove it."""
            try:
                os.unlink(self._words)
            except FileNotFoundError:
                if not missing_ok:
                    raise

        def rmdir(self) -> None:
            """Remove the empty directory."""
            os.rmdir(self._words)


__all__ = ["Path", "PurePosixPath"]

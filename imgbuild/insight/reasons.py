"""Why two versions of something differ, as words: what each kind of reason is called, and what usually helps against it. Pure.

A reason is only given for what can be seen in the bytes, or follows from what is known of how the two were made (`Circumstances`).
"""

from __future__ import annotations

from imgbuild.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was true when a version was made. `began` and `ended`: the machine's wall clock, in seconds since 1970, which files have, and of
    which what was run saw one that was `ahead` by so many seconds; `hostname`; `first_pid`: the
    number of the process after the first one (0: not known); `uptime`: what the clock since boot said, from and to (0, 0: not known);
    `processors` it could use (0: not known); `listing`: how directories were listed, as far as two of these can be told apart by it."""

    began: float = 0.0
    ended: float = 0.0
    hostname: str = ""
    first_pid: int = 0
    uptime: tuple[float, float] = (0.0, 0.0)
    processors: int = 0
    listing: str = ""
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: its `kind`, and what was seen, in `words`; `offset` in the file, where it is at one."""

    kind: str
    words: str
    offset: int | None = None

    @property
    def hint(self) -> str:
        """What usually helps; "" where nothing can be said."""
        return _HINTS.get(self.kind, "")

    def within(self, place: str) -> Reason:
        """The same, seen in a part of the file, where offsets are not the file's."""
        return replace(self, words=f"{place}: {self.words}", offset=None)


_TIMES = "use SOURCE_DATE_EPOCH, which the step has in its environment, in the place of the current time"
_HINTS = {
    "gzip": "gzip -n leaves name and time out",
    "tar": 'tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner',
    "zip": "give the files one time before (find . -exec touch -h -d @$SOURCE_DATE_EPOCH {} +), zip with -X -o, and set TZ=UTC",
    "ar": "ar rcsD and ranlib -D write no times and owners",
    "pyc": "compile with --invalidation-mode unchecked-hash, or set PYTHONDONTWRITEBYTECODE=1",
    "time": _TIMES,
    "duration": "leave out how long something took, or remove the file in the same step",
    "hostname": "leave the machine's name out; the step's is the same in each build that does not say another one",
    "pid": "name temporary files by what they are for, or remove them in the same step",
    "uptime": "leave out what counts since the machine was started, or remove the file in the same step",
    "processors": "give the number of processes yourself, in the place of nproc",
    "uuid": "make it from a name (uuidgen --sha1), or when the container starts",
    "order": "sort what was listed: find | LC_ALL=C sort, sort() of a glob",
    "file system": "list files alone (find -type f), or leave out sizes and blocks (ls -s, du)",
    "hash order": "sort it; for Python set PYTHONHASHSEED=0",
    "ldconfig": "rm -f /var/cache/ldconfig/aux-cache, in the same step: it holds inode numbers and times",
    "log": "remove the log in the same step",
    "names": "name it without a time, a number of a process, or chance",
    "random": "no time, name, number or order explains it: seed what is random, or make it when the container starts",
    "build id": "it follows from what else differs in the program; -Wl,--build-id=none leaves it out",
    "mtime": f"touch -d @$SOURCE_DATE_EPOCH it; {_TIMES}",
    "mode": "chmod it, or set a umask",
    "owner": "chown it to a user that is always there, by number",
}


def clock(seconds: float) -> str:
    """A time as it is said."""
    from imgbuild.oci.times import format_time

    return format_time(int(seconds)) if 0 <= seconds < 1 << 40 else str(seconds)


def shown(data: bytes, most: int = 60) -> str:
    """Some bytes of a file, as they are said: as text, if they are one."""
    text = data.decode("utf-8", "replace").strip()
    if "\ufffd" in text or "\0" in text:
        text = f"0x{data.hex()}"
    return text if len(text) <= most else text[: most - 3] + "..."

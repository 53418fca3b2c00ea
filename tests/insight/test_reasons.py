"""Why two versions of a file differ: pairs of bytes that were made so, and bytes that mean to deceive."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.insight.compare import Change, Entry
from imgbuild.insight.formats import reasons_in
from imgbuild.insight.reasons import Circumstances, Reason
from imgbuild.insight.stamps import Pair, explain, stamps
from imgbuild.insight.unlike import Contents, Finding, is_unexplained, paired, reasons_for, with_trial, without_guess
from imgbuild.values import replace

T = 1_795_973_386
ONE = Circumstances(T, T + 1, "imgbuild", 2, (1200.0, 1201.0), 2, "disk")
OTHER = Circumstances(T + 2, T + 3, "elsewhere", 20_001, (9000.0, 9001.0), 1, "memory")


def _kinds(old: bytes, new: bytes, one: Circumstances = ONE, other: Circumstances = OTHER) -> list[str]:
    return [reason.kind for reason in reasons_in(old, new, one, other)]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("built at 2026-11-29T17:29:46Z\n", "built at 2026-11-29T17:29:48Z\n", "time"),
        ("Sun Nov 29 17:29:46 UTC 2026\n", "Sun Nov 29 17:29:48 UTC 2026\n", "time"),
        ("Sun, 29 Nov 2026 17:29:46 +0000", "Sun, 29 Nov 2026 17:29:48 +0000", "time"),
        ("Nov  9 17:29:46 host x\n", "Nov  9 17:29:48 host x\n", "time"),
        ("v20261129172946Z", "v20261129172948Z", "time"),
        ("at 17:29:46.", "at 17:29:48.", "time"),
        (f"stamp={T}\n", f"stamp={T + 2}\n", "time"),
        (f"ns {T}123456789", f"ns {T + 2}123456790", "time"),
        ("on imgbuild\n", "on elsewhere\n", "hostname"),
        ("pid 17\n", "pid 20016\n", "pid"),
        ("up 1200.5\n", "up 9000.7\n", "uptime"),
        ("jiffies 120050\n", "jiffies 900070\n", "uptime"),
        ("-j2\n", "-j1\n", "processors"),
        ("took 0.13s\n", "took 0.14s\n", "duration"),
        ("id 6f1c7a3e-1b2d-4c5e-8f90-a1b2c3d4e5f6", "id 0f1c7a3e-1b2d-4c5e-8f90-a1b2c3d4e5f7", "uuid"),
        ("b\na\nc\n", "c\na\nb\n", "order"),
        ("x = b, a, c\n", "x = c, a, b\n", "order"),
        ("key qwertz\n", "key asdfgh\n", "random"),
        ("3 apples\n", "4 apples\n", "random"),
        (f"other day {T - 90_000}\n", f"other day {T - 80_000}\n", "random"),
    ],
)
def test_stamps(old: str, new: str, kind: str) -> None:
    assert _kinds(old.encode(), new.encode()) == [kind]


def test_sizes_of_directories() -> None:
    old, new = (f"total {total}\ndrwxr-xr-x 2 root root {size} {when} a\n" for total, size, when in LISTED)
    assert _kinds(old.encode(), new.encode()) == ["file system", "time"]
    alike = replace(OTHER, listing=ONE.listing)
    assert _kinds(old.encode(), new.encode(), ONE, alike)[0] != "file system"
    assert _kinds(b"-rw-r--r-- 2 root root 4096 a\n", b"-rw-r--r-- 2 root root 60 a\n") == ["random"]


LISTED = (("8", "    4096", "Nov 29 17:29"), ("0", "      60", "Nov 29  2026"))


def test_what_is_not_known_is_no_evidence() -> None:
    nothing = Circumstances()
    for old, new in (("pid 17", "pid 20016"), ("on imgbuild", "on elsewhere"), ("-j2", "-j1"), (f"s {T}", f"s {T + 2}")):
        assert _kinds(old.encode(), new.encode(), nothing, nothing) == ["random"]
    assert _kinds(b"b\na\n", b"a\nb\n", ONE, replace(OTHER, listing="disk")) == ["hash order"]


def test_several_reasons() -> None:
    old = b"date 2026-11-29\nhost imgbuild\nrest abc\n"
    new = b"date 2026-11-30\nhost elsewhere\nrest xyz\n"
    found = stamps(old, new, ONE, OTHER)
    assert [reason.kind for reason in found] == ["time", "hostname", "other"]
    assert [reason.offset for reason in found] == [old.index(b"2026-11-29") + 8, old.index(b"imgbuild"), old.index(b"abc")]
    assert "2026-11-29 -> 2026-11-30" in found[0].words


def test_columns_follow_what_is_in_them() -> None:
    assert _kinds(b"   13 root  ps\n", b"20012 root  ps\n") == ["pid"]


@pytest.mark.parametrize("form", ["<I", ">I", "<q", ">q"])
def test_binary_times(form: str) -> None:
    head = bytes(range(250, 256)) + b"\0\1"
    old, new = (head + struct.pack(form, time) + head * 9 for time in (T, T + 2))
    (reason,) = reasons_in(old, new, ONE, OTHER)
    assert reason.kind == "time"
    assert "2026-11-29T17:29:46Z -> 2026-11-29T17:29:48Z" in reason.words


DATED = replace(OTHER, ahead=400 * 86400 + 18_433)
"""A run on 2028-01-04, at 01:37."""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2026\n", "2028\n", "2026 -> 2028"),
        ("(c) 2026 Us", "(c) 2028 Us", "2026 -> 2028"),
        ("Sunday", "Tuesday", "Sunday -> Tuesday"),
        ("in NOV", "in JAN", "NOV -> JAN"),
        ("r20261129", "r20280104", "20261129 -> 20280104"),
        ("29.11.2026", "04.01.2028", "29.11.2026 -> 04.01.2028"),
        ("29.11.26", "4.1.28", "29.11.26 -> 4.1.28"),
        ("bob:!:20786:0:99999", "bob:!:21187:0:99999", "20786 -> 21187"),
        ("2026-W48", "2028-W01", "2026-W48 -> 2028-W01"),
        ("at 20261129172946", "at 20280104013714", "20261129172946 -> 20280104013714"),
        ("Sun, 29 Nov 2026 17:29:46 +0000", "Tue, 04 Jan 2028 01:37:01 +0000", "Sun, 29 Nov 2026 17:29:46 +0000 -> Tue, 04 Jan"),
        ('"Nov 29 2026" "17:29:46"', '"Jan  4 2028" "01:37:01"', "Nov 29 2026 -> Jan  4 2028"),
        (f"{T}", f"{T + 2 + DATED.ahead}", f"{T} -> "),
        (f"{T}", f"{T + 2}", f"{T} -> "),  # of a file, which has the machine's time
        (f"{T}123", f"{T + 2 + DATED.ahead}123", f"{T}123 -> "),
    ],
)  # fmt: skip
def test_parts_of_a_date(old: str, new: str, words: str) -> None:
    (reason,) = reasons_in(old.encode(), new.encode(), ONE, DATED)
    assert reason.kind == "time"
    assert reason.words.startswith(f"a time: {words}"[:60])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("29", "04"), ("17:29", "01:37"), ("November", "February"), ("2026", "2027"), ("2025", "2028"), ("Sunday", "Friday"),
        ("version 11", "version 1"), ("20785000", "21187000"), ("Nov2026", "Nov 2028"), ("x2026", "y2028"),
    ],
)  # fmt: skip
def test_what_may_be_no_date(old: str, new: str) -> None:
    assert reasons_in(old.encode(), new.encode(), ONE, DATED)[-1].kind != "time"


@pytest.mark.parametrize(("form", "unit"), [("<I", 1), (">I", 1), ("<q", 1), ("<q", 1000), (">q", 10**6), ("<q", 10**9)])
def test_binary_dates(form: str, unit: int) -> None:
    old, new = (b"\1" * 9 + struct.pack(form, time * unit) + b"\2" * 9 for time in (T, T + 2 + DATED.ahead))
    assert _kinds(old, new, ONE, DATED) == ["time"]


def _gz(data: bytes, time: int, name: str = "") -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(name, "wb", mtime=time, fileobj=out) as file:
        file.write(data)
    return out.getvalue()


def _tar(members: list[tuple[str, bytes, int]], uid: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data, time in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = len(data), time, uid
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _zip(members: list[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data, second in members:
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 29, 17, 29, second)), data)
    return out.getvalue()


def _ar(members: list[tuple[str, bytes, int]]) -> bytes:
    out = b"!<arch>\n"
    for name, data, time in members:
        out += f"{name + '/':<16}{time:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}".encode() + b"`\n" + data + b"\n" * (len(data) % 2)
    return out


def test_gzip() -> None:
    (reason,) = reasons_in(_gz(b"x", T), _gz(b"x", T + 2), ONE, OTHER)
    assert (reason.kind, reason.offset) == ("gzip", 4)
    assert "2026-11-29T17:29:46Z -> 2026-11-29T17:29:48Z" in reason.words
    assert "gzip -n" in reason.hint
    assert _kinds(_gz(b"x", 0, "a"), _gz(b"x", 0, "b")) == ["gzip"]
    assert _kinds(_gz(b"pid 17", 0), _gz(b"pid 20016", 0)) == ["pid"]


@pytest.mark.parametrize(("kind", "make"), [("tar", _tar), ("zip", _zip), ("ar", _ar)])
def test_archives(kind: str, make: object) -> None:
    assert callable(make)
    early, late = (T, T + 2) if kind != "zip" else (46, 48)
    (reason,) = reasons_in(make([("a", b"1", early), ("b", b"2", early)]), make([("a", b"1", late), ("b", b"2", late)]), ONE, OTHER)
    assert reason.kind == kind
    assert f"the time of a in the {kind}" in reason.words
    assert "of 1 more" in reason.words
    assert reason.hint
    names = make([("a", b"1", early), ("b", b"2", early)]), make([("b", b"2", early), ("a", b"1", early)])
    assert _kinds(*names) == ["order"]
    assert _kinds(make([("a1", b"1", early)]), make([("a2", b"1", early)])) == ["names"]
    (reason,) = reasons_in(make([("a", b"pid 17", early)]), make([("a", b"pid 99", early)]), ONE, replace(OTHER, first_pid=84))
    assert reason.kind == "pid"
    assert reason.words.startswith(f"in a of the {kind}: ")
    assert reason.offset is None


def test_what_a_run_with_one_circumstance_alone_has_shown() -> None:
    finding = Finding(_change("/x", "mode"), reasons_for(_change("/x", "mode", new=Entry("/x", "file", 0o600)), Contents(), ONE, OTHER))
    assert is_unexplained(finding)
    (reason,) = with_trial(finding, "hostname").reasons
    assert (reason.kind, reason.words) == ("hostname", "only when the machine has another name: its mode: 0644 -> 0600")
    known = Finding(_change("/x", "content"), reasons_for(_change("/x", "content"), Contents(b"pid 17", b"pid 20016"), ONE, OTHER))
    assert not is_unexplained(known)
    assert not is_unexplained(replace(finding, other="/y"))


def test_small_numbers_are_those_of_processors_only_where_a_run_has_shown_it() -> None:
    one, other = replace(ONE, processors=2), replace(OTHER, processors=1)
    reasons = reasons_for(_change("/x", "content"), Contents(b"drwxr-xr-x 2 a", b"drwxr-xr-x 1 a"), one, other)
    finding = Finding(_change("/x", "content"), reasons)
    assert is_unexplained(finding)
    assert with_trial(finding, "processors") == finding
    (reason,) = with_trial(finding, "order").reasons
    assert (reason.kind, reason.words) == ("order", "only when directories are listed in another order: 2 -> 1")
    (reason,) = without_guess(finding).reasons
    assert (reason.kind, reason.words) == ("random", "2 -> 1")


def test_exact_times_of_a_zip() -> None:
    def exact(time: int) -> bytes:
        info = zipfile.ZipInfo("a", (2026, 11, 29, 17, 29, 46))
        info.extra = b"ux\x04\0\1\0\0\0UT\5\0\1" + struct.pack("<I", time)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(info, b"x")
        return out.getvalue()

    (reason,) = reasons_in(exact(T), exact(T + 1), ONE, OTHER)
    assert reason.words == "the time of a in the zip: 2026-11-29T17:29:46Z -> 2026-11-29T17:29:47Z"


def test_archives_in_a_gzip_and_owners() -> None:
    (reason,) = reasons_in(_gz(_tar([("a", b"", T)]), 0), _gz(_tar([("a", b"", T + 2)]), 0), ONE, OTHER)
    assert reason.words.startswith("in the gzip: the time of a in the tar: ")
    (reason,) = reasons_in(_tar([("a", b"", T)]), _tar([("a", b"", T)], uid=5), ONE, OTHER)
    assert "the owner of a in the tar: 0:0 -> 5:0" in reason.words


def test_byte_code() -> None:
    def pyc(flags: int, time: int, body: bytes = b"code") -> bytes:
        return struct.pack("<HHIII", 3495, 0x0A0D, flags, time, 10) + body

    (reason,) = reasons_in(pyc(0, T), pyc(0, T + 2), ONE, OTHER)
    assert (reason.kind, reason.offset) == ("pyc", 8)
    assert "PEP 552" in reason.words
    assert _kinds(pyc(0, T), pyc(3, T)) == ["pyc"]
    assert _kinds(pyc(3, T, b"\xe3ab"), pyc(3, T, b"\xe3ba")) == ["hash order"]


def _elf(sections: dict[str, bytes]) -> bytes:
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, table = b"", [struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    for name, data in (*sections.items(), (".shstrtab", names)):
        table.append(struct.pack("<IIQQQQIIQQ", names.index(name.encode() + b"\0"), 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0))
        body += data
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(table), len(table) - 1)
    return header + body + b"".join(table)


def test_programs() -> None:
    old = _elf({".note.gnu.build-id": b"\1\2\3\4", ".rodata": b"built Nov 29 2026 17:29:46\0", ".text": b"\x90" * 99})
    new = _elf({".note.gnu.build-id": b"\5\6\7\x08", ".rodata": b"built Nov 29 2026 17:29:48\0", ".text": b"\x90" * 99})
    found = reasons_in(old, new, ONE, OTHER)
    assert [reason.kind for reason in found] == ["time", "build id"]
    assert found[0].words.startswith("in .rodata of the program: ")


@pytest.mark.parametrize(
    "make",
    [
        lambda: _gz(b"x" * 1000, T), lambda: _tar([("a", b"12", T), ("b", b"", T)]), lambda: _zip([("a", b"12", 46), ("b", b"", 48)]),
        lambda: _ar([("a", b"12", T), ("b", b"x", T)]), lambda: _elf({".rodata": b"12", ".note.gnu.build-id": b"1"}),
        lambda: b"\xa7\r\r\n" + bytes(12) + b"code",
    ],
    ids=["gzip", "tar", "zip", "ar", "elf", "pyc"],
)  # fmt: skip
@given(cut=st.integers(0, 600), place=st.integers(0, 1500), with_=st.binary(min_size=1, max_size=8), data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_damage_is_only_bytes(make: object, cut: int, place: int, with_: bytes, data: bytes) -> None:
    """Whatever is done to a file, there is a reason, in bounded words."""
    assert callable(make)
    whole: bytes = make()
    damaged = whole[:place] + with_ + whole[place + len(with_) :]
    for other in (whole[: max(8, len(whole) - cut)], damaged, whole + data, whole[:8] + data):
        if other != whole:
            reasons = reasons_in(whole, other, ONE, OTHER)
            assert reasons
            assert all(len(reason.words) < 400 for reason in reasons)


@given(old=st.binary(max_size=400), new=st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_have_a_reason(old: bytes, new: bytes) -> None:
    found = reasons_in(old, new, ONE, OTHER)
    assert bool(found) == (old != new)
    assert all(reason.offset is None or 0 <= reason.offset <= max(len(old), len(new)) for reason in found)


@pytest.mark.parametrize("unit", [b"1", b"0:", b"2026-", b"a\n", b"Mon Jan ", b"\0", b"12.", b"f-"])
def test_huge_files_are_looked_at_within_bounds(unit: bytes) -> None:
    data = unit * (4_000_000 // len(unit))
    assert stamps(data + b"1", data + b"2", ONE, OTHER)
    assert stamps(b"1" + data, b"2" + data, ONE, OTHER)
    assert stamps(data + b"1", data, ONE, OTHER)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = _gz(bytes(200 << 20), 0)
    (reason,) = reasons_in(bomb, _gz(bytes(200 << 20), 0, "x"), ONE, OTHER)
    assert reason.kind == "gzip"


def _change(path: str, *aspects: str, old: Entry | None = None, new: Entry | None = None) -> Change:
    return Change(path, "changed", old or Entry(path, "file"), new or Entry(path, "file"), aspects)  # type: ignore[arg-type]


def _words(change: Change, contents: Contents = Contents()) -> list[str]:
    return [reason.words for reason in reasons_for(change, contents, ONE, OTHER)]


def test_what_is_not_content() -> None:
    entry = Entry("/x", "file")
    assert _words(_change("/x", "mode", new=replace(entry, mode=0o600))) == ["its mode: 0644 -> 0600"]
    assert _words(_change("/x", "owner", new=replace(entry, uid=5))) == ["its owner: 0:0 -> 5:0"]
    assert _words(_change("/x", "time", new=replace(entry, mtime_ns=T * 10**9)))[0].endswith("1970-01-01T00:00:00Z -> 2026-11-29T17:29:46Z")
    assert _words(_change("/x", "type", new=Entry("/x", "dir"))) == ["its type: file -> dir"]
    link = _change("/x", "link", old=Entry("/x", "symlink", link="p17"), new=Entry("/x", "symlink", link="p20016"))
    assert _words(link) == ["the target of the symlink: the number of a process: 17 -> 20016"]


def test_paths_that_say_it() -> None:
    contents = Contents(b"2026-11-29 17:29:46 startup\n", b"2026-11-29 17:29:48 startup\n")
    kinds = [reason.kind for reason in reasons_for(_change("/var/log/dpkg.log", "content"), contents, ONE, OTHER)]
    assert kinds == ["log"]
    kinds = [reason.kind for reason in reasons_for(_change("/var/cache/ldconfig/aux-cache", "content"), contents, ONE, OTHER)]
    assert kinds == ["ldconfig"]
    far = reasons_for(_change("/big", "content"), Contents(b"pid 17", b"pid 20016", 9 << 20), ONE, OTHER)
    assert [(reason.kind, reason.offset) for reason in far] == [("pid", (9 << 20) + 4)]


def test_names_are_paired() -> None:
    def lone(path: str, verb: str) -> Finding:
        entry = Entry(path, "file")
        change = Change(path, verb, entry if verb == "removed" else None, entry if verb == "added" else None)  # type: ignore[arg-type]
        return Finding(change, reasons_for(change, Contents(), ONE, OTHER))

    found = paired([lone("/tmp/x.17", "removed"), lone("/tmp/x.20016", "added"), lone("/tmp/y", "added")], ONE, OTHER)
    assert [(each.path, each.other) for each in found] == [("/tmp/x.17", "/tmp/x.20016"), ("/tmp/y", "")]
    assert found[0].reasons == (Reason("names", "its name has the number of a process: 17 -> 20016"),)
    assert "only after the second" in found[1].reasons[0].words
    for one, other in (("6rYIeE", "INfBr0"), ("INfBr0", "6rYIeE"), ("17", "6rYIeE")):  # chance may begin with a digit
        found = paired([lone(f"/tmp/tmp.{one}", "removed"), lone(f"/tmp/tmp.{other}", "added")], ONE, OTHER)
        assert [(each.path, each.other) for each in found] == [(f"/tmp/tmp.{one}", f"/tmp/tmp.{other}")]
    assert paired([], ONE, OTHER) == []


@pytest.mark.parametrize(("old", "new"), [(b"\0a\n", b"\0a"), (b"a\n\n", b"a"), (b"", b"\n"), (b"\0" * 200 + b"\n", b"\0" * 200)])
def test_what_ends_earlier_has_a_reason(old: bytes, new: bytes) -> None:
    assert stamps(old, new, ONE, OTHER)
    assert stamps(new, old, ONE, OTHER)


def test_every_kind_of_one_place() -> None:
    (reason,) = explain(Pair(100, b"aaa imgbuild", b"aaa elsewhere"), ONE, OTHER)
    assert reason.offset == 104

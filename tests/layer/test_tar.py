"""The reader against what others write, and against damage; the writer against what others read."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.errors import LayerError
from imgbuild.layer.tar import Kind, TarEntry, TarWriter, read_tar

_name_part = st.binary(min_size=1, max_size=255).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"1")).filter(
    lambda raw: raw not in (b".", b"..")
)
_names = st.lists(_name_part, min_size=1, max_size=6).map(b"/".join)
_xattr_name = st.binary(min_size=1, max_size=20).map(lambda raw: b"user." + raw.replace(b"\0", b"0").replace(b"=", b"1"))
_xattrs = st.dictionaries(_xattr_name, st.binary(max_size=300), max_size=3).map(lambda found: tuple(sorted(found.items())))
_ids = st.one_of(st.integers(0, 70000), st.integers(2097150, 2**32 - 2))


@st.composite
def _entries(draw: st.DrawFn) -> tuple[TarEntry, bytes]:
    kind: Kind = draw(st.sampled_from(["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]))
    content = draw(st.binary(max_size=1500)) if kind == "file" else b""
    entry = TarEntry(
        name=draw(_names) + (b"/" if kind == "dir" else b""),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_ids),
        gid=draw(_ids),
        size=len(content),
        mtime=draw(st.integers(-(2**40), 2**40)),
        link=draw(_names) if kind in ("symlink", "hardlink") else b"",
        major=draw(st.integers(0, 4095)) if kind in ("char", "block") else 0,
        minor=draw(st.integers(0, 2**20 - 1)) if kind in ("char", "block") else 0,
        xattrs=draw(_xattrs),
    )
    return entry, content


def written(entries: list[tuple[TarEntry, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, content in entries:
        writer.add(entry)
        if content:
            writer.data(content)
    writer.finish()
    return out.getvalue()


def read_back(tar: bytes) -> list[tuple[TarEntry, bytes]]:
    return [(entry, content.read()) for entry, content in read_tar(io.BytesIO(tar))]


def header(name: bytes = b"f", flag: bytes = b"0", size: bytes = b"00000000000\0", **fields: bytes) -> bytes:
    """A ustar header of raw fields, with its right checksum unless that is given."""
    raw = {
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "mtime": b"00000000000\0",
        "link": b"",
        "magic": b"ustar\x0000",
        "major": b"",
        "minor": b"",
        "prefix": b"",
        "trailer": b"",
    } | fields
    block = struct.pack(
        "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s",
        *(name, raw["mode"], raw["uid"], raw["gid"], size, raw["mtime"], b" " * 8, flag, raw["link"], raw["magic"], b"", b""),
        *(raw["major"], raw["minor"], raw["prefix"], raw["trailer"]),
    )
    return block[:148] + fields.get("checksum", b"%06o\0 " % sum(block)) + block[156:]


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    """A pax header with these records."""
    body = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        total = length + len(str(length))
        body += b"%d %b=%b\n" % (length + len(str(total)), key, value)
    return header(b"pax", flag, b"%011o\0" % len(body)) + body + bytes(-len(body) % 512)


def file(content: bytes, name: bytes = b"f", **fields: bytes) -> bytes:
    return header(name, size=b"%011o\0" % len(content), **fields) + content + bytes(-len(content) % 512)


END = bytes(1024)
SPARSE_1_0 = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))


@st.composite
def _members(draw: st.DrawFn) -> bytes:
    """A member that has much in common with others: few values of each field."""
    name, flag = draw(st.sampled_from([b"f", b"g/", b"n" * 100, b"\xff"])), draw(st.sampled_from([b"0", b"0", b"0", b"\0", b"7"]))
    # An old archive's file with a slash at its end is a directory, which has no content.
    content = draw(st.sampled_from([b"", b"x", bytes(600)])) if (name, flag) != (b"g/", b"\0") else b""
    size = b"%011o\0" % len(content) if draw(st.booleans()) else b"\x80" + len(content).to_bytes(11, "big")
    made = header(
        name,
        flag,
        size,
        mode=draw(st.sampled_from([b"0000644\0", b"0004755\0"])),
        mtime=draw(st.sampled_from([b"00000000000\0", b"00000000007\0"])),
        prefix=draw(st.sampled_from([b"", b"", b"above"])),
        magic=draw(st.sampled_from([b"ustar\x0000", b"ustar  \0", b""])),
        link=draw(st.sampled_from([b"", b"", b"elsewhere"])),
    )
    extended = draw(st.sampled_from([b"", b"", pax((b"path", b"other")), pax((b"mtime", b"5.5"), (b"SCHILY.xattr.user.a", b"b"))]))
    return extended + made + content + bytes(-len(content) % 512)


@settings(max_examples=200, deadline=None)
@given(st.lists(_members(), max_size=12))
def test_what_is_read_of_one_does_not_depend_on_those_before_it(members: list[bytes]) -> None:
    alone = [found for member in members for found in read_back(member + END)]
    assert read_back(b"".join(members) + END) == alone


@settings(max_examples=200, deadline=None)
@given(st.lists(_entries(), max_size=5))
def test_what_is_written_is_read(entries: list[tuple[TarEntry, bytes]]) -> None:
    assert read_back(written(entries)) == entries


@settings(max_examples=60, deadline=None)
@given(st.lists(_entries(), max_size=4))
def test_python_reads_what_we_write(entries: list[tuple[TarEntry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(entries)), encoding="utf-8", errors="surrogateescape") as archive:
        members = archive.getmembers()
    assert [os.fsencode(member.name) for member in members] == [entry.name.rstrip(b"/") for entry, _ in entries]
    assert [(m.uid, m.gid, m.mode, m.size, int(m.mtime)) for m in members] == [(e.uid, e.gid, e.mode, e.size, e.mtime) for e, _ in entries]


def test_gnu_tar_reads_what_we_write(tmp_path: Path) -> None:
    entries = [
        (TarEntry(b"d/", "dir", 0o2755), b""),
        (TarEntry(b"d/" + b"x" * 255, "file", 0o4755, 5_000_000, 3, 5, -5), b"hello"),
        (TarEntry(b"d/" * 70 + b"n" * 100, "file", size=1), b"1"),
        (TarEntry(b"d/\xff\xc3\xa9", "symlink", 0o777, link=b"t" * 150), b""),
        (TarEntry(b"d/hard", "hardlink", link=b"d/" + b"x" * 255), b""),
        (TarEntry(b"c", "char", 0o600, major=1, minor=3), b""),
        (TarEntry(b"x", "file", xattrs=((b"user.a", b"\0\n="), (b"user.empty", b""))), b""),
    ]
    tar = tmp_path / "t.tar"
    tar.write_bytes(written(entries))
    result = subprocess.run(["tar", "--quoting-style=escape", "-tf", tar], capture_output=True, check=True)
    assert result.stderr == b""
    assert len(result.stdout.splitlines()) == len(entries)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--xattrs", "-C", tmp_path / "out", "-xf", tar], check=True)
    assert os.getxattr(tmp_path / "out/x", "user.a") == b"\0\n="
    assert os.stat(tmp_path / "out/d/hard").st_nlink == 2
    assert os.stat(tmp_path / "out/d/hard").st_mtime == -5


def test_the_bytes_stay_what_they_are() -> None:
    entries = [(TarEntry(b"d/", "dir", 0o755), b""), (TarEntry(b"d/" + b"x" * 120, "file", size=3, xattrs=((b"user.k", b"v"),)), b"abc")]
    plain = written(entries)
    assert len(plain) == 512 + 1024 + 1024 + 1024
    assert plain[512 + 156 : 512 + 157] == b"x"
    assert plain[1024:1536].rstrip(b"\0") == b"25 SCHILY.xattr.user.k=v\n132 path=d/" + b"x" * 120 + b"\n"
    assert plain.count(b"ustar\x0000") == 3


@pytest.mark.parametrize(
    "options",
    [["--format=v7"], ["--format=oldgnu"], ["--format=gnu"], ["--format=ustar"], ["--format=posix"]],
    ids=lambda options: options[0][9:],
)
def test_formats_of_gnu_tar(tmp_path: Path, options: list[str]) -> None:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/file").write_bytes(b"content" * 1000)
    (tree / "link").symlink_to("dir/file")
    os.link(tree / "dir/file", tree / "hard")
    if options[0] not in ("--format=v7", "--format=ustar"):
        (tree / "dir" / ("n" * 200)).symlink_to("t" * 300)
    tar = subprocess.run(["tar", *options, "--sort=name", "-C", tree, "-c", "."], capture_output=True, check=True).stdout
    found = {entry.name: (entry, content) for entry, content in read_back(tar)}
    assert found[b"./dir/"][0].kind == "dir"
    assert found[b"./dir/file"][1] == b"content" * 1000
    assert (found[b"./hard"][0].kind, found[b"./hard"][0].link) == ("hardlink", b"./dir/file")
    assert found[b"./link"][0].link == b"dir/file"
    if b"./dir/" + b"n" * 200 in found:
        assert found[b"./dir/" + b"n" * 200][0].link == b"t" * 300
    assert found[b"./dir/file"][0].mtime == int((tree / "dir/file").stat().st_mtime)


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))]
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 60])
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str], pieces: int) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as out:
        for piece in range(pieces):
            out.seek(65536 * (2 * piece + 1))
            out.write(bytes([piece + 1]) * 4096)
        out.truncate(65536 * (2 * pieces + 2))
    tar = subprocess.run(["tar", *options, "-S", "-C", tmp_path, "-c", "sparse"], capture_output=True, check=True).stdout
    ((entry, content),) = read_back(tar)
    assert (entry.name, entry.size) == (b"sparse", sparse.stat().st_size)
    assert content == sparse.read_bytes()
    for _, reader in read_tar(io.BytesIO(tar)):
        assert sum(len(data) for _, data in reader.segments()) <= 4096 * pieces + 65536


def test_small_reads() -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self.rest = data

        def read(self, size: int) -> bytes:
            data, self.rest = self.rest[:7], self.rest[7:]
            return data

    tar = written([(TarEntry(b"a", "file", size=1000), b"x" * 1000), (TarEntry(b"b", "file", size=3), b"abc")])
    assert [(entry.name, content.read()) for entry, content in read_tar(Slow(tar))] == [(b"a", b"x" * 1000), (b"b", b"abc")]


def test_what_is_not_read_is_skipped() -> None:
    tar = written([(TarEntry(b"a", "file", size=3 << 20), b"x" * (3 << 20)), (TarEntry(b"b", "file", size=3), b"abc")])
    assert [entry.name for entry, _ in read_tar(io.BytesIO(tar))] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("tar", "names"),
    [
        (b"", []),
        (END, []),
        (bytes(512), []),
        (file(b"x"), [b"f"]),
        (file(b"x") + bytes(512), [b"f"]),
        (header(size=b"00000000001\0") + b"x", [b"f"]),
        (file(b"x") + END + b"garbage", [b"f"]),
        (header(b"label", b"V") + file(b"") + END, [b"f"]),
        (header(b"old/", b"\0", magic=b"") + END, [b"old/"]),
        (header(b"n", prefix=b"p" * 155) + END, [b"p" * 155 + b"/n"]),
        (header(b"n", magic=b"", prefix=b"p") + END, [b"n"]),
        (header(b"n", magic=b"ustar  \0", prefix=b"00000000001\0" * 2) + END, [b"n"]),
        (header(b"n", magic=b"ustar  \0", prefix=b"path/to") + END, [b"path/to/n"]),
        (header(b"n", prefix=b"p" * 131 + b"00000000000 " * 2, trailer=b"\0" * 8 + b"tar\0") + END, [b"p" * 131 + b"/n"]),
        (pax((b"path", b"first"), (b"path", b"second")) + file(b"") + END, [b"second"]),
        (pax((b"path", b"")) + file(b"") + END, [b"f"]),
        (pax((b"comment", b"x"), flag=b"g") + file(b"") + END, [b"f"]),
        (pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff")) + file(b"") + END, [b"\xff"]),
        (header(b"x", b"L", b"00000000004\0") + b"long" + bytes(508) + file(b"") + END, [b"long"]),
        (header(b"h", b"1", b"00000000777\0", link=b"f") + file(b"") + END, [b"h", b"f"]),
        (header(b"d", b"5", b"00000000777\0") + file(b"") + END, [b"d", b"f"]),
    ],
)
def test_odd_but_right(tar: bytes, names: list[bytes]) -> None:
    assert [entry.name for entry, _ in read_back(tar)] == names


def test_numbers_of_all_kinds() -> None:
    ((entry, content),) = read_back(
        header(
            size=b"\x80" + bytes(10) + b"\x03",
            mode=b" 755 \0\0\0",
            uid=b"\x80" + (5_000_000).to_bytes(7, "big"),
            gid=b"",
            mtime=b"\xff" * 11 + b"\xfe",
        )
        + b"abc"
    )
    assert (entry.mode, entry.uid, entry.gid, entry.mtime, content) == (0o755, 5_000_000, 0, -2, b"abc")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(b"12.5", (12, 500_000_000)), (b"-1.25", (-2, 750_000_000)), (b"-3", (-3, 0)), (b"7.1234567891", (7, 123_456_789))],
)
def test_times_of_pax(text: bytes, wanted: tuple[int, int]) -> None:
    ((entry, _),) = read_back(pax((b"mtime", text)) + file(b""))
    assert (entry.mtime, entry.mtime_ns) == wanted


def test_a_signed_checksum() -> None:
    block = bytearray(header(b"\xff" * 50))
    signed = sum(block[:148] + block[156:]) + 256 - 256 * 50
    block[148:156] = b"%06o\0 " % signed
    assert read_back(bytes(block) + END)[0][0].name == b"\xff" * 50


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (b"x" * 100, "middle of a header"),
        (b"x" * 512, "checksum"),
        (header(checksum=b"000001\0 "), "checksum"),
        (file(b"x" * 600)[:-500], "middle of a file"),
        (file(b"x" * 600)[:700], "middle of a file"),
        (bytes(512) + file(b""), "lone zero block"),
        (header(size=b"77777777778\0"), "size"),
        (header(size=b"\xff" * 12), "absurd size"),
        (header(size=b"\x80" + b"\xff" * 11), "absurd size"),
        (header(uid=b"\xff" * 8), "impossible id"),
        (header(flag=b"3", major=b"7777777\0"), "device number"),
        (header(flag=b"Z"), "unknown type"),
        (header(flag=b"M"), "unknown type"),
        (header(b"L", b"L", b"77777777777\0"), "extended header of"),
        (header(b"L", b"L", b"00000001000\0") + b"x", "extended header"),
        (pax((b"path", b"x")), "after an extended header"),
        (pax((b"path", b"a\0b")) + file(b""), "null byte"),
        (pax((b"size", b"12x")) + file(b""), "size"),
        (pax((b"size", b"9" * 20)) + file(b""), "absurd size"),
        (pax((b"mtime", b"1e9")) + file(b""), "mtime"),
        (pax((b"mtime", b"9" * 19)) + file(b""), "absurd modification time"),
        (pax((b"uid", b"-1")) + file(b""), "owner"),
        (pax((b"uid", b"4294967295")) + file(b""), "impossible id"),
        (pax((b"path", b"all"), flag=b"g") + file(b""), "global pax header"),
        (pax((b"SCHILY.xattr.user.x", b"all"), flag=b"g") + file(b""), "global pax header"),
        (pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + file(b""), "sparse"),
        (pax((b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"5,5,0,1")) + file(b"x" * 6), "not in order"),
        (pax((b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"0,5,8,9")) + file(b"x" * 14), "does not fit"),
        (pax((b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"0,5,8")) + file(b"x" * 5), "incomplete"),
        (pax((b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"0,4")) + file(b"x" * 5), "does not fit"),
        (pax(*SPARSE_1_0) + file(b"5\n1\n"), "no end"),
        (pax(*SPARSE_1_0) + file(b"99999999\n" * 60), "pieces"),
    ],
)
def test_malformed(tar: bytes, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        read_back(tar)


def test_malformed_pax_records() -> None:
    for body in (b"nonsense", b"99 path=x\n", b"9 path=x", b"7 path\n\n", b"6 =ab\n", b"-5 a=b\n"):
        tar = header(b"pax", b"x", b"%011o\0" % len(body)) + body + bytes(-len(body) % 512) + file(b"")
        with pytest.raises(LayerError, match="malformed pax header"):
            read_back(tar)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 3000), st.data())
def test_damage_is_never_more_than_a_layer_error(noise: bytes, at: int, data: st.DataObject) -> None:
    records = ((b"path", b"long"), (b"mtime", b"1.5"), (b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"0,5"))
    tar = bytearray(pax(*records) + file(b"12345") + file(b"x" * 700) + END)
    at = min(at, len(tar))
    tar[at : at + len(noise)] = noise
    try:
        for _, content in read_tar(io.BytesIO(bytes(tar))):
            for _ in content.segments():
                pass
    except LayerError:
        pass


def test_an_attribute_that_pax_cannot_say() -> None:
    with pytest.raises(LayerError, match=r"user\.a=b"):
        written([(TarEntry(b"f", "file", xattrs=((b"user.a=b", b""),)), b"")])

"""Users and groups by an image's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgbuild.errors import BuildfileError
from imgbuild.rootfs.users import Owner, lookup_owner, lookup_user
from imgbuild.sandbox.spec import Identity
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh

broken
nouid:x::5::/home/nouid:
negative:x:-1:5::/:
huge:x:99999999999:5::/:
+nis:x:9:9:::
app:x:1000:1001:App:/home/app:/bin/false
short:x:7:8
twice:x:20:20::/first:
twice:x:21:21::/second:
12:x:13:14::/digits:
"""
GROUP = """\
root:x:0:root
web:x:33:app,root
extra:x:34: app ,
data:x:35:app
data2:x:35:app
odd
nogid:x::app
"""


@pytest.fixture
def view(tmp_path: Path) -> UnionView:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_bytes(GROUP.encode() + b"\xff:x:50:app\n")
    return UnionView((DirectoryLower(tmp_path),))


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("", Identity(0, 0, (0, 33), "/root")),
        ("root", Identity(0, 0, (0, 33), "/root")),
        ("0", Identity(0, 0, (0, 33), "/root")),
        ("app", Identity(1000, 1001, (33, 35, 50), "/home/app")),
        ("1000", Identity(1000, 1001, (33, 35, 50), "/home/app")),
        ("app:web", Identity(1000, 33, (), "/home/app")),
        ("app:44", Identity(1000, 44, (), "/home/app")),
        ("1000:web", Identity(1000, 33, (), "/home/app")),
        ("4711", Identity(4711, 0, (), "/")),
        ("4711:4712", Identity(4711, 4712, (), "/")),
        ("short", Identity(7, 8, (), "/")),
        ("twice", Identity(20, 20, (), "/first")),
        ("12", Identity(13, 14, (), "/digits")),
        (":web", Identity(0, 33, (), "/root")),
        ("app:", Identity(1000, 1001, (33, 35, 50), "/home/app")),
    ],
)
def test_processes(view: UnionView, text: str, identity: Identity) -> None:
    assert lookup_user(view, text) == identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who", "no such user: 'who' has no entry in the image's /etc/passwd"),
        ("app:who", "no such group: 'who' in 'app:who' has no entry in the image's /etc/group"),
        ("nouid", "no such user"),
        ("negative", "no such user"),
        ("huge", "no such user"),
        ("+nis", "no such user"),
        ("99999999999", "too large"),
        ("4294967295", "too large"),
        ("-1", "no such user"),
        ("\u0661", "no such user"),
    ],
)
def test_nobody(view: UnionView, text: str, message: str) -> None:
    for lookup in (lookup_user, lookup_owner):
        with pytest.raises(BuildfileError) as caught:
            lookup(view, text)
        assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("5", Owner(5, 5)),
        ("1000", Owner(1000, 1000)),
        ("5:6", Owner(5, 6)),
        ("app", Owner(1000, 1001)),
        ("app:web", Owner(1000, 33)),
        (":web", Owner(0, 33)),
        ("app:12", Owner(1000, 12)),
    ],
)
def test_files(view: UnionView, text: str, owner: Owner) -> None:
    assert lookup_owner(view, text) == owner


def test_without_the_files() -> None:
    with UnionView(()) as view:
        assert lookup_user(view, "") == Identity()
        assert lookup_user(view, "7:8") == Identity(7, 8)
        assert lookup_owner(view, "7") == Owner(7, 7)
        with pytest.raises(BuildfileError):
            lookup_user(view, "root")


def test_the_machines_own_files_are_never_asked(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/../../../../etc")
    with UnionView((DirectoryLower(tmp_path),)) as view:
        with pytest.raises(BuildfileError):
            lookup_user(view, "root")

"""Users and groups by the files of an image: /etc/passwd and /etc/group, read through the union, never by this machine's NSS.

The rules are docker's: `lookup_user` for processes (USER, --user), `lookup_owner` for files (--chown).
"""

from __future__ import annotations

from imgbuild.errors import BuildfileError
from imgbuild.hints import TYPE_CHECKING
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.sandbox.spec import Identity

_LAST_ID = (1 << 32) - 2
_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a file."""

    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def lookup_user(view: UnionView, text: str) -> Identity:
    """Who ``user[:group]`` is in an image; "" is root.

    A number without an entry stands for itself, with group 0 and home "/". Supplementary groups come from /etc/group, and only
    where no group is given. BuildfileError for a name without an entry.
    """
    from imgbuild.sandbox.spec import Identity

    name, _, group_name = text.partition(":")
    name = name or "0"
    user = _find_user(_users(view), name)
    if user is None:
        user = _User("", _number(name, text, "user"), 0, "/")
    groups = _groups(view)
    if group_name:
        return Identity(user.uid, _group_id(groups, group_name, text), (), user.home or "/")
    supplementary = tuple(dict.fromkeys(group.gid for group in groups if user.name and user.name in group.members))
    return Identity(user.uid, user.gid, supplementary, user.home or "/")


def lookup_owner(view: UnionView, text: str) -> Owner:
    """Whom ``user[:group]`` of --chown means in an image.

    Numbers are not looked up, and a number alone is the group too; a name alone brings the group of its entry.
    BuildfileError for a name without an entry.
    """
    name, _, group_name = text.partition(":")
    if not name or (name.isascii() and name.isdigit()):
        uid = gid = _number(name or "0", text, "user")
    else:
        user = next((user for user in _users(view) if user.name == name), None)
        if user is None:
            raise _unknown("user", name, text)
        uid, gid = user.uid, user.gid
    if group_name.isascii() and group_name.isdigit():
        gid = _number(group_name, text, "group")
    elif group_name:
        gid = _group_id(_groups(view), group_name, text)
    return Owner(uid, gid)


def _find_user(users: list[_User], name: str) -> _User | None:
    by_name = next((user for user in users if user.name == name), None)
    if by_name is None and name.isascii() and name.isdigit():
        return next((user for user in users if user.uid == int(name)), None)
    return by_name


def _group_id(groups: list[_Group], name: str, text: str) -> int:
    group = next((group for group in groups if group.name == name), None)
    return group.gid if group else _number(name, text, "group")


def _number(name: str, text: str, kind: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise _unknown(kind, name, text)
    if len(name) > 10 or int(name) > _LAST_ID:
        raise BuildfileError(f"{kind} ID {name} of {text!r} is too large")
    return int(name)


def _unknown(kind: str, name: str, text: str) -> BuildfileError:
    file = "/etc/passwd" if kind == "user" else "/etc/group"
    within = f" in {text!r}" if text != name else ""
    return BuildfileError(f"no such {kind}: {name!r}{within} has no entry in the image's {file}", hint="numbers need no entry")


def _users(view: UnionView) -> list[_User]:
    users = []
    for fields in _records(view, "/etc/passwd"):
        uid, gid = (_field(fields, index) for index in (2, 3))
        if uid is not None and gid is not None:
            users.append(_User(fields[0], uid, gid, fields[5] if len(fields) > 5 else ""))
    return users


def _groups(view: UnionView) -> list[_Group]:
    groups = []
    for fields in _records(view, "/etc/group"):
        gid = _field(fields, 2)
        if gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            groups.append(_Group(fields[0], gid, tuple(member for member in members if member)))
    return groups


def _records(view: UnionView, path: str) -> list[list[str]]:
    """The lines of a colon-separated file that have a name; what is malformed is passed over, a missing file is empty."""
    try:
        data = view.read(path, _LIMIT)
    except OSError:
        data = None
    text = (data or b"").decode("utf-8", "surrogateescape")
    lines = (line.strip().split(":") for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#"))
    return [fields for fields in lines if fields[0] and not fields[0].startswith(("+", "-"))]


def _field(fields: list[str], index: int) -> int | None:
    text = fields[index] if len(fields) > index else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LAST_ID else None

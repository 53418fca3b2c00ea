from __future__ import annotations

import pytest

from imgbuild.buildfile.mounts import (
    BindMount,
    CacheMount,
    Mount,
    SecretMount,
    Sharing,
    SshMount,
    TmpfsMount,
    expandable,
    parse_mount,
)
from imgbuild.errors import Source, Span

from .faults import fault, marked, only, refused

AT = Span(Source("B", ("RUN",)), 1, 1)


def mount(text: str) -> Mount:
    run = only(f"RUN --mount={text} x")
    return parse_mount(run.mounts[0], run.span)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("target=/a", BindMount("/a")),
        ("type=bind,source=s,dst=/a,from=b", BindMount("/a", "s", "b")),
        ("TYPE=Bind,SRC=s,destination=a", BindMount("a", "s")),
        ("target=/a,rw", BindMount("/a", read_only=False)),
        ("target=/a,readwrite=true", BindMount("/a", read_only=False)),
        ("target=/a,rw=false", BindMount("/a")),
        ("target=/a,ro=0", BindMount("/a", read_only=False)),
        ("target=/a,ro,rw", BindMount("/a", read_only=False)),
        ("type=bind", BindMount(".")),
        ("target=/a,id=x", BindMount("/a")),
        ('\\"target=/a,b\\",\\"source=q\\"\\"q\\"', BindMount("/a,b", 'q"q')),
        ("type=cache,target=/c", CacheMount("/c", "/c")),
        ("target=/c/,type=cache", CacheMount("/c/", "/c")),
        ("type=cache,target=/c,ro", CacheMount("/c", "/c", read_only=True)),
        (
            "type=cache,target=/c,id=i,sharing=Locked,mode=0700,uid=1,gid=2,from=b,source=s",
            CacheMount("/c", "i", "s", "b", False, Sharing.LOCKED, 0o700, 1, 2),
        ),
        ("type=cache,target=/c,sharing=private", CacheMount("/c", "/c", sharing=Sharing.PRIVATE)),
        ("type=tmpfs,target=/t", TmpfsMount("/t")),
        ("type=tmpfs,target=/t,size=64m,ro", TmpfsMount("/t", 64 << 20, True)),
        ("type=secret,id=s", SecretMount("s", "/run/secrets/s")),
        ("type=secret,id=a/s", SecretMount("a/s", "/run/secrets/s")),
        ("type=secret,source=s", SecretMount("s", "/run/secrets/s")),
        ("type=secret,target=/x/s", SecretMount("s", "/x/s")),
        ("type=secret,id=s,env=S", SecretMount("s", None, "S")),
        ("type=secret,id=s,env=S,target=/s", SecretMount("s", "/s", "S")),
        ("required,type=secret,id=s,mode=440,uid=1,gid=2", SecretMount("s", "/run/secrets/s", None, True, 0o440, 1, 2)),
        ("type=ssh", SshMount()),
        ("type=ssh,id=i,target=/s,required=true,mode=0666,uid=1,gid=2", SshMount("i", "/s", True, 0o666, 1, 2)),
    ],
)
def test_mounts(text: str, value: Mount) -> None:
    assert mount(text) == value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "an empty mount option", None),
        ("type=cahce,target=/c", "'cahce' is not a type of mount", "did you mean cache?"),
        ("type=$t,target=/c", "the type of a mount can't be a variable", None),
        ("type=,target=/c", "'' is not a type of mount", None),
        ("tagret=/c", "a mount has no option 'tagret'", "did you mean target?"),
        ("target", "the mount option 'target' has no value", "write target=VALUE"),
        ("taget", "the mount option 'taget' has no value", "did you mean target?"),
        ("target=/a,", "an empty mount option", None),
        ("target=/a,size=1", "a bind mount has no option 'size'", "it is for: tmpfs"),
        ("target=/a,required", "a bind mount has no option 'required'", "it is for: secret, ssh"),
        ("target=/a,mode=1", "a bind mount has no option 'mode'", None),
        ("target=/a,sharing=shared", "a bind mount has no option 'sharing'", None),
        ("type=secret,id=a,from=b", "a secret mount has no option 'from'", None),
        ("type=tmpfs,target=/t,uid=1", "a tmpfs mount has no option 'uid'", None),
        ("type=cache,target=/c,env=E", "a cache mount has no option 'env'", None),
        ("target=/a,from=$b", "'from' of a mount can't be a variable", None),
        ('\\"target=/a', "a quoted field has no closing quote", None),
        ('target=/a\\"b', 'a quote inside an unquoted field: target=/a"b', None),
        ('\\"target=/a\\"b', "text after the closing quote of a field", None),
    ],
)
def test_refused_when_parsed(text: str, message: str, hint: str | None) -> None:
    error = fault(f"FROM x\nRUN --mount={text} x")
    assert error.message == message
    assert hint is None or error.hint == hint
    assert marked(error) == f"--mount={text}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target=/a,ro=maybe", "'maybe' is not a value for readonly"),
        ("type=cache,target=/c,sharing=sharde", "'sharde' is not a way of sharing"),
        ("type=cache,target=/c,mode=9", "'9' is not a value for mode"),
        ("type=cache,target=/c,mode=0o7", "'0o7' is not a value for mode"),
        ("type=cache,target=/c,uid=-1", "'-1' is not a value for uid"),
        ("type=cache,target=/c,uid=4294967296", "'4294967296' is not a value for uid"),
        ("type=cache,target=/c,gid=x", "'x' is not a value for gid"),
        ("type=tmpfs,target=/t,size=big", "'big' is not a size"),
        ("type=secret", "a secret mount needs 'id' or 'target'"),
        ("type=secret,id=a,source=b", "a secret mount has both 'source' and 'id'"),
        ("type=ssh,required=x", "'x' is not a value for required"),
    ],
)
def test_refused_when_expanded(text: str, message: str) -> None:
    assert refused(mount, text).message == message


def test_parse_mount_checks_what_it_is_given() -> None:
    assert refused(parse_mount, (("type", "x"),), AT).at == AT
    assert refused(parse_mount, (("bogus", "x"),), AT).at == AT


def test_options_are_kept_unexpanded() -> None:
    run = only("RUN --mount=type=cache,Target=$HOME/.cache,ro x")
    assert run.mounts == ((("type", "cache"), ("target", "$HOME/.cache"), ("ro", None)),)
    assert list(expandable(run.mounts[0])) == ["$HOME/.cache"]

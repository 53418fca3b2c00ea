"""RUN --mount: what is seen, what is kept, and what must leave no trace."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack

import pytest

from .harness import Bench, ended

SECRET = "correct horse battery staple"


def test_binds(bench: Bench) -> None:
    bench.write({"src/a": "a", "src/ignored": "no", "one": "single", ".dockerignore": "src/ignored\n", "b/c/d": "deep"})
    bench.build("""
FROM busybox AS other
RUN mkdir /out && echo built > /out/f && chown ann /out/f && chmod 640 /out/f
FROM busybox
WORKDIR /w
RUN --mount=type=bind,target=. find . | sort > /tree; touch x 2> /dev/null && exit 1; pwd
RUN --mount=source=src,target=/s ls /s > /names
RUN --mount=type=bind,source=one,target=/file cat /file > /single
RUN --mount=from=other,source=/out,target=/o stat -c '%u %a' /o/f > /owner; cat /o/f >> /owner
RUN --mount=from=other,source=/out/f,target=/o/file cat /o/file > /stagefile
RUN --mount=target=/rw,rw echo new > /rw/new && rm /rw/one && ls /rw > /after && echo changed > /rw/src/a
RUN --mount=from=other,target=/rw,rw echo new > /rw/out/f && cat /rw/out/f > /rwstage
RUN --mount=target=/missing/deep/er true
RUN --mount=target=/etc/passwd,source=one cat /etc/passwd > /covered
""")
    files = bench.files()
    assert "src/ignored" not in files["tree"].data.decode()
    assert "./b/c/d" in files["tree"].data.decode()
    assert files["names"].data == b"a\n"
    assert files["single"].data == b"single"
    assert files["owner"].data == b"1000 640\nbuilt\n"
    assert files["stagefile"].data == b"built\n"
    assert b"new" in files["after"].data
    assert b"one" not in files["after"].data.split()
    assert files["rwstage"].data == b"new\n"
    assert files["covered"].data == b"single"
    assert not {"missing", "s", "file", "o", "rw", "rw/new"} & set(files)
    assert (bench.context / "one").read_text() == "single"
    assert (bench.context / "src/a").read_text() == "a"


def test_cache_is_kept_between_builds_and_is_in_no_layer(bench: Bench) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/deep/cache echo $N >> /deep/cache/log; cp /deep/cache/log /seen\n"
    bench.build(text, "--build-arg", "N=1")
    bench.build(text, "--build-arg", "N=2")
    assert bench.files()["seen"].data == b"1\n2\n"
    assert [name for name in bench.top() if "deep" in name or "cache" in name] == []
    bench.build("FROM busybox\nRUN --mount=type=cache,id=/deep/cache,target=/e,readonly cat /e/log > /seen; ! touch /e/x\n")
    assert bench.files()["seen"].data == b"1\n2\n"
    bench.build("FROM busybox\nRUN --mount=type=cache,id=other,target=/deep/cache ls -A /deep/cache > /seen\n")
    assert bench.files()["seen"].data == b""
    bench.run("fsck")


def test_cache_begins_as_it_was_asked_for(bench: Bench) -> None:
    bench.build("""
FROM busybox AS fill
RUN mkdir -p /f/sub && echo x > /f/sub/x && chown -R ann /f
FROM busybox
RUN --mount=type=cache,target=/c,mode=0700,uid=1000,gid=50 stat -c '%a %u %g' /c > /made
RUN --mount=type=cache,target=/plain stat -c '%a %u %g' /plain > /plainly
RUN --mount=type=cache,target=/filled,from=fill,source=/f cat /filled/sub/x > /from; stat -c %u /filled/sub >> /from
USER ann
RUN --mount=type=cache,target=/home/ann/.cache,uid=1000 touch /home/ann/.cache/mine
""")
    files = bench.files()
    assert files["made"].data == b"700 1000 50\n"
    assert files["plainly"].data == b"755 0 0\n"
    assert files["from"].data == b"x\n1000\n"
    assert "home/ann/.cache" not in files


def test_a_cache_that_would_begin_with_a_file_is_refused(bench: Bench) -> None:
    text = "FROM busybox AS fill\nRUN echo x > /f\nFROM busybox\nRUN --mount=type=cache,target=/c,from=fill,source=/f true\n"
    said = bench.refused(text, code=10)
    assert "a cache can't begin with '/f', which is no directory" in said
    assert "Buildfile:4" in said


@pytest.mark.parametrize("sharing", ["shared", "private", "locked"])
def test_a_cache_that_begins_with_other_files_is_another_one(bench: Bench, sharing: str) -> None:
    mount = f"--mount=type=cache,id=c,target=/c,from=seed,sharing={sharing}"
    text = f"FROM scratch AS seed\nCOPY seed /seed\nFROM busybox\nRUN {mount} cat /c/seed > /seen; echo more >> /c/log\n"
    for seed in ("one", "two"):
        bench.write({"seed": seed})
        bench.build(text)
        assert bench.files()["seen"].data == seed.encode()
    bench.build(f"FROM scratch AS seed\nCOPY seed /seed\nFROM busybox\nRUN {mount} cat /c/log > /log\n")
    assert bench.files()["log"].data == b"more\n"
    bench.build(f"FROM busybox\nRUN {mount.replace(',from=seed', '')} ls /c > /none\n")
    assert bench.files()["none"].data == b""


def test_private_caches_are_each_ones_own_and_locked_ones_wait(bench: Bench) -> None:
    # Both steps are in the cache at once (they wait for each other), and neither sees what the other writes.
    mounts = "--mount=type=cache,target=/meet --mount=type=cache,target=/p,sharing=private"
    bench.build(f"""
FROM busybox AS a
RUN {mounts} touch /p/a /meet/a; until [ -e /meet/b ]; do usleep 10000; done; ls /p > /out
FROM busybox AS b
RUN {mounts} touch /p/b /meet/b; until [ -e /meet/a ]; do usleep 10000; done; ls /p > /out
FROM busybox
COPY --from=a /out /a
COPY --from=b /out /b
""")
    assert (bench.files()["a"].data, bench.files()["b"].data) == (b"a\n", b"b\n")
    step = "RUN --mount=type=cache,target=/l,sharing=locked mkdir /l/lock && usleep 50000 && rmdir /l/lock && echo {0} > /{0}\n"
    stages = "".join(f"FROM busybox AS s{number}\n{step.format(number)}" for number in range(4))
    copies = "".join(f"COPY --from=s{number} /{number} /\n" for number in range(4))
    bench.build(f"{stages}FROM busybox\n{copies}")


def test_tmpfs_is_empty_bounded_and_gone(bench: Bench) -> None:
    bench.build("""
FROM busybox
RUN --mount=type=tmpfs,target=/t,size=1m stat -f -c %T /t > /kind; echo > /t/gone; ! dd if=/dev/zero of=/t/big bs=1k count=2000 2> /dev/null
RUN --mount=type=tmpfs,target=/tmp touch /tmp/x; ls -A / > /names
RUN ls -A /tmp > /tmpnames
""")
    files = bench.files()
    assert files["kind"].data == b"tmpfs\n"
    assert "t" not in files
    assert files["tmpnames"].data == b""


def test_mounts_inside_mounts(bench: Bench) -> None:
    bench.write({"file": "content"})
    bench.build("""
FROM busybox
RUN --mount=type=cache,target=/x/y --mount=type=tmpfs,target=/x touch /x/y/kept /x/gone; ls /x > /seen
RUN --mount=type=cache,id=/x/y,target=/x ls /x > /kept
RUN --mount=type=tmpfs,target=/a --mount=type=bind,source=file,target=/a/b/file cat /a/b/file > /bound
RUN --mount=type=tmpfs,target=/a --mount=type=tmpfs,target=/a/b/c touch /a/b/c/d; find /a -type d | sort > /tree
RUN --mount=type=cache,target=/c1 --mount=type=cache,target=/c1/sub/c2 touch /c1/sub/c2/f
RUN --mount=type=cache,id=/c1,target=/c1 find /c1 -mindepth 1 > /c1tree
RUN --mount=type=bind,target=/ctx,rw --mount=type=cache,target=/ctx/new/cache touch /ctx/new/cache/f
RUN --mount=type=tmpfs,target=/run --mount=type=secret,id=s,target=/run/secrets/s cat /run/secrets/s > /dev/null
""", "--secret", "id=s,src=file")
    files = bench.files()
    assert files["seen"].data == b"gone\ny\n"
    assert files["kept"].data == b"kept\n"
    assert files["bound"].data == b"content"
    assert files["tree"].data == b"/a\n/a/b\n/a/b/c\n"
    assert not {"x", "a", "c1", "ctx", "run"} & set(files)
    assert sorted(path.name for path in bench.context.iterdir()) == ["Buildfile", "file"]


def test_secrets_are_given_in_every_form_and_kept_nowhere(bench: Bench) -> None:
    (bench.place / "file").write_text(SECRET)
    text = """
FROM busybox
RUN --mount=type=secret,id=one stat -c '%a %u %g' /run/secrets/one > /stat && wc -c < /run/secrets/one > /size
RUN --mount=type=secret,id=one,target=/a/b/key,mode=0440,uid=1000,gid=50 stat -c '%a %u %g' /a/b/key > /stat2
RUN --mount=type=secret,id=two,env=TOKEN [ "$TOKEN" = "EXPECTED" ] && [ ! -e /run/secrets/two ]
RUN --mount=type=secret,id=three,env=TOKEN,target=/both [ "$TOKEN" = "$(cat /both)" ]
RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ]
RUN --mount=type=secret,id=one,target=relative [ -s /relative ]
""".replace("EXPECTED", SECRET.replace("correct", "$(echo cor)rect"))
    bench.build(
        text, "--secret", f"id=one,src={bench.place / 'file'}", "--secret", "id=two,env=HERE", "--secret", "id=three",
        environ={"HERE": SECRET, "three": SECRET},
    )  # fmt: skip
    files = bench.files()
    assert files["stat"].data == b"400 0 0\n"
    assert files["size"].data.strip() == b"28"
    assert files["stat2"].data == b"440 1000 50\n"
    assert not {"run/secrets", "a", "both", "relative"} & set(files)
    assert_nowhere(bench, SECRET)


def test_a_secret_in_a_failing_step_is_not_in_the_error(bench: Bench) -> None:
    done = bench.build(
        "FROM busybox\nRUN --mount=type=secret,id=k,env=K false\n", "--secret", "id=k,env=K", code=1, environ={"K": SECRET}
    )
    assert SECRET not in done.err
    assert_nowhere(bench, SECRET)


def assert_nowhere(bench: Bench, text: str) -> None:
    for path in bench.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert text.encode() not in path.read_bytes(), path
    for layer in bench.layers() if '"x:latest"' in (bench.root / "index.json").read_text() else []:
        assert not [name for name, entry in layer.items() if text.encode() in entry.data]
    with sqlite3.connect(bench.root / "index.db") as connection:
        assert not any(text in line for line in connection.iterdump())


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        ("type=secret,id=none,required", 10, "--secret id=none"),
        ("type=secret,id=none,required=true", 10, "was not given"),
        ("type=bind,source=nothing,target=/x", 12, "nothing"),
        ("type=bind,from=busybox,source=/nothing,target=/x", 12, "nothing"),
        ("type=bind,source=../../nothing,target=/x", 12, "nothing"),
        ("type=bind,source=Buildfile,target=/etc", 20, "/etc"),
        ("type=bind,source=.,target=/etc/passwd", 20, "/etc/passwd"),
    ],
)
def test_mounts_that_are_refused(shared: Bench, flag: str, code: int, words: str) -> None:
    said = shared.refused(f"FROM busybox\nRUN --mount={flag} true\n", code=code)
    assert words in said
    assert "Buildfile:2" in said


def test_secrets_in_every_form_of_the_command_line(bench: Bench) -> None:
    (bench.place / "a,b").write_text("comma")
    (bench.context / "plain").write_text("by name")
    (bench.place / "home" / "mine").write_text("at home")
    forms = {
        "src": (f"id=src,src={bench.place / 'home' / 'mine'}", "at home"),
        "source": (f"id=source,source={bench.place / 'home' / 'mine'}", "at home"),
        "file": (f"type=file,id=file,src={bench.place / 'home' / 'mine'}", "at home"),
        "quoted": (f'id=quoted,"src={bench.place / "a,b"}"', "comma"),
        "home": ("id=home,src=~/mine", "at home"),
        "env": ("id=env,env=VARIABLE", "variable"),
        "typed": ("type=env,id=typed,src=VARIABLE", "variable"),
        "VARIABLE": ("id=VARIABLE", "variable"),
        "OTHER": ("type=env,id=OTHER", "other"),
        "plain": ("id=plain", "by name"),
    }
    steps = "".join(f'RUN --mount=type=secret,id={name},env=S [ "$S" = "{value}" ]\n' for name, (_, value) in forms.items())
    options = [word for form, _ in forms.values() for word in ("--secret", form)]
    # Their values stand in the Buildfile: that is meant here.
    bench.build(f"FROM busybox\n{steps}", *options, "--allow", "secret.leak", environ={"VARIABLE": "variable", "OTHER": "other"})


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("id=a,src=/no/such/file", "can't read /no/such/file"),
        ("src=x", "has no id"),
        ("id=", "has no id"),
        ("id=a,scr=x", "did you mean src?"),
        ("id=a,src", "'src' has no value"),
        ("id=a,env=NOT_SET", "no NOT_SET"),
        ("id=a,type=evn,src=x", "did you mean env?"),
        ("id=NOT_A_FILE,type=file", "can't read NOT_A_FILE"),
        ('"id=a', "--secret"),
    ],
)
def test_secrets_that_are_refused(shared: Bench, secret: str, words: str) -> None:
    assert words in shared.refused("FROM busybox\n", "--secret", secret, code=2)


def test_a_relative_target_is_meant_from_the_working_directory(bench: Bench) -> None:
    bench.write({"dir/file": "text"})
    bench.build(
        """
FROM busybox
WORKDIR /w/d
RUN --mount=type=bind,source=dir,target=here --mount=type=tmpfs,target=../t --mount=type=cache,id=x,target=c \\
    --mount=type=secret,id=s,target=secret [ -s /w/d/here/file ] && [ -d /w/t ] && touch /w/d/c/kept && [ -s /w/d/secret ]
RUN --mount=type=cache,id=x,target=/c ls -A . > /left; ls /c > /kept
""",
        "--secret", "id=s,src=dir/file",
    )  # fmt: skip
    files = bench.files()
    assert (files["left"].data, files["kept"].data) == (b"", b"kept\n")


def test_variables_are_replaced_in_mounts(bench: Bench) -> None:
    bench.write({"a1/file": "text"})
    bench.build("""
FROM busybox
ARG N=1
ENV HERE=/mnt/in
RUN --mount=source=../..,target=/above [ -d /above/a1 ]
RUN --mount=source=a$N,target=${HERE:-x} --mount=type=tmpfs,target=/t,size=${N}m cat $HERE/file > /out
""")
    assert bench.files()["out"].data == b"text"


def test_builds_side_by_side_take_turns_in_a_locked_cache(bench: Bench) -> None:
    # Each build holds the cache for a moment, in which the lock's directory must be its own.
    step = "mkdir /l/lock && usleep 20000 && rmdir /l/lock && echo {0} >> /l/log"
    names = ("one", "two", "three")
    for name in names:
        text = f"FROM busybox\nRUN --mount=type=cache,id=l,target=/l,sharing=locked {step.format(name)}\n"
        (bench.context / name).write_text(text)
    with ExitStack() as stack:
        builds = [stack.enter_context(bench.started("build", "--progress=plain", "-f", name, ".")) for name in names]
        codes = [ended(build) for build in builds]
    assert [code for code, _ in codes] == [0, 0, 0], codes
    bench.build("FROM busybox\nRUN --mount=type=cache,id=l,target=/l sort /l/log > /log\n")
    assert bench.files()["log"].data.split() == sorted(name.encode() for name in names)


def test_the_store_is_whole_after_all_of_these(shared: Bench) -> None:
    shared.assert_whole()

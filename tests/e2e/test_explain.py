"""Why a step was not found in the cache: exactly what was changed is named, in the build and afterwards."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from .harness import Bench

TEXT = """FROM busybox
ARG VERSION=1
ENV MODE=fast
WORKDIR /src
COPY --chown=5:5 src /src/
RUN echo "$VERSION" > /tmp/version
"""
LAST = 'RUN echo "$VERSION" > /tmp/version'
FILES = {"src/app.py": "x" * 1204, "src/lib/util.py": "util", "src/link": "-> app.py"}


def test_the_first_build_says_so(bench: Bench) -> None:
    bench.write(FILES)
    done = bench.build(TEXT)
    assert set(done.misses.values()) == {"first build of this Buildfile"}
    assert list(done.steps.values()) == ["DONE"] * 3
    assert bench.build(TEXT).misses == {}


def test_before_a_first_build_there_is_nothing_to_read(bench: Bench) -> None:
    program = "import sys; from imgbuild.cli.main import main\ntry: main(%r)\nfinally: print('imgbuild.engine.explained' in sys.modules)"
    bench.write(FILES)
    shutil.rmtree(bench.root / "history")
    for text, read in (("RUN false\n", False), ("RUN true\n", True)):
        bench.write({"Buildfile": f"{TEXT}{text}"})
        arguments = bench.command("build", "--progress=plain", ".")[3:]
        command = [sys.executable, "-c", program % (arguments,)]
        done = subprocess.run(command, cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines()[-1] == str(read), done.stderr
        assert ("first build of this Buildfile" in done.stderr) is not read


ENDS = """FROM busybox AS tried
TEST --mount=type=cache,target=/c touch /c/tried; {test}
FROM busybox
COPY --from=tried /bin/true /other
RUN --mount=type=cache,target=/c until [ -e /c/tried ]; do sleep 0.01; done
COPY f /f
"""


@pytest.mark.parametrize("test", ["true", "false"])
@pytest.mark.parametrize("output", [[], ["--output", "type=junit,dest=missing/report"]])
def test_whatever_ends_a_build_its_last_step_is_told_of(bench: Bench, test: str, output: list[str]) -> None:
    bench.write({"f": "f", "Buildfile": ENDS.format(test=test)})
    done = bench.run("build", "--progress=plain", *output, ".", code=None)
    assert (done.code == 0) is (test == "true" and not output)
    assert done.steps["COPY f /f"] == "DONE"
    assert done.misses["COPY f /f"] == "first build of this Buildfile"


def test_without_the_cache_a_first_build_says_that(bench: Bench) -> None:
    bench.write({**FILES, "Buildfile": TEXT})
    assert set(bench.run("build", "--progress=plain", "--no-cache", ".").misses.values()) == {"--no-cache"}


def _rewrite(bench: Bench) -> None:
    bench.write({"src/app.py": "y" * 1310})


def _mode(bench: Bench) -> None:
    (bench.context / "src/lib/util.py").chmod(0o755)


def _add(bench: Bench) -> None:
    bench.write({"src/lib/new.py": "12345"})


def _remove(bench: Bench) -> None:
    (bench.context / "src/lib/util.py").unlink()


def _link(bench: Bench) -> None:
    (bench.context / "src/link").unlink()
    bench.write({"src/link": "-> lib"})


def _kind(bench: Bench) -> None:
    (bench.context / "src/link").unlink()
    bench.write({"src/link": "x"})


def _two(bench: Bench) -> None:
    _rewrite(bench)
    _mode(bench)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_rewrite, "src/app.py changed (content, 1,204 -> 1,310 bytes)"),
        (_mode, "src/lib/util.py changed (mode, 644 -> 755)"),
        (_add, "src/lib/new.py added (5 bytes)"),
        (_remove, "src/lib/util.py removed (4 bytes)"),
        (_link, "src/link changed (target, app.py -> lib)"),
        (_kind, "src/link changed (kind, symlink -> file)"),
        (_two, "src/app.py changed (content, 1,204 -> 1,310 bytes); src/lib/util.py changed (mode, 644 -> 755)"),
    ],
)
def test_which_file_of_the_context_and_what_of_it(bench: Bench, change: Callable[[Bench], None], said: str) -> None:
    bench.write(FILES)
    (bench.context / "src/lib/util.py").chmod(0o644)
    bench.build(TEXT)
    change(bench)
    follows = {LAST: "stands on #2, which was not cached"}
    assert bench.build(TEXT).misses == {"COPY --chown=5:5 src /src/": said, **follows}


@pytest.mark.parametrize(
    ("text", "options", "step", "said"),
    [
        (TEXT, ["--build-arg", "VERSION=2"], "RUN", 'ARG VERSION changed ("1" -> "2")'),
        (TEXT.replace("VERSION=1", "VERSION=1\nARG MORE=x"), [], "RUN", 'ARG MORE added ("x")'),
        (TEXT.replace("ARG VERSION=1\n", ""), [], "RUN", 'ARG VERSION removed ("1")'),
        (TEXT.replace("MODE=fast", "MODE=slow"), [], "RUN", 'ENV MODE changed ("fast" -> "slow")'),
        (TEXT.replace("/tmp/v", "/tmp/V"), [], "RUN", f'instruction changed ("{LAST}" -> "{LAST.replace("/v", "/V")}")'),
        (TEXT.replace("RUN", "USER ann\nRUN"), [], "RUN", 'USER changed (none -> "ann")'),
        (TEXT.replace("RUN", 'SHELL ["/bin/ash", "-c"]\nRUN'), [], "RUN", 'SHELL changed ("/bin/sh, -c" -> "/bin/ash, -c")'),
        (TEXT.replace("RUN", "RUN --network=none"), [], "RUN", '--network changed ("default" -> "none")'),
        (TEXT, ["--network", "none"], "RUN", '--network changed ("default" -> "none")'),
        (TEXT, ["--add-host", "db:10.0.0.1"], "RUN", '--add-host changed (none -> "db")'),
        (TEXT, ["--shm-size", "1m"], "RUN", '--shm-size changed (none -> "1048576")'),
        (TEXT, ["--ulimit", "nofile=100:200"], "RUN", '--ulimit changed (none -> "nofile, 100, 200")'),
        (TEXT, ["--source-date-epoch", "77"], "WORKDIR", 'SOURCE_DATE_EPOCH changed ("1700000000" -> "77")'),
        (TEXT.replace("WORKDIR /src", "WORKDIR /else"), [], "WORKDIR", 'instruction changed ("WORKDIR /src" -> "WORKDIR /else")'),
        (TEXT.replace("--chown=5:5", "--chown=6:6"), [], "COPY", None),
        (TEXT, ["--no-cache"], "RUN", "--no-cache"),
        (TEXT.replace("WORKDIR", "RUN true\nWORKDIR"), [], "RUN true", "the instruction is new"),
    ],
)  # fmt: skip
def test_which_field_of_the_step(bench: Bench, text: str, options: list[str], step: str, said: str | None) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    misses = bench.build(text, *options).misses
    first = next(iter(misses))
    assert first.startswith(step) or options == ["--no-cache"]
    if said is not None:
        assert misses[first] == said
    else:
        assert misses[first].startswith("instruction changed (")
    if options == ["--no-cache"]:
        assert set(misses.values()) == {"--no-cache"}
    for name, other in list(misses.items())[1:]:
        follows = {f"stands on #{number}, which was not cached" for number in (1, 2, 3)}
        assert other in {"--no-cache", 'WORKDIR changed ("/src" -> "/else")'} | follows, name


def test_which_variable_of_a_copy(bench: Bench) -> None:
    bench.write({"a/f": "1", "b/f": "1"})
    text = "FROM busybox\nARG DIR=a\nARG WHO=1\nCOPY --chown=$WHO ${DIR} /x/\n"
    bench.build(text)
    name = "COPY --chown=$WHO ${DIR} /x/"
    assert bench.build(text, "--build-arg", "DIR=b").misses == {name: '$DIR changed (source "a" -> "b")'}
    assert bench.build(text, "--build-arg", "DIR=b", "--build-arg", "WHO=2").misses == {name: '$WHO changed (--chown "1" -> "2")'}


def test_which_base(bench: Bench) -> None:
    def base(text: str) -> None:
        bench.run("build", "-t", "base", "-f", "-", bench.context, stdin=f"FROM busybox\nRUN {text} > /v\n".encode())

    base("echo 1")
    text = "FROM base\nRUN echo 1\nRUN echo 2\n"
    bench.build(text)
    base("echo 2")
    misses = bench.build(text).misses
    assert misses["RUN echo 1"].startswith("base base:latest changed (sha256:")
    assert misses["RUN echo 2"] == "stands on #1, which was not cached"
    misses = bench.build(text.replace("FROM base", "FROM busybox")).misses
    assert misses["RUN echo 1"] == "base changed (base:latest -> busybox:latest)"


def test_what_of_another_stage_and_of_a_mount(bench: Bench) -> None:
    text = """FROM busybox AS lib
RUN mkdir /lib /other && echo 1 > /lib/a && echo 1 > /other/b
FROM busybox
COPY --from=lib /lib /lib
RUN --mount=from=lib,source=/other,target=/m cat /m/b
RUN --mount=source=src,target=/s ls /s
"""
    bench.write({"src/f": "1"})
    bench.build(text)
    bench.write({"src/f": "222"})
    (said,) = bench.build(text).misses.values()
    assert said == "src/f changed (content, 1 -> 3 bytes)"
    misses = bench.build(text.replace("echo 1 > /other/b", "echo 22 > /other/b")).misses
    mount = misses["RUN --mount=from=lib,source=/other,target=/m cat /m/b"]
    assert mount.startswith("other/b of stage lib changed (content")
    assert "2 -> 3 bytes" in mount
    assert "COPY --from=lib /lib /lib" not in misses or "lib/a" in misses["COPY --from=lib /lib /lib"]


def test_what_a_pattern_finds(bench: Bench) -> None:
    text = "FROM busybox\nCOPY *.txt /x/\n"
    bench.write({"a.txt": "a", "c.txt": "c"})
    bench.build(text)
    bench.write({"b.txt": "b"})
    assert list(bench.build(text).misses.values()) == ["b.txt added"]


def test_that_a_step_was_evicted(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    misses = bench.build(TEXT).misses
    assert len(misses) == 3
    assert all(said.startswith("evicted on 20") and said.endswith(" by prune --all") for said in misses.values())
    with sqlite3.connect(bench.root / "index.db") as connection:
        connection.execute("DELETE FROM steps")
    assert set(bench.build(TEXT).misses.values()) == {"the store's memory of it is lost"}  # the prune is not to blame for that
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    bench.write({"src/app.py": "other"})
    assert "is not known any more: evicted on" in bench.build(TEXT).misses["COPY --chown=5:5 src /src/"]


def test_that_a_layer_is_gone_and_that_a_parent_was_made_again(bench: Bench) -> None:
    text = "FROM busybox\nRUN head -c 16 /dev/urandom > /random\nRUN cp /random /copy\n"
    bench.build(text)
    digest = bench.manifest()["layers"][-2]["digest"]
    (bench.root / "blobs" / digest.replace(":", "/")).unlink()
    assert list(bench.build(text).misses.values()) == [
        "its layer is gone from the store", "the step before it was performed again, and left something else",
    ]  # fmt: skip


def test_that_no_record_of_an_earlier_build_is_kept(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1\n")
    bench.run("builds", "rm", "--all")
    done = bench.build("FROM busybox\nRUN echo 2\n")
    assert done.misses == {"RUN echo 2": "no record of an earlier build of this Buildfile is kept"}
    assert "no record of an earlier build" in bench.run("explain").out


def test_that_it_failed_last_time(bench: Bench) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c [ -e /c/ready ] || { touch /c/ready; exit 1; }\n"
    bench.build(text, code=1)
    assert list(bench.build(text).misses.values()) == ["it failed last time"]


def test_a_bake_names_steps_by_the_numbers_that_it_shows(bench: Bench) -> None:
    text = "FROM busybox AS a\nRUN echo a\nFROM busybox AS b\nRUN echo {}\nRUN echo c\n"
    targets = "groups: {default: [a, b]}\ntargets: {a: {target: a}, b: {target: b}}\n"
    bench.write({"Buildfile": text.format("one"), "imgbuild.yaml": targets})
    bench.run("bake", "--progress=plain")
    bench.write({"Buildfile": text.format("two")})
    done = bench.run("bake", "--progress=plain")
    numbers = {line.partition("] ")[2]: line.partition(" ")[0] for line in done.err.splitlines() if line.startswith("#") and " [" in line}
    said = dict(line.split(" MISS: ") for line in done.err.splitlines() if " MISS: " in line)
    assert said == {
        numbers["RUN echo two"]: 'instruction changed ("RUN echo one" -> "RUN echo two")',
        numbers["RUN echo c"]: f"stands on {numbers['RUN echo two']}, which was not cached",
    }


def test_steps_that_change_places(bench: Bench) -> None:
    bench.write({"a": "a", "b": "b"})
    bench.build("FROM busybox\nCOPY a /a\nCOPY b /b\n")
    assert bench.build("FROM busybox\nCOPY b /b\nCOPY a /a\n").misses["COPY b /b"] == "stands on the base now"


def test_that_what_is_mended_failed_last_time(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN exit 3\n", code=1)
    assert list(bench.build("FROM busybox\nRUN exit 0\n").misses.values()) == ["it failed last time"]


def test_a_step_between_is_new_and_the_others_follow(bench: Bench) -> None:
    steps = "".join(f"RUN echo {number} > /{number}\n" for number in range(20))
    bench.build(f"FROM busybox\n{steps}")
    misses = bench.build(f"FROM busybox\n{steps}".replace("RUN echo 3 ", "RUN echo three > /three\nRUN echo 3 ")).misses
    assert misses.pop("RUN echo three > /three") == "the instruction is new"
    assert len(misses) == 17
    assert set(misses.values()) == {"stands on #4, which was not cached"}


def test_json_lines_have_the_fields(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    _rewrite(bench)
    done = bench.run("build", "--progress=json", bench.context)
    events = [json.loads(line) for line in done.out.splitlines()]
    missed = [event for event in events if event["event"] == "StepMissed"]
    assert [event["causes"] for event in missed] == [
        [{"kind": "file", "subject": "src/app.py", "what": "content", "old_size": 1204, "new_size": 1310}],
        [{"kind": "parent", "subject": "#2"}],
    ]


def test_nothing_is_kept_of_a_build_that_is_cached(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    before = (bench.root / "evidence.log").stat()
    bench.build(TEXT)
    after = (bench.root / "evidence.log").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_explain_afterwards(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    first = json.loads(bench.run("explain", "--format", "json").out)["build"]
    _two(bench)
    bench.build(TEXT, "--build-arg", "VERSION=2")
    out = bench.run("explain").out.splitlines()
    assert out[0].startswith("build ")
    assert out[0].endswith(": 1 cached, 2 performed")
    assert out[1:] == [
        "#1 [1/3] WORKDIR /src",
        f"   CACHED from build {first}",
        "#2 [2/3] COPY --chown=5:5 src /src/",
        "   MISS: src/app.py changed (content, 1,204 -> 1,310 bytes); src/lib/util.py changed (mode, 644 -> 755)",
        f"   compared with #2 of build {first}:",
        "     src/app.py changed (content, 1,204 -> 1,310 bytes)",
        "     src/lib/util.py changed (mode, 644 -> 755)",
        f"#3 [3/3] {LAST}",
        '   MISS: ARG VERSION changed ("1" -> "2")',
        f"   compared with #3 of build {first}:",
        '     ARG VERSION changed ("1" -> "2")',
        "     the step before it",
    ]
    assert bench.run("explain", "#3").out.splitlines() == [out[0], *out[8:]]
    assert bench.run("explain", "last", "3").out == bench.run("explain", "#3").out
    (step,) = json.loads(bench.run("explain", "last", "2", "--format=json").out)["steps"]
    assert (step["outcome"], step["against"]) == ("done", {"build": first, "number": 2})
    assert step["causes"] == [
        {"kind": "file", "subject": "src/app.py", "what": "content", "old_size": 1204, "new_size": 1310},
        {"kind": "file", "subject": "src/lib/util.py", "what": "mode", "old": "644", "new": "755", "old_size": 4, "new_size": 4},
    ]
    assert "first build of this Buildfile" in bench.run("explain", first).out


def test_explain_refused(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN true\n")
    assert "has no step 7" in bench.run("explain", "last", "7", code=13).err
    assert "is not the number of a step" in bench.run("explain", "last", "RUN", code=2).err
    assert "there is no build" in bench.run("explain", "nothing", code=13).err


def test_what_is_kept_may_be_damaged(bench: Bench) -> None:
    bench.explained = False
    bench.write(FILES)
    bench.build(TEXT)
    for name in ("evidence.db-wal", "evidence.db-shm"):
        (bench.root / name).unlink(missing_ok=True)
    (bench.root / "evidence.db").write_bytes(b"damaged" * 1000)
    _rewrite(bench)
    assert "what it was last time is not known any more" in bench.run("plan", bench.context).out
    assert bench.build(TEXT).misses["COPY --chown=5:5 src /src/"] == "what it was last time is not known any more"
    assert "evidence" in bench.run("fsck", "--repair").out
    bench.assert_whole()


def test_the_index_may_be_lost(bench: Bench) -> None:
    """What the last build said is known without it."""
    bench.write(FILES)
    bench.build(TEXT)
    for name in bench.root.glob("index.db*"):
        name.unlink()
    misses = list(bench.build(TEXT.replace("/tmp/version", "/version")).misses.values())
    assert misses[0] == "the store's memory of it is lost"
    assert misses[-1].startswith("instruction changed (")

"""``imgbuild advise``: what each piece of advice stands on, from builds that were really done; and that it says so where there is none."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from .harness import PATIENCE, Bench


def _advice(bench: Bench, *words: str) -> list[dict[str, Any]]:
    ((found),) = json.loads(bench.run("advise", "--format", "json", *words, cwd=bench.context).out)
    advice: list[dict[str, Any]] = found["advice"]
    return advice


def _of(bench: Bench, kind: str, *words: str) -> dict[str, Any]:
    (found,) = [each for each in _advice(bench, *words) if each["kind"] == kind]
    return found


# A `pip` of our own, which takes its time.
PIP = """FROM busybox
RUN printf "#!/bin/sh\\nsleep 1; cat requirements.txt > /installed\\n" > /bin/pip && chmod 755 /bin/pip
WORKDIR /app
"""
APP = f"{PIP}COPY . .\nRUN pip install -r requirements.txt\nRUN sleep 0.6; cat main > /made\n"


def test_what_is_performed_for_files_that_it_does_not_read(bench: Bench) -> None:
    for number in range(4):
        bench.write({"main": str(number), "requirements.txt": "flask" if number < 3 else "django"})
        if number == 3:
            bench.write({"main": "2"})
        bench.build(APP)
    found = _of(bench, "split")
    assert found["line"] == 4
    assert found["instruction"] == "COPY . ."
    assert "copy requirements.txt first, then `RUN pip install -r requirements.txt` (line 5), then the rest" in found["message"]
    assert found["facts"] == {
        "builds": 4, "missed": 3, "performed": 2, "files": {"main": 2, "requirements.txt": 1},
        "instruction": "RUN pip install -r requirements.txt", "line": 5,
    }  # fmt: skip
    assert found["seconds"] > 2.0
    later = _of(bench, "later")
    assert later["at_most"]
    assert "`RUN sleep 0.6; cat main > /made (line 6)`" in " ".join(later["evidence"])
    text = bench.run("advise").out
    assert "Buildfile:4  COPY . .  [" in text
    assert "   - its files had changed in 3 of 4 builds: main (2 times), requirements.txt (1 time)\n" in text


def test_what_a_program_that_nobody_knows_has_opened(bench: Bench) -> None:
    text = "FROM busybox\nCOPY . /app\nRUN sleep 0.6; cat /app/lock > /fetched\n"
    bench.write({"lock": "1", "src/main": "1"})
    bench.build(text)
    for number in range(2):
        bench.write({"src/main": f"changed {number}"})
        bench.build(None)
    found = _of(bench, "split")
    assert "copy what it opens first, then `RUN sleep 0.6; cat /app/lock > /fetched` (line 3), then the rest" in found["message"]
    assert (found["facts"]["performed"], found["at_most"]) == (2, False)


def test_what_reads_nothing_stands_above(bench: Bench) -> None:
    tool = 'FROM busybox\nRUN printf "#!/bin/sh\\nsleep 0.6\\n" > /bin/apk && chmod 755 /bin/apk\n'
    for number in range(3):
        bench.write({"main": str(number)})
        bench.build(f"{tool}COPY main /\nRUN apk add --no-cache curl\n")
    found = _of(bench, "order", ".")
    assert "put `RUN apk add --no-cache curl` (line 4) before it" in found["message"]
    mount = _of(bench, "cache-mount", ".")
    assert "RUN --mount=type=cache,target=/var/cache/apk" in mount["message"]
    assert mount["message"].endswith("without --no-cache")
    assert (mount["line"], mount["facts"]["performed"], mount["bytes"]) == (4, 3, 0)


def test_a_cache_that_landed_in_a_layer(bench: Bench) -> None:
    program = "#!/bin/sh\\nmkdir -p /root/.npm; head -c 3000000 /dev/zero > /root/.npm/x\\n"
    tool = f'FROM busybox\nRUN printf "{program}" > /bin/npm; chmod 755 /bin/npm\n'
    bench.build(f"{tool}RUN npm ci\n")
    found = _of(bench, "cache-mount")
    assert found["facts"]["directories"] == {"/root/.npm": 3000000}
    assert "its layer has 3.0 MB below /root/.npm" in found["evidence"]
    bench.build(f"{tool}RUN --mount=type=cache,target=/root/.npm npm ci\n")
    assert _advice(bench) == []


def test_bytes_that_nobody_sees(bench: Bench) -> None:
    bench.write({"package": b"x" * 2_000_000, "app/one": b"y" * 1_500_000, "app/two": b"z" * 1_500_000})
    bench.build("""FROM busybox
COPY package /tmp/
RUN head -c 4000000 /dev/zero > /downloaded && wc -c /tmp/package > /size
RUN rm /tmp/package && rm -r /downloaded
COPY app /app/
RUN chown -R 5:5 /app
RUN head -c 2500000 /dev/zero > /twice
RUN head -c 2600000 /dev/zero > /twice
""")
    found = {each["kind"]: each for each in _advice(bench)}
    assert set(found) == {"copied", "cleanup", "ownership", "overwritten"}
    assert (found["copied"]["line"], found["copied"]["bytes"]) == (2, 2_000_000)
    assert "--mount=type=bind" in found["copied"]["message"]
    assert found["copied"]["facts"]["paths"] == {"tmp/package": 2_000_000}
    assert (found["cleanup"]["line"], found["cleanup"]["bytes"], found["cleanup"]["facts"]["line"]) == (3, 4_000_000, 4)
    assert (found["ownership"]["line"], found["ownership"]["bytes"]) == (5, 3_000_000)
    assert "COPY --chown and --chmod" in found["ownership"]["message"]
    assert (found["overwritten"]["line"], found["overwritten"]["bytes"]) == (7, 2_500_000)
    assert [each["bytes"] for each in _advice(bench)] == [4_000_000, 3_000_000, 2_500_000, 2_000_000]


def test_a_large_layer(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN mkdir -p /opt/a/deep /opt/b && head -c 60000000 /dev/zero > /opt/a/deep/f && echo > /opt/b/g\n")
    found = _of(bench, "big")
    assert found["facts"]["directories"] == {"opt/a": 60_000_000, "opt/b": 1}


def test_what_fails_often(bench: Bench) -> None:
    text = "FROM busybox\nRUN --mount=type=bind,source=state,target=/state test $(cat /state) = good\n"
    for state in ("bad", "worse", "good", "worst"):
        bench.write({"state": state})
        bench.build(text, code=None)
    found = _of(bench, "failing", str(bench.context / "Buildfile"))
    assert (found["line"], found["facts"]["failed"], found["facts"]["performed"]) == (2, 3, 4)
    assert "--retry=N" in found["message"]
    assert "3 times: the command ended with exit code 1" in " ".join(found["evidence"])


STAGES = """FROM busybox AS build
WORKDIR /app
COPY . .
RUN {read} > /made
FROM busybox
COPY --from=build {copied} /
"""
FILES: dict[str, str | bytes] = {
    "src/main": "1", "src/part/one": "1", "docs/page": "true", "docs/more/page": "1", "docs/more/other": "1", "tests/one": b"x" * 2_000_000,
}  # fmt: skip


def _rows(bench: Bench) -> dict[str, tuple[int, bool]]:
    return {row["path"]: (row["files"], row["listed"]) for row in _of(bench, "unopened")["facts"]["paths"]}


def test_what_no_command_opens(bench: Bench) -> None:
    read = "sleep 0.6; cat src/main; (sleep 0.1; cat src/part/one) & ls tests; test -f docs/page; wait"
    bench.write(FILES)
    bench.build(STAGES.format(read=read, copied="/made"))
    for path in ("docs/page", "src/main", "docs/more/page"):
        bench.write({path: f"changed {path}"})
        bench.build(None)
    found = _of(bench, "unopened")
    assert (found["line"], found["stage"], found["instruction"]) == (3, "build", "COPY . .")
    assert _rows(bench) == {"docs": (3, False), "tests": (1, True), "Buildfile": (1, False)}
    assert (found["facts"]["files"], found["facts"]["unopened"], found["facts"]["builds"]) == (7, 5, 2)
    assert 1.2 < found["seconds"] < 20.0
    said = bench.run("advise").out
    assert "leave out what no RUN of its stage has opened, by --exclude or a narrower source, or, if nothing else needs it, by " in said
    assert "by the ignore file: docs (3 files," in said
    assert "names were listed, which may count: tests" in said
    bench.write({".dockerignore": "docs\ntests\nBuildfile\n"})
    bench.build(STAGES.format(read="cat src/main", copied="/made"))
    assert [each for each in _advice(bench) if each["kind"] == "unopened"] == []


@pytest.mark.parametrize(
    ("read", "rows"),
    [
        ("sh docs/page", {"docs/more": 2}),
        ("cd docs/more && cat < other", {"docs/page": 1, "docs/more/page": 1}),
        ("touch docs/more/new; cat docs/more/other", {"docs/page": 1, "docs/more/page": 1}),
        ("chmod 700 docs/more/page", {"docs/page": 1, "docs/more/other": 1}),
        ("mv docs/more/other /; cat /other", {"docs/page": 1, "docs/more/page": 1}),
        ("ln docs/more/other /kept", {"docs/page": 1, "docs/more/page": 1}),
        ("rm docs/more/other", {"docs/page": 1, "docs/more/page": 1}),
        ("mv docs/more/page x; cat x; mv x docs/more/page", {"docs/page": 1, "docs/more/other": 1}),
        ("touch docs/made", {"docs/page": 1, "docs/more": 2}),
        ("rm -r docs", {}),
        ("mv docs /x", {}),
    ],
)
def test_what_a_command_uses_in_another_way_is_not_claimed(bench: Bench, read: str, rows: dict[str, int]) -> None:
    bench.write(FILES)
    bench.build(STAGES.format(read=read, copied="/made"))
    assert {path: count for path, (count, _) in _rows(bench).items() if path.startswith("docs")} == rows


@pytest.mark.parametrize("name", ["docs/link", "docs/more/link"])
def test_who_follows_a_symlink_is_not_known(bench: Bench, name: str) -> None:
    bench.write({**FILES, name: "-> /nowhere"})
    bench.build(STAGES.format(read="true", copied="/made"))
    rows = set(_rows(bench))
    assert "docs" not in rows
    assert ("docs/more" in rows) == (name == "docs/link")


def test_files_by_their_names(bench: Bench) -> None:
    bench.write(FILES)
    copies = "COPY src/main /\nCOPY --link src/part docs/page /in/\n"
    copies += "COPY tests/one docs/more/page docs/more/other /app/more/\nCOPY docs/page /ambiguous"
    bench.build(STAGES.format(read="cat /in/one /main", copied="/made").replace("COPY . .", copies))
    (found,) = [each for each in _advice(bench) if each["kind"] == "unopened"]
    assert found["line"] == 5
    assert set(_rows(bench)) == {"tests/one", "docs/more/page", "docs/more/other"}


def test_what_leaves_its_stage_is_not_claimed(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(STAGES.format(read="ln -s docs link", copied="/app/link/more /made"))
    assert set(_rows(bench)) == {"Buildfile", "src", "tests"}
    reader = "RUN --mount=type=bind,from=build,target=/mnt cp /mnt/made /"
    bench.build(STAGES.format(read="true", copied="").replace("COPY --from=build  /", reader))
    assert [each for each in _advice(bench) if each["kind"] == "unopened"] == []


def test_other_targets_may_need_it(bench: Bench) -> None:
    bench.write(FILES)
    others = "FROM build AS test\nRUN cat tests/one\nFROM busybox AS more\nCOPY --from=test /app /\nFROM busybox AS alone\n"
    text = STAGES.format(read="cat src/main", copied="/made").replace("FROM busybox\nCOPY", f"{others}FROM busybox\nCOPY")
    bench.build(text)
    found = _of(bench, "unopened")
    assert "not known is what is opened by stages that need this one and were not built: test, more" in found["evidence"]
    assert (found["facts"]["unbuilt"], found["at_most"]) == (["test", "more"], True)
    (bench.context / "Buildfile").write_text("FROM\n")
    assert _of(bench, "unopened")["facts"]["unbuilt"] == []
    (bench.context / "Buildfile").unlink()
    os.mkfifo(bench.context / "Buildfile")
    assert _of(bench, "unopened")["facts"]["unbuilt"] == []


@pytest.mark.parametrize(
    ("copy", "uses"), [("COPY etc /etc", "USER app"), ("COPY etc/passwd etc/group /etc/", "COPY --chown=app:app src /x")]
)
def test_the_names_of_users_are_not_claimed(bench: Bench, copy: str, uses: str) -> None:
    """The build itself looks them up."""
    bench.write({**FILES, "etc/passwd": "app:x:1:1::/:/bin/sh\n", "etc/group": "app:x:1:\n", "etc/other": b"x" * 2_000_000})
    bench.build(f"FROM busybox AS build\n{copy}\nCOPY etc/other /etc/more/\n{uses}\nRUN true\nFROM busybox\nCOPY --from=build /x* /\n")
    rows = [row["path"] for each in _advice(bench) if each["kind"] == "unopened" for row in each["facts"]["paths"]]
    assert rows == ["etc/other"] * (2 if "passwd" not in copy else 1)


def test_what_the_image_has_is_not_claimed(bench: Bench) -> None:
    bench.write(FILES)
    for number in range(3):
        bench.write({"docs/page": str(number)})
        bench.build("FROM busybox\nCOPY . /app\nRUN sleep 0.5\n")
    assert [each for each in _advice(bench) if each["kind"] == "unopened"] == []


def test_every_command_counts_and_the_cached_ones_as_they_were_performed(bench: Bench) -> None:
    text = "FROM busybox AS build\nWORKDIR /app\nCOPY . .\nRUN cat src/main > /made\nRUN cat docs/page {}\nFROM build AS more\n"
    text += "TEST cat docs/more/other\nFROM busybox\nCOPY --from=more /made /\n"
    builds = [("1", "one"), ("2", "one"), ("2", "two"), ("2", "two")]
    for content, word in builds:
        bench.write({**FILES, "docs/more/page": content})
        bench.build(text.format(f"# {word}"))
    assert set(_rows(bench)) == {"Buildfile", "docs/more/page", "src/part", "tests"}


def test_what_is_mounted_and_never_opened(bench: Bench) -> None:
    bench.write({**FILES, **{f"docs/{number}/page": "1" for number in range(30)}})
    one = "RUN --mount=type=bind,target=/in --mount=type=bind,source=src/main,target=/one sleep 0.6; cat /one /in/src/part/one > /made"
    bench.build(f"FROM busybox\n{one}\nRUN --mount=type=bind,target=/in,rw cat /in/top || true\n")
    for number in range(2):
        bench.write({"docs/page": f"changed {number}"})
        bench.build(None)
    found = _of(bench, "unopened")
    assert (found["line"], found["facts"]["builds"]) == (2, 2)
    assert 1.2 < found["seconds"] < 20.0
    assert _rows(bench) == {"docs": (33, False), "src/main": (1, False), "tests": (1, False), "Buildfile": (1, False)}
    assert found["message"].startswith(
        "leave out what it has never opened, by a narrower source, or, if nothing else needs it, by the ignore "
    )


def test_many_directories_are_watched_when_it_is_known_that_they_are_worth_it(bench: Bench) -> None:
    bench.write({**FILES, **{f"src/{number}/file": "1" for number in range(40)}})
    bench.build(STAGES.format(read="sleep 0.3; cat src/1/file", copied="/made"))
    said = bench.run("advise").out
    assert "not known is which files of the build context #" in said
    assert "what it stands on has many directories for the time that it was last known to take" in said
    ((found),) = json.loads(bench.run("advise", "--format", "json").out)
    assert found["unknown"][0]["why"].startswith("what it stands on has many directories")
    bench.write({"docs/page": "2"})
    bench.build(None)
    assert _rows(bench)["docs"] == (3, False)
    assert "src/1" not in _rows(bench)


def test_it_can_be_switched_off(bench: Bench) -> None:
    bench.environ["IMGBUILD_DISABLE"] = "reads"
    bench.write(FILES)
    bench.build(STAGES.format(read="cat src/main", copied="/made"))
    ((found),) = json.loads(bench.run("advise", "--format", "json").out)
    assert [(each["step"], each["why"]) for each in found["unknown"]] == [(3, "it was not recorded")]


def test_no_watches_are_left(bench: Bench) -> None:
    bench.write(FILES)
    (bench.context / "Buildfile").write_text(STAGES.format(read="cat src/main", copied="/made"))
    for limit, why in (("max_inotify_instances", "inotify_init1: Too many"), ("max_inotify_watches", "inotify_add_watch: No space")):
        limited = f'echo 0 > /proc/sys/user/{limit} && exec "$@"'
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh", *bench.command("build", "--no-cache", ".")],
            cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"its directories could not be watched: {why}" in bench.run("advise").out


def test_steps_with_all_rights_may_hide_what_they_open(bench: Bench) -> None:
    bench.write(FILES)
    text = STAGES.format(read="cat src/main", copied="/made").replace("RUN", "RUN --security=insecure")
    bench.build(text, "--allow", "security.insecure")
    assert "opened (it has all rights)" in bench.run("advise").out


def test_nothing_to_advise_is_said(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo > /f\n")
    assert bench.run("advise").out.strip().endswith("nothing to advise")
    assert _advice(bench) == []
    done = bench.run("advise", "last", ".", cwd=bench.context)
    assert done.out.count("nothing to advise") == 2


def test_nothing_is_run_and_layers_that_are_gone_are_said(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN head -c 3000000 /dev/zero > /f\nRUN rm /f\n")
    number = len(json.loads(bench.run("builds", "ls", "--format", "json").out))
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    said = bench.run("advise").out
    assert "nothing to advise" in said
    assert len(json.loads(bench.run("builds", "ls", "--format", "json").out)) == number


def test_control_characters_are_not_written_to_terminals(bench: Bench) -> None:
    bench.write({"\x1b[31m": b"x" * 2_000_000})
    bench.build("FROM busybox\nCOPY . /c\nRUN rm -r /c\n")
    assert "\x1b" not in bench.run("advise").out
    assert _of(bench, "copied")["bytes"] >= 2_000_000


@pytest.mark.parametrize(("word", "code"), [("nothing", 13), ("^9", 13), (".", 13), ("/dev", 10)])
def test_refused(bench: Bench, word: str, code: int) -> None:
    bench.write({"Buildfile": "FROM busybox\n"})
    said = bench.run("advise", word, cwd=bench.context, code=code).err
    assert said.startswith("imgbuild: error: ")

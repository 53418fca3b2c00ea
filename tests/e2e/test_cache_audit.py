"""``imgbuild cache audit``: what the cache would give, beside what its steps make now."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .aftermath import wait_for_the_end_of
from .harness import Bench, ended, wait_for_line
from .servers import serving_files
from .test_repro import kept


def audit(bench: Bench, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bench.run("cache", "audit", "--format", "json", *arguments, code=code).out)
    return value


def steps(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps by their instructions."""
    return {step["name"].partition("] ")[2]: step for step in found["steps"]}


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {name: step["outcome"] for name, step in steps(found).items()}


EVERY = """FROM busybox AS made
WORKDIR /w/deep
COPY tree /w/tree
COPY --link --chown=5:6 --chmod=600 tree/file /linked
ADD archive.tar /unpacked
TEST test -e /w
FROM busybox
COPY --from=made /w /w
COPY --from=busybox --parents /etc/passwd /p/
COPY <<text /heredoc
hello
text
RUN --mount=from=made,target=/s --mount=source=tree,target=/t,rw cat /s/w/tree/file /t/file > /both; touch /t/new; rm /etc/group
USER ann
RUN id > /tmp/id
"""


def test_all_kinds_of_steps_that_are_the_same(bench: Bench) -> None:
    (bench.context / "tree").mkdir()
    bench.write({"tree/file": "1", "tree/dir/other": "2", ".dockerignore": "tree/dir/no"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("inside")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    bench.write({"archive.tar": buffer.getvalue()})
    bench.build(EVERY)
    before = kept(bench)
    found = audit(bench, "--all")
    assert outcomes(found) == dict.fromkeys(outcomes(found), "same")
    assert found["same"] == found["audited"] == found["steps_in_store"] >= 10
    assert kept(bench) == before
    bench.assert_whole()


def test_hits_that_would_be_others(bench: Bench) -> None:
    test = "TEST --mount=type=cache,target=/t [ ! -e /t/x ] && touch /t/x"
    bench.build(f"FROM busybox\nRUN echo 1 > /one\nRUN date > /date; hostname > /host\n{test}\n")
    found = audit(bench, "--all", code=1)
    seen = steps(found)
    assert seen["RUN echo 1 > /one"]["outcome"] == "same"
    changed = seen["RUN date > /date; hostname > /host"]
    assert changed["outcome"] == "differs"
    assert changed["stored"] != changed["now"]
    # As a build runs it: what has the machine's name is the same.
    (date,) = changed["files"]
    assert (date["path"], date["reasons"][0]["kind"], date["between"]) == ("/date", "time", "store and now")
    assert (seen[test]["outcome"], seen[test]["problem"]) == ("differs", "it does not succeed any more: exit code 1")
    done = bench.run("cache", "audit", "--all", code=1)
    assert "DIFFERS RUN date > /date; hostname > /host  (Buildfile:3, build " in done.out
    assert "      a time: " in done.out
    assert "SAME" not in done.out
    assert "SAME RUN echo 1 > /one" in bench.run("cache", "audit", "--all", "-v", "-q", code=1).out
    assert "2 not, 0 could not be performed again" in done.out.splitlines()[-1]
    bench.assert_whole()


def test_a_record_that_leads_to_another_layer(bench: Bench) -> None:
    """As a defect of ours, or a hand in the store, would make it."""
    bench.write({"file": "1"})
    bench.build("FROM busybox\nCOPY file /file\nWORKDIR /w\nRUN echo 1 > /x\n")
    with sqlite3.connect(bench.root / "index.db") as index:
        known = index.execute("SELECT key, record, diff_id FROM steps").fetchall()
        rows = {json.loads(record)["op"]: (key, diff_id) for key, record, diff_id in known}
        index.execute("UPDATE steps SET diff_id=? WHERE key=?", (rows["RunOp"][1], rows["CopyOp"][0]))
    found = steps(audit(bench, "--all", code=1))
    assert found["COPY file /file"]["outcome"] == "differs"
    paths = {each["path"]: each["change"] for each in found["COPY file /file"]["files"]}
    assert paths == {"/file": "added", "/x": "removed"}


def test_what_can_not_be_performed_again(bench: Bench) -> None:
    bench.write({"file": "1", "gone": "1"})
    secret = bench.place / "secret"
    secret.write_text("magic")
    with serving_files() as web:
        url = web.put("/fetched", b"x")
        text = f"""FROM busybox
COPY file /file
COPY gone /gone
ADD {url} /
RUN --mount=type=secret,id=word cat /run/secrets/word | wc -c > /size
RUN --security=insecure true
RUN --mount=type=cache,target=/c [ ! -e /c/x ] && touch /c/x
"""
        bench.build(text, "--secret", f"id=word,src={secret}", "--allow", "security.insecure")
    bench.write({"file": "2"})
    (bench.context / "gone").unlink()
    found = steps(audit(bench, "--all"))
    problems = {name.split(" /")[0].split(",")[0]: step["problem"] for name, step in found.items() if step["outcome"] == "unknown"}
    assert problems.pop("COPY file") == "what it read of the build context is not the same any more"
    assert problems.pop("COPY gone").startswith("what it read of the build context is not there any more")
    assert "fetched again" in problems.pop(next(name for name in problems if name.startswith("ADD")))
    assert problems.pop("RUN --mount=type=secret") == "it needs the secret 'word': none is kept"
    assert problems.pop("RUN --security=insecure true") == "it had all rights over this machine"
    assert problems.pop("RUN --mount=type=cache").startswith("it does not succeed any more: exit code 1")
    assert problems == {}
    found = steps(audit(bench, "--all", "--secret", f"id=word,src={secret}", "--allow", "security.insecure"))
    assert sum(step["outcome"] == "same" for step in found.values()) == 2
    bench.context.rename(bench.place / "moved")
    bench.context.mkdir()
    assert "the build context" in steps(audit(bench, "--all"))["COPY file /file"]["problem"]
    bench.run("builds", "rm", "--all")
    assert {step["problem"] for step in audit(bench, "--all")["steps"]} == {"no build is kept that had it"}
    bench.assert_whole()


def test_what_was_performed_twice_is_looked_at_as_it_was_the_last_time(bench: Bench) -> None:
    """The layer that the first one stood on is gone, and another one has come into its place."""
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /chance\nRUN echo 1 > /one\n"
    bench.build(text)
    bench.run("rmi", "x")
    bench.run("prune", "--all")
    bench.build(text)
    assert outcomes(audit(bench, "--all", code=1))["RUN echo 1 > /one"] == "same"


def test_a_sample_is_chosen_by_its_seed(bench: Bench) -> None:
    bench.build("FROM busybox\n" + "".join(f"RUN echo {number} > /{number}\n" for number in range(6)))

    def keys(*arguments: str) -> list[str]:
        return [step["key"] for step in audit(bench, *arguments)["steps"]]

    chosen = keys("--sample", "2", "--seed", "7")
    assert len(set(chosen)) == 2
    assert keys("--sample", "2", "--seed", "7") == chosen
    assert any(keys("--sample", "2", "--seed", str(seed)) != chosen for seed in range(8, 14))
    everything = keys("--all")
    assert set(chosen) < set(everything)
    assert sorted(keys("--sample", "1000")) == sorted(everything)
    done = bench.run("cache", "audit", "--sample", "2", "--seed", "7")
    assert done.out.startswith("2 of ")
    assert "(--seed 7)" in done.out


def test_refused(bench: Bench) -> None:
    assert "leave out --sample, or --all" in bench.run("cache", "audit", "--all", "--sample", "2", code=2).err
    assert "--sample" in bench.run("cache", "audit", "--sample", "0", code=2).err
    assert "--allow all is not known" in bench.run("cache", "audit", "--allow", "all", code=2).err
    bench.run("prune", "-af")
    assert audit(bench)["steps_in_store"] == 0
    assert bench.run("cache", "audit").out == "0 of 0 steps: 0 the same, 0 not, 0 could not be performed again\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_ended_on_the_way(bench: Bench, signum: signal.Signals) -> None:
    bench.build("FROM busybox\nRUN --mount=type=cache,target=/c if [ -e /c/x ]; then sleep 1000; fi; touch /c/x\n")
    before = kept(bench)
    with bench.started("cache", "audit", "--all") as process:
        wait_for_line(process, b"performing RUN --mount=type=cache")
        code, _ = ended(process, signum)
    assert code == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[signum]
    wait_for_the_end_of(bench.processes)
    bench.run("images")  # sweeps
    assert kept(bench) == before
    bench.assert_whole()

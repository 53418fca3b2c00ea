"""Hits that would be wrong: each of these once was one."""

from __future__ import annotations

from .harness import Bench

RANDOM = "head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'"


def _run(bench: Bench, name: str, *command: str) -> str:
    return bench.run("run", "--rm", name, *command).out


def test_a_child_of_a_parent_that_was_performed_again(bench: Bench) -> None:
    text = f"FROM busybox AS a\nRUN {RANDOM} > /id\nFROM a AS b\nRUN cp /id /id2\n"
    bench.build(text, "-t", "x")
    bench.build(text, "--no-cache", "--target", "a")
    bench.build(text, "-t", "x")
    assert _run(bench, "x", "sh", "-c", "cmp /id /id2 && echo same") == "same\n"


def test_equal_steps_are_one_without_the_cache_too(bench: Bench) -> None:
    text = f"FROM busybox AS a\nRUN {RANDOM} > /id\nFROM busybox AS b\nRUN {RANDOM} > /id\nCOPY --from=a /id /other\n"
    for _ in range(2):
        bench.build(text, "--no-cache", "-t", "x")
        assert _run(bench, "x", "sh", "-c", "cmp /id /other && echo same") == "same\n"


def test_what_a_mounted_directory_itself_is(bench: Bench) -> None:
    def shown(mode: str, owner: str) -> list[str]:
        text = f"""FROM busybox AS a
RUN mkdir /d && touch -d @1000000000 /d && chmod {mode} /d && chown {owner} /d
FROM busybox
RUN --mount=from=a,source=/d,target=/m stat -c '%a %u' /m
"""
        return bench.build(text).output

    assert shown("700", "5") == ["700 5"]
    assert shown("755", "5") == ["755 5"]
    assert shown("755", "6") == ["755 6"]


def test_the_times_that_a_copy_keeps(bench: Bench) -> None:
    def digest(year: int) -> str:
        text = f"FROM busybox AS a\nRUN touch -d '{year}-01-01 00:00' /f\nFROM busybox\nCOPY --from=a /f /\n"
        bench.build(text, "-t", "x")
        return _run(bench, "x", "stat", "-c", "%y", "/f")[:4]

    assert digest(1999) == "1999"
    assert digest(2005) == "2005"


def test_two_steps_that_lock_caches_in_turn(bench: Bench) -> None:
    def stage(name: str, *caches: str) -> str:
        mounts = " ".join(f"--mount=type=cache,id={cache},target=/{number},sharing=locked" for number, cache in enumerate(caches))
        meet = "--mount=type=cache,id=meet,target=/meet"
        return f"FROM busybox AS {name}\nRUN {meet} {mounts} echo {name} >> /meet/log; echo {name} > /done\n"

    text = stage("a", "x", "y") + stage("b", "y", "x") + stage("c", "x", "x")
    text += "FROM busybox\nCOPY --from=a /done /a\nCOPY --from=b /done /b\nCOPY --from=c /done /c\n"
    for _ in range(3):
        assert bench.build(text, "--no-cache").code == 0

"""Many processes on one store: builds that share stages, prunes beside them, pulls of one image."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from registry_mock.client import Mock

from .harness import PATIENCE, Bench, clean_environ, ended

TEN = 10


@contextmanager
def _all(bench: Bench, commands: Sequence[Sequence[str | Path]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that run at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(bench.started(*command)) for command in commands]


def test_ten_builds_share_what_is_the_same(bench: Bench, tmp_path: Path) -> None:
    """Each from a context of its own. The shared step ends only when all ten builds are under way: each has begun a step of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * TEN) as listener:
        listener.settimeout(PATIENCE)
        meet = f"nc 127.0.0.1 {listener.getsockname()[1]} < /dev/null"
        text = f"""
FROM busybox AS shared
RUN --mount=type=cache,target=/count echo run >> /count/one; {meet}; seq 5000 > /shared
COPY common /common
RUN --mount=type=cache,target=/count echo run >> /count/two; cat /shared /common > /both
FROM busybox AS own
ARG N
RUN {meet}; echo $N > /own
FROM shared
COPY --from=own /own /
RUN --mount=from=shared,source=/both,target=/m cat /m /own | wc -l > /lines
"""
        contexts = []
        for number in range(TEN):
            context = tmp_path / f"context-{number}"
            context.mkdir()
            (context / "Buildfile").write_text(text)
            (context / "common").write_text("common\n")
            contexts.append(context)
        commands = [
            ["build", "--progress=plain", "--parallel", "2", "-t", f"image-{number}", "--build-arg", f"N={number}", context]
            for number, context in enumerate(contexts)
        ]
        with _all(bench, commands) as processes, ExitStack() as stack:
            # Eleven come: ten for their own step, one for the shared one; all are held until the last is there.
            connections = [stack.enter_context(listener.accept()[0]) for _ in range(TEN + 1)]
            for connection in connections:
                connection.close()
            outcomes = [ended(process) for process in processes]
    assert [code for code, _ in outcomes] == [0] * TEN, outcomes
    performed = [line for _, err in outcomes for line in err.splitlines() if "] RUN --mount=type=cache" in line]
    assert len(performed) == 2 * TEN
    bench.build("FROM busybox\nRUN --mount=type=cache,target=/count cat /count/one /count/two > /runs\n")
    assert bench.files()["runs"].data == b"run\nrun\n"
    for number in range(TEN):
        files = bench.files(f"image-{number}:latest")
        assert (files["own"].data, files["lines"].data) == (f"{number}\n".encode(), b"5002\n")
    assert len({bench.manifest(f"image-{number}:latest")["layers"][1]["digest"] for number in range(TEN)}) == 1
    bench.assert_whole()


def test_builds_beside_prunes_and_removals(bench: Bench) -> None:
    text = "FROM busybox AS a\nRUN seq 2000 > /a\nFROM busybox\nCOPY --from=a /a /a\nARG N\nRUN seq $N > /b\nRUN cat /a /b > /c\n"
    bench.write({"Buildfile": text})
    builds = [["build", "-q", "-t", f"image-{number}", "--build-arg", f"N={number}", "."] for number in range(4)]
    others = [["prune", "--all"], ["prune"], ["rmi", "image-0"], ["prune", "--all"], ["fsck"]]
    for _ in range(2):
        with _all(bench, [command for pair in zip(builds, others, strict=False) for command in pair] + others[4:]) as processes:
            outcomes = [(process.args, *ended(process)) for process in processes]
        for arguments, code, err in outcomes:
            assert isinstance(arguments, list)
            # A prune that has waited long for others gives up; nothing else may notice the others.
            allowed = (0, 14) if "prune" in arguments else (0, 13) if "rmi" in arguments else (0,)
            assert code in allowed, (arguments, err)
    bench.build(None, "--build-arg", "N=3")
    assert bench.files()["c"].data.splitlines()[-1] == b"3"
    bench.assert_whole()


def test_pulls_of_one_image_fetch_it_once(bench: Bench, tmp_path: Path) -> None:
    bench.write({"file": b"x" * 500_000})
    bench.build("FROM busybox\nCOPY file /\n")
    with Mock(tmp_path / "registry") as mock:
        name = f"{mock.authority}/x:1"
        bench.run("push", "x", name)
        other = Bench(tmp_path / "other", clean_environ(tmp_path / "home"))
        other.context.mkdir(parents=True)
        mock.call("DELETE", "/_requests")
        with _all(other, [["pull", "-q", name]] * 6) as processes:
            outcomes = [ended(process) for process in processes]
        assert [code for code, _ in outcomes] == [0] * 6, outcomes
        fetched = [request["path"] for request in mock.requests() if request["method"] == "GET" and "/blobs/" in request["path"]]
        assert len(fetched) == len(set(fetched)) == 3
        assert other.inspect(name)["Digest"] == bench.inspect()["Digest"]
        other.assert_whole()


def test_runs_and_builds_at_once(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nARG N\nRUN echo $N > /n\n"})
    commands: list[list[str]] = [["run", "--rm", "busybox", "true"] for _ in range(5)]
    commands += [["build", "-q", "-t", f"i{number}", "--build-arg", f"N={number}", "."] for number in range(5)]
    with _all(bench, commands) as processes:
        assert [ended(process)[0] for process in processes] == [0] * 10
    assert bench.run("ps", "-aq").out == ""
    bench.assert_whole()

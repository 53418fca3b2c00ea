"""What runs beside what, and what runs once."""

from __future__ import annotations

import subprocess

from .harness import PATIENCE, Bench, ended

WAIT = "n=0; until [ -e /meet/{other} ]; do n=$((n+1)); [ $n -lt 3000 ] || exit 1; usleep 10000; done"
MEET = "RUN --mount=type=cache,target=/meet touch /meet/{own}; " + WAIT + "; echo {own} > /out"
COUNT = "--mount=type=cache,id=count,target=/count"


def test_stages_that_do_not_need_each_other_run_at_once(bench: Bench) -> None:
    # Each waits until the other has come: one after the other, neither would ever end.
    bench.build(f"""
FROM busybox AS a
{MEET.format(own="a", other="b")}
FROM busybox AS b
{MEET.format(own="b", other="a")}
FROM busybox
COPY --from=a /out /a
COPY --from=b /out /b
""")
    assert (bench.files()["a"].data, bench.files()["b"].data) == (b"a\n", b"b\n")


def test_one_at_a_time_where_that_is_asked_for(bench: Bench) -> None:
    step = "RUN --mount=type=cache,target=/l mkdir /l/x && usleep 20000 && rmdir /l/x && echo {0} > /{0}\n"
    stages = "".join(f"FROM busybox AS s{number}\n{step.format(number)}" for number in range(3))
    bench.build(stages + "FROM busybox\n" + "".join(f"COPY --from=s{n} /{n} /\n" for n in range(3)), "--parallel", "1")


def test_identical_steps_of_one_build_run_once(bench: Bench) -> None:
    stage = f"FROM busybox AS s{{0}}\nRUN {COUNT} echo run >> /count/n; usleep 50000; echo x > /x\n"
    stages = "".join(stage.format(number) for number in range(6))
    copies = "".join(f"COPY --from=s{number} /x /x{number}\n" for number in range(6))
    done = bench.build(f"{stages}FROM busybox\n{copies}RUN {COUNT} wc -l < /count/n > /runs\n")
    assert bench.files()["runs"].data.strip() == b"1"
    runs = [line for line in done.err.splitlines() if line.startswith("#") and ("DONE" in line or "CACHED" in line)]
    assert sum("CACHED" in line for line in runs) == 5
    bench.assert_whole()


def test_ten_concurrent_builds_run_what_they_share_once(bench: Bench) -> None:
    first = f"RUN {COUNT} echo run >> /count/n; usleep 100000; echo common > /c\n"
    shared = f"FROM busybox AS common\n{first}RUN {COUNT} echo run >> /count/m; cp /c /d\n"
    bench.write({"Buildfile": f"{shared}FROM common\nARG N\nRUN echo $N > /own && cat /d >> /own\n"})
    builds = [
        subprocess.Popen(
            bench.command("build", "-q", "-t", f"image{number}", "--build-arg", f"N={number}", "."),
            cwd=bench.context, env=bench.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in range(10)
    ]  # fmt: skip
    try:
        outcomes = [ended(process) for process in builds]
    finally:
        for process in builds:
            process.kill()
    assert outcomes == [(0, "")] * 10
    for number in range(10):
        assert bench.files(f"image{number}:latest")["own"].data == f"{number}\ncommon\n".encode()
    bench.build(f"FROM busybox\nRUN {COUNT} cat /count/n /count/m > /runs\n")
    assert bench.files()["runs"].data == b"run\nrun\n"
    bench.assert_whole()


def test_a_failure_stops_what_runs_beside_it_and_is_the_one_error(bench: Bench) -> None:
    done = bench.build(
        f"""
FROM busybox AS slow
RUN --mount=type=cache,target=/meet touch /meet/slow; sleep {PATIENCE * 10}
FROM busybox AS broken
RUN --mount=type=cache,target=/meet {WAIT.format(other="slow")}; exit 7
FROM busybox
COPY --from=slow / /a
COPY --from=broken / /b
""",
        code=1,
    )
    assert len(done.errors) == 1
    assert "exit code 7" in done.err
    assert sorted(done.steps.values()) == ["CANCELED", "FAILED"]
    bench.assert_whole()


def test_what_was_done_before_a_failure_is_not_done_again(bench: Bench) -> None:
    text = "FROM busybox\nRUN head -c 30000000 /dev/urandom > /big\nRUN exit 3\n"
    bench.build(text, code=1)
    done = bench.build(text, code=1)
    assert list(done.steps.values()) == ["CACHED", "FAILED"]

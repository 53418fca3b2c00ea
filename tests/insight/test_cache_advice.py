"""Advice on what is performed again, from records."""

from __future__ import annotations

from typing import Any

from imgbuild.insight.advice import Advice, Past, ordered
from imgbuild.insight.builds import BuildRecord, parse_build
from imgbuild.insight.cache_advice import cache_mounts, failing, misses
from imgbuild.values import replace

COPY, APT, MAKE = "COPY . /src", "RUN apt-get install -y gcc", "RUN make"


def _file(*paths: str, where: str = "") -> list[dict[str, str]]:
    return [{"kind": "file", "subject": path, "what": "content", "where": where} for path in paths]


def _build(*steps: tuple[str, str, list[dict[str, str]], float], **more: Any) -> BuildRecord:
    """A build of one stage: each step with its outcome, its causes and its seconds."""
    made = [
        {
            "number": number, "name": f"[{number}/9] {text}", "outcome": outcome, "causes": causes, "seconds": seconds, "line": number + 1,
            "parent": number - 1 or None, **more,
        }
        for number, (text, outcome, causes, seconds) in enumerate(steps, start=1)
    ]  # fmt: skip
    return parse_build({"id": "b", "status": "done", "steps": made})


ON_IT = [{"kind": "parent", "subject": "#1"}]
MISSED = _build((COPY, "done", _file("main.c"), 0.1), (APT, "done", ON_IT, 30.0), (MAKE, "done", ON_IT, 5.0))
CACHED = _build((COPY, "cached", [], 0.0), (APT, "cached", [], 0.0), (MAKE, "cached", [], 0.0))
FIRST = _build((COPY, "done", [{"kind": "first"}], 0.1), (APT, "done", [{"kind": "first"}], 30.0), (MAKE, "done", [{"kind": "first"}], 5.0))


def _missed(*builds: BuildRecord) -> list[Advice]:
    return list(ordered(misses(Past(builds[0], builds))))


def test_what_reads_nothing_comes_first_by_what_it_cost() -> None:
    order, later = _missed(MISSED, CACHED, MISSED, FIRST)
    assert (order.kind, order.seconds, order.most, order.step.text) == ("order", 60.0, False, COPY)
    assert "put `RUN apt-get install -y gcc` (line 3) before it" in order.message
    assert order.evidence[0] == "its files had changed in 2 of 4 builds: main.c (2 times)"
    assert (later.kind, later.seconds, later.most) == ("later", 10.0, True)


def _opened(build: BuildRecord, *rows: tuple[str, bool], **more: Any) -> BuildRecord:
    """The same build, whose last RUN is known not to have opened these files."""
    unopened = [[path, 1, 1, listed] for path, listed in rows]
    opened = {"parts": [{"key": "k", "source": "", "target": "/src", "files": 9, "unopened": unopened, **more}]}
    *first, last = build.steps
    return replace(build, steps=(*(replace(step, key="k") for step in first), replace(last, opened=opened)))


def test_what_was_opened_says_more_than_words() -> None:
    build = _build((COPY, "done", _file("docs/page", "main.c"), 0.1), (MAKE, "done", ON_IT, 5.0))
    known = _opened(build, ("docs", False), ("main.c", False))
    (split,) = _missed(known, known)
    assert (split.kind, split.seconds, split.most) == ("split", 10.0, False)
    assert split.message == "copy what it opens first, then `RUN make` (line 3), then the rest"
    assert split.evidence[1].endswith("2 times without need, 5.0 s each: it had opened nothing that had changed")
    for rows, more in (((("docs", False),), 0), ((("docs", False), ("main.c", True)), 0), ((("docs", False),), 7)):
        (later,) = _missed(*[_opened(build, *rows, more=more)] * 2)
        assert (later.kind, later.most) == ("later", True)


def test_words_do_not_stand_against_what_was_opened() -> None:
    build = _build((COPY, "done", _file("deps/list"), 0.1), ("RUN pip install -r requirements.txt", "done", ON_IT, 10.0))
    assert [each.kind for each in _missed(build, build)] == ["split"]
    assert _missed(*[_opened(build, ("docs", False))] * 2) == []
    assert [each.kind for each in _missed(*[_opened(build, ("docs", False), more=1)] * 2)] == ["split"]
    gone = _build((COPY, "done", [{"kind": "file", "subject": "base.txt", "what": "removed"}], 0.1), (APT, "done", ON_IT, 10.0))
    assert [each.kind for each in _missed(*[_opened(gone, ("docs", False))] * 2)] == ["order"]


def test_once_is_no_habit() -> None:
    assert _missed(MISSED, CACHED, FIRST) == []


def test_what_had_a_reason_of_its_own_is_not_counted() -> None:
    own = _build((COPY, "done", _file("main.c"), 0.1), (APT, "done", [{"kind": "arg", "subject": "V"}], 30.0), (MAKE, "cached", [], 0.0))
    other = _build((COPY, "done", _file("main.c"), 0.1), (APT, "done", [{"kind": "parent", "subject": "#7"}], 30.0))
    stage = _build((COPY, "done", _file("main.c", where="stage a"), 0.1), (APT, "done", ON_IT, 30.0))
    for build in (own, other, stage):
        assert _missed(build, build, build) == []


def test_files_that_are_not_all_known_prove_nothing() -> None:
    cut = _build((COPY, "done", _file("main.c"), 0.1), (APT, "done", ON_IT, 30.0), more=5)
    assert _missed(cut, cut) == []


def test_a_changed_list_of_packages_is_a_reason() -> None:
    pip = "RUN pip install -r requirements.txt"
    builds = [
        _build((COPY, "done", _file(*paths), 0.1), (pip, "done", ON_IT, 10.0))
        for paths in (["a.py"], ["a.py", "requirements.txt"], ["b.py"], ["requirements.txt"])
    ]
    (found,) = _missed(*builds)
    assert (found.kind, found.seconds, found.facts["performed"]) == ("split", 20.0, 2)
    assert found.message.startswith("copy requirements.txt first, then ")


def test_caches() -> None:
    past = Past(MISSED, [MISSED, MISSED, MISSED])
    (found,) = cache_mounts(past, {2: {"/var/cache/apt": 5 << 20, "/var/lib/apt": 10}})
    assert (found.seconds, found.bytes, found.most) == (60.0, 5 << 20, True)
    assert found.message == "keep what apt-get fetches: RUN --mount=type=cache,target=/var/cache/apt,sharing=locked"
    assert list(cache_mounts(Past(MISSED, [MISSED]), {})) == []
    mounted = _build(("RUN --mount=type=cache,target=/var/cache apt-get install -y gcc", "done", [], 9.0))
    assert list(cache_mounts(Past(mounted, [mounted] * 3), {})) == []


def test_failures() -> None:
    bad = _build((MAKE, "failed", [], 4.0), error={"message": "exit code 2", "kind": "step-failed"})
    good = _build((MAKE, "done", [], 4.0))
    (found,) = failing(Past(good, [bad, good, bad]), bad)
    assert (found.seconds, found.facts["failed"], found.facts["performed"]) == (8.0, 2, 3)
    assert "--retry=N" in found.message
    (found,) = failing(Past(bad, [bad, bad]), bad)
    assert "never ended well" in found.message
    assert list(failing(Past(good, [good, bad]), good)) == []
    leak = _build((MAKE, "failed", [], 4.0), error={"message": "a secret", "kind": "secret-leak"})
    assert list(failing(Past(good, [leak, good, leak]), leak)) == []  # no other attempt has another one, and nobody enters it


def test_records_of_another_form_are_no_trouble() -> None:
    step = {"number": 1, "name": COPY, "outcome": "done", "causes": [{}, {"kind": "file"}, {"kind": 3}]}
    odd = parse_build({"id": "b", "steps": [step, {}]})
    assert _missed(odd, odd) == []
    assert list(cache_mounts(Past(odd, [odd]), {})) == []
    assert list(failing(Past(odd, [odd]), odd)) == []


def test_what_sets_a_program_up_is_not_put_behind_it() -> None:
    text, run = "COPY sources.list /etc/apt/", "RUN apt-get update && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*"
    build = _build((text, "done", _file("sources.list"), 0.1), (run, "done", ON_IT, 30.0))
    (later,) = _missed(build, build, build)
    assert (later.kind, later.most) == ("later", True)


def test_a_cache_mount_of_apt_keeps_what_is_fetched() -> None:
    run = "RUN apt-get update && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*"
    build = _build((run, "done", ON_IT, 30.0))
    (advice,) = cache_mounts(Past(build, (build, build)), {})
    assert advice.message.endswith(", without rm -rf /var/lib/apt/lists/*, after rm -f /etc/apt/apt.conf.d/docker-clean")

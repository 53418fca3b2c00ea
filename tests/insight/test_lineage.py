"""Which step a step was in an earlier build."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.insight.lineage import Place, predecessors, text_of


def places(**stages: list[str]) -> list[Place]:
    found: list[Place] = []
    for name, texts in stages.items():
        found += [Place(len(found) + position + 1, name, position + 1, text) for position, text in enumerate(texts)]
    return found


def paired(old: list[Place], new: list[Place]) -> dict[str, str]:
    by_number = {place.number: place.text for place in old}
    return {place.text: by_number[number] for place in new if (number := predecessors(old, new).get(place.number)) is not None}


def test_the_same_place_with_other_words() -> None:
    assert paired(places(a=["RUN 1", "RUN 2", "RUN 3"]), places(a=["RUN 1", "COPY x /", "RUN 3"])) == {
        "RUN 1": "RUN 1", "COPY x /": "RUN 2", "RUN 3": "RUN 3",
    }  # fmt: skip


def test_a_step_that_is_new_takes_nobodys_place() -> None:
    old = places(a=["RUN apt update", "COPY . /src", "RUN make"])
    assert paired(old, places(a=["RUN apt update", "WORKDIR /x", "COPY . /src", "RUN make"])) == {place.text: place.text for place in old}
    assert paired(old, places(a=["RUN apt update", "RUN make"])) == {"RUN apt update": "RUN apt update", "RUN make": "RUN make"}


def test_steps_that_moved() -> None:
    old = places(a=["RUN 1", "RUN 2", "RUN 3"], b=["RUN 4"])
    assert paired(old, places(a=["RUN 3", "RUN 1", "RUN 2"], b=["RUN 4"])) == {f"RUN {number}": f"RUN {number}" for number in (1, 2, 3, 4)}
    assert paired(old, places(a=["RUN 1", "RUN 2"], b=["RUN 4", "RUN 3"]))["RUN 3"] == "RUN 3"


def test_a_stage_with_another_name() -> None:
    assert paired(places(a=["RUN 1", "RUN 2"]), places(other=["RUN 1", "RUN two"])) == {"RUN 1": "RUN 1", "RUN two": "RUN 2"}


def test_the_nearest_words() -> None:
    old = places(a=["RUN apt install curl git", "COPY . /src"])
    new = places(a=["COPY . /src", "RUN true", "RUN apt install curl"])
    assert paired(old, new) == {"COPY . /src": "COPY . /src", "RUN apt install curl": "RUN apt install curl git"}


def test_words_of_a_name() -> None:
    assert text_of("[build 2/5] RUN [ -e x ] && make") == "RUN [ -e x ] && make"
    assert text_of("RUN make") == "RUN make"


_TEXTS = st.lists(st.sampled_from(["RUN a", "RUN b", "COPY a /", "RUN abc", "WORKDIR /x"]), max_size=6)
_BUILDS = st.fixed_dictionaries({}, optional={"a": _TEXTS, "b": _TEXTS, "c": _TEXTS}).map(lambda stages: places(**stages))


@settings(max_examples=300, deadline=None)
@given(_BUILDS, _BUILDS)
def test_each_is_at_most_one(old: list[Place], new: list[Place]) -> None:
    found = predecessors(old, new)
    assert len(set(found.values())) == len(found)
    assert set(found) <= {place.number for place in new}
    assert set(found.values()) <= {place.number for place in old}


@settings(max_examples=100, deadline=None)
@given(_BUILDS)
def test_of_the_same_build_each_is_itself(build: list[Place]) -> None:
    assert predecessors(build, build) == {place.number: place.number for place in build}

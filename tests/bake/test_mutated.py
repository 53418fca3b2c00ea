"""Build files that were damaged: each is read, or refused with an error of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.bake.dotenv import read_dotenv
from imgbuild.bake.keys import Base
from imgbuild.bake.project import BuildFile, read_project
from imgbuild.bake.select import select
from imgbuild.bake.show import shown
from imgbuild.engine.bake_requests import request_of
from imgbuild.errors import ImgbuildError
from imgbuild.settings.tree import parse_tree

OWN = """
variables: {TAG: latest, OTHER: {default: "${TAG:-x}", description: d}}
groups: {default: [app, lib], all: {targets: [default]}}
targets:
  _base: &base {args: {A: 1, B: "${TAG}"}, labels: [l=1, m]}
  app:
    inherits: [_base]
    contexts: {lib: "target:lib-one", dir: ./dir}
    matrix: {os: [a, b], v: [{x: 1}, {x: 2}]}
    name: app-${os}-${v.x}
    secrets: [{id: s, src: f}, "id=t"]
    ulimits: {nofile: {soft: 1, hard: 2}}
    outputs: ["type=oci,dest=o"]
    pull: true
    no-cache: off
    network: none
  lib:
    <<: *base
    matrix: {n: [one]}
    buildfile-inline: |
      FROM scratch
"""
COMPOSE = """
services:
  a.b:
    image: "i:${TAG:-x}"
    build:
      context: .
      dockerfile: Dockerfile.x
      args: [A=1, B]
      secrets: [s, {source: s, target: t}]
      ulimits: {nproc: 3}
      x-bake: {tags: "a b", platforms: [p], contexts: {c: "service:e"}}
  e: {build: e}
  d: {build: d, extends: {service: a.b}}
secrets: {s: {file: ./f}}
"""
PARTS = [
    "{", "}", "[", "]", ":", ",", "\n", "- ", "  ", "~", "null", "*base", "&base", "<<", "${", "$", '"', "'", "!!x", "#", "target:", "=",
    ".", "",
]  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 12), st.sampled_from(PARTS)), max_size=4)


def _resolved(text: str) -> None:
    project = read_project([BuildFile(parse_tree(text, "file"), Base("sub"))], {"TAG": "t"}, {}, lambda said: None)
    selection = select(project, list(project.targets) or ["default"])
    json.dumps(shown(selection))
    for target in selection.targets.values():
        request_of(target, ("network.host",), lambda said: None)


@pytest.mark.parametrize("text", [OWN, COMPOSE])
def test_as_they_are(text: str) -> None:
    _resolved(text)


@given(st.sampled_from([OWN, COMPOSE]), CHANGES)
def test_damaged(text: str, changes: list[tuple[int, int, str]]) -> None:
    for place, length, part in changes:
        text = text[:place] + part + text[place + length :]
    try:
        _resolved(text)
    except ImgbuildError as error:
        assert error.message


@given(st.text(alphabet="AB='\"\\#$ {}:-\n", max_size=50))
def test_any_dotenv(text: str) -> None:
    try:
        read_dotenv(text, ".env", {})
    except ImgbuildError as error:
        assert error.at is not None

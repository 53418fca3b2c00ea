"""From text to a graph, without any file: what stages there are, what their steps hold, what their image says."""

from __future__ import annotations

import pytest

from imgbuild.buildfile.parser import parse
from imgbuild.errors import BuildfileError, NotFoundError
from imgbuild.graph.arguments import unused_arguments
from imgbuild.graph.lower import DEFAULT_PATH, lower
from imgbuild.graph.ops import Base, BuildGraph, CopyOp, Limits, RunOp, Stage, WorkdirOp
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import base_references
from imgbuild.oci.config import History, RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import parse_reference

MACHINE = Platform("linux", "amd64")
CREATED = "2020-01-01T00:00:00Z"
CREATED_SECONDS = 1_577_836_800


def base(config: RunConfig | None = None, created: str = CREATED) -> Base:
    return Base("base", Digest("sha256:" + "0" * 64), MACHINE, config or RunConfig(), (), (History(created_by="base"),), created)


def graph(text: str, *, images: dict[str, Base] | None = None, **options: object) -> BuildGraph:
    given = {(parse_reference(name), MACHINE): each for name, each in (images or {"base": base()}).items()}
    return lower(parse(text.encode(), "Buildfile"), LowerOptions(MACHINE, **options), given)  # type: ignore[arg-type]


def target(text: str, **options: object) -> Stage:
    made = graph(text, **options)  # type: ignore[arg-type]
    return made.stages[made.target]


def test_only_what_the_target_needs_is_in_the_graph() -> None:
    text = "FROM base AS a\nRUN a\nFROM base AS b\nFROM a AS c\nCOPY --from=base:2 /x /\nRUN --mount=from=b,target=/b c\n"
    images = {"base": base(), "base:2": base()}
    assert sorted(graph(text, images=images).stages) == [0, 1, 2, 3]
    assert sorted(graph(text, images=images, target="A").stages) == [0]
    assert sorted(graph(text, images=images, target="1").stages) == [1]
    with pytest.raises(NotFoundError, match="'d'"):
        graph(text, images=images, target="d")


def test_references_are_asked_for_as_bases_come_to_be_known() -> None:
    text = parse(b"ARG V=1\nFROM base:$V AS x\nFROM other\nCOPY --from=x /a /\nCOPY --from=third /a /\n", "Buildfile")
    options = LowerOptions(MACHINE, {"V": "2"})
    found = [need.reference.familiar() for need in base_references(text, options, {})]
    assert found == ["base:2", "other:latest", "third:latest"]
    trigger = base(RunConfig(on_build=("COPY --from=fourth /a /",)))
    known = {(parse_reference(name), MACHINE): trigger for name in found}
    assert [need.reference.familiar() for need in base_references(text, options, known)] == ["fourth:latest"]


def test_steps_hold_what_was_true_at_their_line() -> None:
    head = 'FROM base\nENV A=1\nRUN one\nENV A=2 B=$A\nUSER u:g\nWORKDIR /w\nSHELL ["s", "-x"]\n'
    stage = target(head + "RUN two\nCOPY a b c/\nADD --chown=u . .\n")
    one, workdir, two, copy, add = (step.op for step in stage.steps)
    assert isinstance(one, RunOp)
    assert isinstance(two, RunOp)
    assert (one.argv, one.cwd, one.user) == (("/bin/sh", "-c", "one"), "/", "")
    assert one.env == (f"PATH={DEFAULT_PATH}", "A=1")
    assert (two.argv, two.cwd, two.user) == (("s", "-x", "two"), "/w", "u:g")
    assert two.env == (f"PATH={DEFAULT_PATH}", "A=2", "B=1")
    assert workdir == WorkdirOp("/w", "u:g", CREATED_SECONDS)
    assert copy == CopyOp(("a", "b"), "/w/c/", CREATED_SECONDS)
    assert add == CopyOp((".",), "/w/", CREATED_SECONDS, chown="u", unpack=True)
    assert [step.name for step in stage.steps][:2] == ["[1/5] RUN one", "[2/5] WORKDIR /w"]


@pytest.mark.parametrize(
    ("workdir", "destination", "absolute"),
    [
        ("", "x", "/x"), ("", "/x/", "/x/"), ("/w", ".", "/w/"), ("/w", "..", "/"), ("/w/v", "../x", "/w/x"), ("", "//x", "/x"),
        ("", "/", "/"),
    ],
)  # fmt: skip
def test_destinations(workdir: str, destination: str, absolute: str) -> None:
    line = f"WORKDIR {workdir}\n" if workdir else ""
    op = target(f"FROM base\n{line}COPY a {destination}\n").steps[-1].op
    assert isinstance(op, CopyOp)
    assert op.destination == absolute


def test_epochs() -> None:
    assert target("FROM base\nRUN x\n").epoch == CREATED_SECONDS
    assert target("FROM base\nRUN x\n", epoch=7).epoch == 7
    assert target("FROM base AS a\nFROM a\nRUN x\n").epoch == CREATED_SECONDS
    assert target("FROM base AS a\nFROM scratch\nCOPY --from=a /x /\n").epoch == CREATED_SECONDS
    assert target("FROM scratch\nCOPY --from=base /x /\n").epoch == CREATED_SECONDS
    assert target("FROM scratch\nCOPY x /\n").epoch == 0
    assert target("FROM base\nRUN x\n", images={"base": base(created="")}).epoch == 0


def test_limits_come_from_the_flags_else_from_the_defaults() -> None:
    text = "FROM base\nRUN --memory=1g --cpus=1.5 --pids=9 --timeout=2m --idle-timeout=5s --retry=3 --memory-swap=-1 x\nRUN y\n"
    first, second = (step.op for step in target(text, limits=Limits(memory=5, timeout=9.0)).steps)
    assert isinstance(first, RunOp)
    assert isinstance(second, RunOp)
    assert first.limits == Limits(1 << 30, -1, 1.5, 9, 120.0, 5.0, 3)
    assert second.limits == Limits(memory=5, timeout=9.0)


def test_mounts_are_expanded_and_made_absolute() -> None:
    stage = target("FROM base\nARG d=dir\nWORKDIR /w\nRUN --mount=type=cache,target=$d,id=$d --mount=source=$d,target=/x,rw x\n")
    op = stage.steps[-1].op
    assert isinstance(op, RunOp)
    cache, bind = op.mounts
    assert (cache.kind, cache.target, cache.id) == ("cache", "/w/dir", "dir")
    assert (bind.kind, bind.target, bind.source, bind.read_only) == ("bind", "/x", "dir", False)


def test_labels_of_the_options_are_the_targets_alone() -> None:
    made = graph("FROM base AS a\nLABEL x=1\nFROM a\n", labels=(("x", "2"), ("y", "3")))
    assert made.stages[made.target].config.labels == (("x", "2"), ("y", "3"))
    assert made.stages[0].config.labels == (("x", "1"),)


def test_arguments_that_nothing_declares() -> None:
    text = parse(b"ARG a\nFROM base\nARG b\nONBUILD ARG c\n", "Buildfile")
    names = ("a", "b", "c", "d", "e", "http_proxy", "ALL_PROXY", "TARGETARCH", "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE")
    names += ("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_SYNTAX")
    given = dict.fromkeys((*names, "BUILDKIT_TYPO"), "")
    assert unused_arguments(text, LowerOptions(MACHINE, given)) == ("BUILDKIT_TYPO", "d", "e")


def test_cache_directories_of_a_name_space_are_its_own() -> None:
    text = "FROM base\nRUN --mount=type=cache,target=/c x\n"
    ids = [target(text, build_args=given).steps[-1].op.mounts[0].id for given in ({}, {"BUILDKIT_CACHE_MOUNT_NS": "ci"})]  # type: ignore[union-attr]
    assert ids == ["/c", "ci//c"]


def test_the_target_stage_has_a_name_of_its_own() -> None:
    text = "FROM base AS one\nARG TARGETSTAGE\nLABEL stage=$TARGETSTAGE\nFROM one{}\nLABEL stage=$TARGETSTAGE\n"
    assert dict(target(text.format(" AS two")).config.labels) == {"stage": "two"}
    assert dict(target(text.format("")).config.labels) == {"stage": "default"}
    assert dict(target(text.format(""), target="ONE").config.labels) == {"stage": "ONE"}


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("FROM base\nRUN x\nADD --checksum=x http://x/y /\n", BuildfileError, 3),
        ("FROM base\nCOPY a b /c\n", BuildfileError, 2),
        ("FROM base\nRUN --mount=type=ssh,source=/s x\n", BuildfileError, 2),
        ("FROM base\nRUN x\nRUN --security=insecure x\n", BuildfileError, 3),
        ("FROM base\nRUN --device=/dev/fuse x\n", BuildfileError, 2),
        ("FROM --platform=linux/riscv64/v1/x base\n", BuildfileError, 1),
        ("FROM --platform=$NOTHING base\n", BuildfileError, 1),
        ("FROM base AS a\nCOPY --from=a / /\n", BuildfileError, 2),
        ("FROM base\nRUN --timeout=x y\n", BuildfileError, 2),
    ],
)
def test_errors_say_where(text: str, error: type[BuildfileError], line: int) -> None:
    with pytest.raises(error) as caught:
        graph(text)
    assert caught.value.at is not None
    assert caught.value.at.line == line

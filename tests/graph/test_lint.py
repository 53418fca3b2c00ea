"""Each rule of lint: what it accepts, where its edge is, and what it says of what it is about."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from imgbuild.buildfile.lint import lint_text
from imgbuild.buildfile.parser import parse
from imgbuild.buildfile.rules import ARGUMENT, RULES, Linter, LintWarning, choice_of, parse_choice
from imgbuild.errors import BuildfileError
from imgbuild.graph.lint import Ignores, lint_origins, lint_stages
from imgbuild.graph.ops import Base
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import make_outline
from imgbuild.oci.config import RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import parse_reference

AMD64 = Platform("linux", "amd64")


def base(config: RunConfig | None = None, platform: Platform = AMD64) -> Base:
    return Base("base", Digest("sha256:" + "0" * 64), platform, config or RunConfig(), ())


def warnings(
    text: str,
    *,
    args: Mapping[str, str] | None = None,
    target: str = "",
    bases: Mapping[str, Base] | None = None,
    ignores: Ignores | None = None,
    every: bool = True,
) -> tuple[LintWarning, ...]:
    """What lint finds in a text, with all the bases that it is given; "base" is always one."""
    buildfile = parse(text, "B")
    options = LowerOptions(platform=AMD64, build_args=args or {}, target=target)
    known = {(parse_reference(name), options.platform): image for name, image in {"base": base(), **(bases or {})}.items()}
    linter = Linter(choice_of(buildfile, options.build_args.get(ARGUMENT)))
    lint_text(buildfile, linter)
    lint_origins(buildfile, options, linter)
    lint_stages(buildfile, make_outline(buildfile, options, known), options, known, linter, ignores, every)
    return linter.warnings


def said(text: str, **options: object) -> list[tuple[str, str, str]]:
    """The lines, the rule and the message of each."""
    return [(w.span.lines, w.rule.name, w.message) for w in warnings(text, **options)]  # type: ignore[arg-type]


def rules(text: str, **options: object) -> list[str]:
    return [rule for _, rule, _ in said(text, **options)]


EXPERIMENTAL = "# check=experimental=all\n"

CLEAN = {
    "StageNameCasing": ["FROM base AS build", "FROM base AS a-1_b.c"],
    "FromAsCasing": ["FROM base AS x", "from base as x", "From base aS x\n# check=skip=ConsistentInstructionCasing\nRUN y"],
    "NoEmptyContinuation": ["FROM base\nRUN a \\\n  b", "FROM base\nRUN a \\\n# a comment is no empty line\n  b"],
    "ConsistentInstructionCasing": ["FROM base\nRUN a", "from base\nrun a", "arg x\nFROM base\nRUN a"],
    "DuplicateStageName": ["FROM base AS a\nFROM base AS b", "FROM base\nFROM base"],
    "ReservedStageName": ["FROM base AS contexts", "FROM scratch\nCOPY a b"],
    "JSONArgsRecommended": [
        'FROM base\nCMD ["a"]\nENTRYPOINT []',
        'FROM base\nSHELL ["sh", "-c"]\nCMD a',
        "FROM base\nRUN a\nHEALTHCHECK CMD a",
        'FROM base AS a\nSHELL ["sh", "-c"]\nFROM a\nCMD b',
    ],
    "MaintainerDeprecated": ["FROM base\nLABEL org.opencontainers.image.authors=me"],
    "UndefinedArgInFrom": ["ARG v=1\nFROM base:$v\n", "ARG v\nFROM base$v", "FROM base-${TARGETARCH} AS x"],
    "WorkdirRelativePath": [
        "FROM base\nWORKDIR /a\nWORKDIR b",
        "FROM base\nENV d=/x\nWORKDIR $d/y",
        "FROM base AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
    ],
    "UndefinedVar": [
        "FROM base\nARG v\nCOPY $v /",
        "FROM base\nENV v=1\nLABEL l=$v",
        "FROM base\nENV p=$PATH:/x",
        'FROM base\nRUN echo $v\nCMD ["$v"]',
        "FROM base\nENV a='$v' b=\\$v",
        "FROM base AS a\nARG v=1\nFROM a\nLABEL l=$v",
        "FROM base\nCOPY <<'E' /x\n$v\nE",
        "FROM base\nEXPOSE $v",
    ],
    "MultipleInstructionsDisallowed": [
        'FROM base\nCMD ["a"]\nENTRYPOINT ["b"]\nHEALTHCHECK NONE',
        'FROM base AS a\nCMD ["a"]\nFROM a\nCMD ["b"]',
        "FROM base\nRUN a\nRUN b",
    ],
    "LegacyKeyValueFormat": ["FROM base\nENV a=b\nLABEL c=d", 'FROM base\nENV a="b c"'],
    "InvalidBaseImagePlatform": ["FROM base"],
    "RedundantTargetPlatform": ["FROM --platform=$BUILDPLATFORM base", "FROM --platform=${TARGETPLATFORM}${TARGETVARIANT} base"],
    "SecretsUsedInArgOrEnv": [
        "FROM base\nENV keyboard=1 TOKENIZER=2",
        "FROM base\nARG PUBLIC_KEY KEY_FILE TOKEN_VERSION",
        "ARG token\nFROM base",
    ],
    "InvalidDefaultArgInFrom": ["ARG v=1\nFROM base:$v", "ARG v\nFROM base:${v:-1}"],
    "FromPlatformFlagConstDisallowed": ["FROM --platform=linux/amd64 base AS build_amd64", "FROM --platform=$BUILDPLATFORM base"],
    "InvalidDefinitionDescription": [
        EXPERIMENTAL + "# build makes it\nFROM base AS build\n# v of it\nARG v",
        EXPERIMENTAL + "\n# of something else\n\nFROM base AS build",
        EXPERIMENTAL + "\n# of something else\n#\nFROM base AS build",
        EXPERIMENTAL + "\n# a stage without a name\nFROM base",
        "# not asked for\nFROM base AS build",
    ],
    "ExposeProtoCasing": ["FROM base\nEXPOSE 80/tcp 53/udp 80", "FROM base\nENV p=80/tcp\nEXPOSE $p"],
    "ExposeInvalidFormat": ["FROM base\nEXPOSE 80", "FROM base\nEXPOSE 8000-8010"],
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in CLEAN.items() for text in texts])
def test_accepted(rule: str, text: str) -> None:
    assert rule not in rules(text)


FOUND = [
    ("FROM base AS Build", "B:1", "StageNameCasing", "Stage name 'Build' should be lowercase"),
    ("FROM base as x", "B:1", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match"),
    ("from --platform=$BUILDPLATFORM base AS x", "B:1", "FromAsCasing", "'AS' and 'from' keywords' casing do not match"),
    ("FROM base\nRUN a \\\n\n  b", "B:4", "NoEmptyContinuation", "Empty continuation line"),
    ("FROM base\nRUN <<E \\\n\n b\ntext\nE\n", "B:4", "NoEmptyContinuation", "Empty continuation line"),
    (
        "FROM base\nrun a\nRUN b", "B:2", "ConsistentInstructionCasing",
        "Command 'run' should match the case of the command majority (uppercase)",
    ),
    (
        "from base\nRun a", "B:2", "ConsistentInstructionCasing",
        "Command 'Run' should match the case of the command majority (lowercase)",
    ),
    (
        "FROM base AS a\nFROM base AS A", "B:2", "DuplicateStageName", 'Duplicate stage name "a", stage names should be unique',
    ),
    (
        "FROM base AS scratch", "B:1", "ReservedStageName",
        'Stage name should not use the same name as reserved stage "scratch"',
    ),
    (
        "FROM base\nCMD a \\\n  b", "B:2-3", "JSONArgsRecommended",
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        'FROM base\nEntrypoint ["a", ]', "B:2", "JSONArgsRecommended",
        "JSON arguments recommended for Entrypoint to prevent unintended behavior related to OS signals",
    ),
    ("FROM base\nMAINTAINER me", "B:2", "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label"),
    ("ARG VERSION=1\nFROM base:${VERSIO:-1}", "B:2", "UndefinedArgInFrom",
     "FROM argument 'VERSIO' is not declared (did you mean VERSION?)"),
    ("FROM base:${other:-1}", "B:1", "UndefinedArgInFrom", "FROM argument 'other' is not declared"),
    (
        "FROM --platform=${BUILDPLATFORMS:-linux/amd64} base", "B:1", "UndefinedArgInFrom",
        "FROM argument 'BUILDPLATFORMS' is not declared (did you mean BUILDPLATFORM?)",
    ),
    ("FROM base\nWORKDIR a\nWORKDIR b", "B:2", "WorkdirRelativePath",
     'Relative workdir "a" can have unexpected results if the base image changes'),
    ("FROM base\nENV foo=1\nLABEL l=$fooo", "B:3", "UndefinedVar", "Usage of undefined variable '$fooo' (did you mean $foo?)"),
    ("FROM base\nENV a=$abcdef", "B:2", "UndefinedVar", "Usage of undefined variable '$abcdef'"),
    ("FROM base\nENV p=${PAHT:-x}", "B:2", "UndefinedVar", "Usage of undefined variable '$PAHT' (did you mean $PATH?)"),
    ("ARG version=1\nFROM base\nCOPY a /$version", "B:3", "UndefinedVar", "Usage of undefined variable '$version'"),
    ("FROM base\nRUN --mount=type=cache,target=/$dir x", "B:2", "UndefinedVar", "Usage of undefined variable '$dir'"),
    ("FROM base\nCOPY --chown=$user a b", "B:2", "UndefinedVar", "Usage of undefined variable '$user'"),
    ("FROM base\nCOPY <<E /x\n$text\nE", "B:2-4", "UndefinedVar", "Usage of undefined variable '$text'"),
    ("FROM base\nARG a=$zzz", "B:2", "UndefinedVar", "Usage of undefined variable '$zzz'"),
    (
        'FROM base\nCMD ["a"]\nCMD ["b"]', "B:2", "MultipleInstructionsDisallowed",
        "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
    ),
    (
        "FROM base\nHEALTHCHECK NONE\nRUN x\nHEALTHCHECK NONE", "B:2", "MultipleInstructionsDisallowed",
        "Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
    ),
    (
        "FROM base\nENV a b", "B:2", "LegacyKeyValueFormat",
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
    ),
    (
        "FROM base\nLABEL a b c", "B:2", "LegacyKeyValueFormat",
        '"LABEL key=value" should be used instead of legacy "LABEL key value" format',
    ),
    (
        "FROM --platform=$TARGETPLATFORM base", "B:1", "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    (
        "FROM base\nARG GITHUB_TOKEN", "B:2", "SecretsUsedInArgOrEnv",
        'Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN")',
    ),
    (
        "FROM base\nENV apikey=1", "B:2", "SecretsUsedInArgOrEnv",
        'Do not use ARG or ENV instructions for sensitive data (ENV "apikey")',
    ),
    (
        "ARG TAG\nFROM base:$TAG", "B:2", "InvalidDefaultArgInFrom",
        "Default value for ARG base:$TAG results in empty or invalid base image name",
    ),
    (
        "FROM --platform=linux/amd64 base AS x", "B:1", "FromPlatformFlagConstDisallowed",
        'FROM --platform flag should not use constant value "linux/amd64"',
    ),
    (
        EXPERIMENTAL + "\n# something\nFROM base AS x", "B:4", "InvalidDefinitionDescription",
        "Comment for FROM should follow the format: `# x <description>`",
    ),
    (
        EXPERIMENTAL + "\n# something\nARG a=1 b=2\nFROM base", "B:4", "InvalidDefinitionDescription",
        "Comment for ARG should follow the format: `# <arg_key> <description>`",
    ),
    (
        "FROM base\nEXPOSE 80/TcP", "B:2", "ExposeProtoCasing",
        "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM base\nEXPOSE 127.0.0.1:80:80", "B:2", "ExposeInvalidFormat",
        "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
    ),
    (
        "FROM base\nEXPOSE 8080:80", "B:2", "ExposeInvalidFormat",
        "EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines", "rule", "message"), FOUND, ids=[f"{found[2]}-{number}" for number, found in enumerate(FOUND)])
def test_found(text: str, lines: str, rule: str, message: str) -> None:
    args = {"TAG": "1"} if rule == "InvalidDefaultArgInFrom" else {}
    assert [found for found in said(text, args=args) if found[1] == rule] == [(lines, rule, message)]


@pytest.mark.parametrize(("text", "lines", "rule", "message"), FOUND, ids=[f"{found[2]}-{number}" for number, found in enumerate(FOUND)])
def test_skipped_by_the_directive(text: str, lines: str, rule: str, message: str) -> None:
    args = {"TAG": "1"} if rule == "InvalidDefaultArgInFrom" else {}
    skipping = f"# check=skip={rule}\n" + text.removeprefix(EXPERIMENTAL)
    assert rule not in rules(skipping, args=args)
    assert rules(text, args={**args, ARGUMENT: "skip=all"}) == []


def test_every_rule_is_here() -> None:
    others = {"InvalidBaseImagePlatform", "CopyIgnoredFile"}
    assert {found[2] for found in FOUND} | others == set(RULES)


def test_base_of_another_platform() -> None:
    other = base(platform=Platform("linux", "arm64"))
    assert said("FROM other", bases={"other": other}) == [
        (
            "B:1",
            "InvalidBaseImagePlatform",
            'Base image other was pulled with platform "linux/arm64", expected "linux/amd64" for current build',
        )
    ]


def test_copies_of_what_is_ignored() -> None:
    def ignores(path: str) -> bool:
        return path == "tmp" or path.startswith("tmp/")

    text = "FROM base AS a\nCOPY ./tmp/x y /d/\nADD /tmp /t\nCOPY . /all\nCOPY --from=base tmp /t\nADD http://h/tmp /t\n"
    assert [found for found in said(text, ignores=ignores) if found[1] == "CopyIgnoredFile"] == [
        ("B:2", "CopyIgnoredFile", 'Attempting to Copy file "tmp/x" that is excluded by .dockerignore'),
        ("B:3", "CopyIgnoredFile", 'Attempting to Add file "tmp" that is excluded by .dockerignore'),
    ]
    assert rules(text, ignores=None) == []


def test_what_a_base_sets_is_defined() -> None:
    config = RunConfig(env=("JAVA_HOME=/opt",), shell=("bash", "-c"))
    text = "FROM image\nENV x=$JAVA_HOME\nCMD $x"
    assert rules(text, bases={"image": base(config)}) == []
    assert rules(text, bases={"image": base()}) == ["UndefinedVar", "JSONArgsRecommended"]


def test_nothing_is_said_of_what_an_unknown_base_decides() -> None:
    assert rules("FROM nowhere AS a\nENV x=$JAVA_HOME\nCMD $x\nFROM a\nLABEL y=$z\nWORKDIR q") == ["WorkdirRelativePath"]


def test_triggers_are_said_at_their_from() -> None:
    config = RunConfig(on_build=("ENV a b", "WORKDIR rel"))
    assert [found[:2] for found in said("\nFROM parent\nWORKDIR /x", bases={"parent": base(config)})] == [
        ("B:2", "LegacyKeyValueFormat"),
        ("B:2", "WorkdirRelativePath"),
    ]
    # A stage's own triggers are another stage's instructions.
    assert [found[:2] for found in said("FROM base AS a\nONBUILD ENV a b\nFROM a")] == [("B:3", "LegacyKeyValueFormat")]


def test_only_what_the_target_needs() -> None:
    text = "FROM base AS a\nENV x y\nFROM base AS b\nENV x y\nFROM a AS c"
    assert [found[0] for found in said(text, every=False)] == ["B:2"]
    assert [found[0] for found in said(text, every=False, target="b")] == ["B:4"]
    assert [found[0] for found in said(text, every=True)] == ["B:2", "B:4"]


def test_a_given_argument_is_not_expanded() -> None:
    assert rules("FROM base\nARG a=$b", args={"a": "x"}) == []
    assert rules("ARG b=1\nFROM base\nARG b\nENV a=$b") == []


def test_one_instruction_skips() -> None:
    text = "FROM base\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d"
    assert [found[0] for found in said(text)] == ["B:4"]
    assert rules("FROM base\n# check=skip=all\nENV TOKEN $b") == []
    # An empty line keeps a comment apart; a malformed one says nothing.
    assert rules("FROM base\n# check=skip=all\n\nENV a b") == ["LegacyKeyValueFormat"]
    assert rules("FROM base\n# check=skipp=all\nENV a b") == ["LegacyKeyValueFormat"]
    # The later of two is the one that is asked whether the earlier may be said of.
    assert rules('FROM base\nCMD ["a"]\n# check=skip=MultipleInstructionsDisallowed\nCMD ["b"]') == []


def test_one_instruction_asks_for_an_experiment() -> None:
    assert rules("\n# check=experimental=InvalidDefinitionDescription\nFROM base AS x") == ["InvalidDefinitionDescription"]


def test_the_argument_takes_the_place_of_the_directive() -> None:
    text = "# check=skip=LegacyKeyValueFormat\nFROM base\nENV a b\nMAINTAINER me"
    assert rules(text) == ["MaintainerDeprecated"]
    assert rules(text, args={ARGUMENT: "skip=MaintainerDeprecated"}) == ["LegacyKeyValueFormat"]


@pytest.mark.parametrize(
    ("text", "skip", "experimental", "error"),
    [
        ("", set(), set(), False),
        ("skip=A,B", {"A", "B"}, set(), False),
        (" skip = A , B ; error = true ", {"A", "B"}, set(), True),
        ("error=F;experimental=all", set(), {"all"}, False),
        ("skip=all;experimental=C;error=1", {"all"}, {"C"}, True),
    ],
)
def test_choices(text: str, skip: set[str], experimental: set[str], error: bool) -> None:
    choice = parse_choice(text)
    assert (choice.skip, choice.experimental, choice.error) == (skip, experimental, error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("skipp=A", "did you mean skip?"),
        ("A", "write skip=RULE"),
        ("error=maybe", "true or false"),
        ("skip=A;;", "write skip=RULE"),
    ],
)
def test_choices_refused(text: str, said: str) -> None:
    with pytest.raises(BuildfileError) as caught:
        parse_choice(text)
    assert said in (caught.value.hint or "")


def test_a_directive_is_refused_at_its_line() -> None:
    with pytest.raises(BuildfileError) as caught:
        warnings("# syntax=docker/dockerfile:1\n# check=errors=true\nFROM base")
    assert str(caught.value.at) == "B:2:3"
    with pytest.raises(BuildfileError, match=ARGUMENT):
        warnings("FROM base", args={ARGUMENT: "x"})


def test_a_directive_ends_at_a_space() -> None:
    assert rules("# check=skip=LegacyKeyValueFormat for now\nFROM base\nENV a b") == []

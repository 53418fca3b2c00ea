from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.buildfile.expand import expand, expand_heredoc, expand_words, variables
from imgbuild.buildfile.parser import parse
from imgbuild.errors import BuildfileError, Source, Span

from .faults import marked, refused

ENV = {"v": "val", "e": "", "s": "a b", "p": "/usr/local/lib/x.tar.gz", "n": "one\ntwo", "_x1": "u", "q": "'\"\\", "ü": "uml"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$v", "val"),
        ("${v}", "val"),
        ("a${v}b$v", "avalbval"),
        ("$v.$v/$v-", "val.val/val-"),
        ("$_x1 ${_x1}", "u u"),
        ("$ü", "uml"),
        ("$unset|${unset}|", "||"),
        ("$", "$"),
        ("a$", "a$"),
        ("$ x $/", "$ x $/"),
        ("$1x $12 ${1}", "x  "),
        ("$$ $@ $* $# $? $! $-", "      "),
        # quotes and escapes
        ("'$v'", "$v"),
        ('"$v"', "val"),
        ("\"'$v'\"", "'val'"),
        ("'\"'", '"'),
        ("\\$v", "$v"),
        ("\\'\\\"", "'\""),
        ("a\\ b", "a b"),
        ("a\\n", "an"),
        ("end\\", "end"),
        ("'a\\'", "a\\"),
        ('"a\\n\\$v\\"\\\\"', 'a\\n$v"\\'),
        ("''\"\"", ""),
        ("a'b c'd\"e f\"", "ab cde f"),
        ("$q", "'\"\\"),
        ("<<x <y", "<<x <y"),
        # modifiers
        ("${v-w} ${e-w} ${u-w}", "val  w"),
        ("${v:-w} ${e:-w} ${u:-w}", "val w w"),
        ("${v+w} ${e+w} ${u+w}", "w w "),
        ("${v:+w} ${e:+w} ${u:+w}", "w  "),
        ("${v?m} ${v:?m} ${e?m}", "val val "),
        ("${u:-}", ""),
        ("${u:-$v}", "val"),
        ("${u:-${e:-${v}}}", "val"),
        ('${u:-"a}b"}', "a}b"),
        ("${u:-'$v'}", "$v"),
        ("${u:-a\\}b}", "a}b"),
        ('"${u:-"x y"}"', "x y"),
        ("${u-a b}", "a b"),
        # prefixes, suffixes
        ("${p#*/}", "usr/local/lib/x.tar.gz"),
        ("${p##*/}", "x.tar.gz"),
        ("${p%.*}", "/usr/local/lib/x.tar"),
        ("${p%%.*}", "/usr/local/lib/x"),
        ("${p#/usr}", "/local/lib/x.tar.gz"),
        ("${p#nothing}", "/usr/local/lib/x.tar.gz"),
        ("${p%}", "/usr/local/lib/x.tar.gz"),
        ("${v#?}", "al"),
        ("${v%?}", "va"),
        ("${v##*}", ""),
        ("${v#*}", "val"),
        ("${v%%*}", ""),
        ("${u#x}", ""),
        ("${p##*/$v}", "/usr/local/lib/x.tar.gz"),
        ("${n#*two}", "one\ntwo"),
        # replacing
        ("${p/\\//_}", "_usr/local/lib/x.tar.gz"),
        ("${p//\\//_}", "_usr_local_lib_x.tar.gz"),
        ("${v/a/$s}", "va bl"),
        ("${v/a/}", "vl"),
        ("${v//?/x}", "xxx"),
        ("${v/*/x}", "x"),
        ("${v//*/x}", "x"),
        ("${v//z/x}", "val"),
        ("${v/v*l/x}", "x"),
        ("${u/a/b}", ""),
    ],
)
def test_expand(word: str, result: str) -> None:
    assert expand(word, ENV) == result


@pytest.mark.parametrize(
    ("word", "caret"),
    [
        ("x${", "${"),
        ("x${v", "${v"),
        ("${}", "${}"),
        ("${:-x}", "${:"),
        ("${{v}", "${{"),
        ("a${v!}", "${v!"),
        ("${v:x}", "${v:x"),
        ("${v:#x}", "${v:#"),
        ("${v^^}", "${v^"),
        ("${v[0]}", "${v["),
        ("'x", "'x"),
        ('a"x$v', '"x$v'),
        ("${v:-'}", "'}"),
        ("${u:?no value}y", "${u:?no value}"),
        ("${u?}", "${u?}"),
        ("${e:?}", "${e:?}"),
        ("${v#\\a}", "${v#\\a}"),
        ("${v/\\a/b}", "${v/\\a/b}"),
        ("${v/a}", "${v/a}"),
    ],
)
def test_refused(word: str, caret: str) -> None:
    source = Source("B", (f"ENV x={word}",))
    at = Span(source, 1, 1, 7, 7 + len(word))
    error = refused(expand, word, ENV, at=at)
    assert marked(error).startswith(caret[:1])
    assert caret in marked(error) or marked(error) in caret


def test_messages() -> None:
    assert refused(expand, "${u:?give it}", ENV).message == "u: give it"
    assert refused(expand, "${u?}", ENV).message == "u: is not set"
    assert refused(expand, "${e:?}", ENV).message == "e: is empty"


def test_the_place_of_a_word_over_two_lines_is_kept_whole() -> None:
    buildfile = parse('FROM x\nENV a="${b\\\nc"\n', "B")
    word = buildfile.stages[0].instructions[0].pairs[0][1]  # type: ignore[attr-defined]
    assert refused(expand, word.text, {}, at=word.span).at == word.span


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("", ()),
        ("  ", ()),
        ("a  b\tc", ("a", "b", "c")),
        ("$s", ("a", "b")),
        ('"$s"', ("a b",)),
        ("x$s", ("xa", "b")),
        ("a\\ b", ("a b",)),
        ("'a b'c d", ("a bc", "d")),
        ('"" a', ("a",)),
        ("$e", ()),
        ("${u:-x y}", ("x", "y")),
        ("<< a", ("<< a",)),
        ("80 443/tcp", ("80", "443/tcp")),
    ],
)
def test_expand_words(word: str, words: tuple[str, ...]) -> None:
    assert expand_words(word, ENV) == words


def test_another_escape() -> None:
    assert expand('c:\\x\\$v`$v"`""', ENV, "`") == 'c:\\x\\val$v"'
    assert expand_words("a` b c", {}, "`") == ("a b", "c")


def test_heredocs_keep_their_quotes() -> None:
    assert expand_heredoc("'$v' \"$s\" it's \\$v \\\\ ${u:-'x'}\n", ENV) == "'val' \"a b\" it's $v \\ 'x'\n"
    assert expand_heredoc("nothing 'here'\n", ENV) == "nothing 'here'\n"


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("x", ()),
        ("$a${b}", "ab"),
        ("'$a'\\$b", ()),
        ("${a:-${b:-$c}}", "abc"),
        ("${a+x}${b/$c/$d}${e##$f}", "abcdef"),
        ("${a:?$b}", "ab"),
        ("$$ $1 $@", ()),
        ("$a ${", "a"),
    ],
)
def test_variables(word: str, names: Iterable[str]) -> None:
    assert variables(word) == frozenset(names)


def test_variables_of_a_heredoc() -> None:
    assert variables("'$a'", quotes_are_text=True) == {"a"}


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    assert refused(expand, "${a:-" * 5000 + "}" * 5000, {}).message == "variables are nested too deeply"


def test_patterns_take_no_exponential_time() -> None:
    assert expand("${v%%" + "*a" * 30 + "b}", {"v": "a" * 300}) == "a" * 300


@given(st.text(alphabet="ab $'\"\\{}:-+?#%/*<", max_size=30))
def test_only_our_errors(word: str) -> None:
    for call in (expand, expand_words, expand_heredoc):
        try:
            call(word, {"a": "b a"})
        except BuildfileError as error:
            assert error.message


@given(st.text(alphabet="ab $'\"\\{}:-+", max_size=20), st.dictionaries(st.sampled_from("ab"), st.text(max_size=3)))
def test_words_without_quotes_are_the_whole_split(word: str, env: dict[str, str]) -> None:
    try:
        whole = expand(word, env)
    except BuildfileError:
        return
    joined = "".join("".join(expand_words(word, env)).split())
    assert joined == "".join(whole.split())


@given(st.text(alphabet="ab $'\"\\{}:-+", max_size=20))
def test_only_named_variables_matter(word: str) -> None:
    try:
        before = expand(word, {})
    except BuildfileError:
        return
    env = {name: "x" for name in "ab" if name not in variables(word)}
    assert expand(word, env) == before


@given(st.text(max_size=30))
def test_single_quotes_keep_everything(text: str) -> None:
    if "'" not in text:
        assert expand(f"'{text}'", {"a": "x"}) == text


def test_a_word_that_grows_without_end_is_refused() -> None:
    value = "x" * (9 << 20)
    with pytest.raises(BuildfileError, match="with the value of A, this is longer than 16 MiB"):
        expand("$A$A", {"A": value})
    assert len(expand("$A", {"A": value})) == len(value)


def test_a_pattern_with_many_stars_takes_one_pass() -> None:
    assert expand("${A//a*a*a*a*b/x}", {"A": "a" * 20_000}) == "a" * 20_000
    assert expand("${A//a*b/x}", {"A": "aab\nab"}) == "x\nx"

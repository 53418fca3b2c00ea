"""imgbuild.yaml: inherits, groups, matrix, variables, several files, and what is refused, at its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from .reading import read, refused

COMMON = """
targets:
  base: {context: app, args: {A: one, B: one}, tags: [x], labels: {l: base}, annotations: [a=1], secrets: [id=s]}
  more: {args: {B: two, C: two}, tags: [y, z], no-cache: true, annotations: [b=2], secrets: [{id: t, env: T}]}
  both: {inherits: [base, more], args: {C: three}, labels: {m: own}}
  other: {inherits: [more, base]}
"""


def test_inherited_in_order_and_own_last() -> None:
    assert read(COMMON).values("both") == {
        "context": "app",
        "args": {"A": "one", "B": "two", "C": "three"},
        "tags": ("y", "z"),
        "labels": {"l": "base", "m": "own"},
        "annotations": ("a=1", "b=2"),
        "secret": ("id=s", "id=t,env=T"),
        "no-cache": True,
    }


def test_order_of_inherits_decides() -> None:
    values = read(COMMON).values("other")
    assert values["args"] == {"A": "one", "B": "one", "C": "two"}
    assert values["tags"] == ("x",)
    assert values["no-cache"] is True


def test_inherits_of_inherits_and_one_word() -> None:
    assert read("targets: {a: {args: {X: 1}}, b: {inherits: a}, c: {inherits: [b], args: {Y: 2}}}").values("c")["args"] == {
        "X": "1",
        "Y": "2",
    }


def test_a_buildfile_said_later_replaces_an_inherited_inline_one() -> None:
    read_file = read("targets: {a: {buildfile-inline: FROM scratch}, b: {inherits: [a], buildfile: other}}")
    assert read_file.values("b") == {"dockerfile": "other"}


def test_inherits_circle() -> None:
    text = "targets:\n  a: {inherits: [b]}\n  b: {inherits: [c]}\n  c:\n    inherits: [b]\n"
    assert refused(text, words=["a"]) == "file:5:16: targets inherit each other in a circle: b -> c -> b"


def test_inherits_of_oneself() -> None:
    assert "in a circle: a -> a" in refused("targets: {a: {inherits: [a]}}", words=["a"])


def test_inherits_of_nothing() -> None:
    assert refused("targets: {common: {}, a: {inherits: [comon]}}", words=["a"]) == (
        "file:1:38: there is no target 'comon' to inherit (did you mean common?)"
    )


def test_inherits_too_deep() -> None:
    chain = ", ".join(f"t{number}: {{inherits: [t{number + 1}]}}" for number in range(300))
    assert "deeper than 100" in refused(f"targets: {{{chain}, t300: {{}}}}", words=["t0"])


GROUPS = """
groups: {default: [a, more], more: {targets: [b, a], description: d}, all: [default, c]}
targets: {a: {}, b: {}, c: {}}
"""


def test_groups() -> None:
    selection = read(GROUPS).select("all")
    assert list(selection.targets) == ["a", "b", "c"]
    assert selection.groups == {"all": ("default", "c"), "default": ("a", "more"), "more": ("b", "a")}


def test_default_group_and_default_target() -> None:
    assert list(read(GROUPS).select().targets) == ["a", "b"]
    assert list(read("targets: {default: {}, a: {}}").select().targets) == ["default"]


def test_words_name_targets_groups_and_patterns() -> None:
    selection = read(GROUPS).select("c", "mor*", "c")
    assert list(selection.targets) == ["c", "b", "a"]
    assert selection.groups["default"] == ("c", "more")


def test_no_default() -> None:
    assert refused("targets: {a: {}, b: {}}") == (
        "no target was named, and there is none with the name default (name one of a, b, or add a group: default)"
    )


def test_no_such_target() -> None:
    assert refused(GROUPS, words=["mores"]) == "there is no target or group 'mores' (did you mean more?)"
    assert "there is no target or group 'z*'" in refused(GROUPS, words=["z*"])


def test_group_in_itself() -> None:
    text = "groups:\n  a: [b]\n  b: [t, a]\ntargets: {t: {}}\n"
    assert refused(text, words=["a"]) == "file:3:10: the group a is in itself: a -> b -> a"


def test_group_of_its_own_name_is_the_target() -> None:
    assert list(read("groups: {a: [a, b]}\ntargets: {a: {}, b: {}}").select("a").targets) == ["a", "b"]


def test_group_of_nothing() -> None:
    assert refused("groups: {default: [apq]}\ntargets: {app: {}}") == (
        "file:1:20: the group default has no target 'apq' to name (did you mean app?)"
    )


def test_many_groups_of_groups_take_no_time() -> None:
    groups = ", ".join(f"g{n}: [g{n + 1}, h{n + 1}], h{n}: [g{n + 1}, h{n + 1}]" for n in range(60))
    assert list(read(f"groups: {{{groups}, g60: [t], h60: [t]}}\ntargets: {{t: {{}}}}").select("g0").targets) == ["t"]


MATRIX = """
targets:
  app:
    name: app-${os}-${v.short}
    matrix:
      os: [alpine, debian]
      v: [{short: a, long: 1.0}, {short: b, long: 2.0}]
    args: {OS: "${os}", V: "${v.long}"}
"""


def test_matrix_is_the_cross_product_and_a_group() -> None:
    found = read(MATRIX)
    assert list(found.project.targets) == ["app-alpine-a", "app-alpine-b", "app-debian-a", "app-debian-b"]
    assert list(found.select("app").targets) == list(found.project.targets)
    assert found.values("app-debian-b")["args"] == {"OS": "debian", "V": "2.0"}


def test_matrix_without_a_name() -> None:
    assert list(read("targets: {app: {matrix: {py: ['3.12', 3.13], x: [a]}}}").project.targets) == ["app-3-12-a", "app-3-13-a"]


def test_target_that_inherits_one_of_a_matrix() -> None:
    assert read(MATRIX + "  one: {inherits: [app-alpine-a]}\n").values("one")["args"] == {"OS": "alpine", "V": "1.0"}


def test_matrix_with_one_name_twice() -> None:
    text = "targets: {app: {name: 'x-${a}', matrix: {a: [1], b: [1, 2]}}}"
    assert refused(text, words=["app"]) == (
        "file:1:23: the matrix of app has two targets with the name 'x-1' (write a name with every key of the matrix)"
    )


def test_matrix_refused() -> None:
    assert "must be a list" in refused("targets: {a: {matrix: {x: 1}}}")
    assert "must be a list with something in it" in refused("targets: {a: {matrix: {x: []}}}")
    assert "a matrix needs a key" in refused("targets: {a: {matrix: {}}}")
    assert "only a target with a matrix" in refused("targets: {a: {name: b}}")
    assert "can't be the name of a target" in refused("targets: {a: {name: 'b c', matrix: {x: [1]}}}")
    numbers = str(list(range(40)))
    assert "more than 1000 targets" in refused(f"targets: {{a: {{matrix: {{x: {numbers}, y: {numbers}}}}}}}")


def test_variables_default_environment_and_given() -> None:
    text = """
variables: {A: one, B: '${A}-b', C: {default: c, description: what}, D: }
targets: {t: {args: {A: '$A', B: '${B}', C: '${C}', D: '${D:-d}'}}}
"""
    assert read(text).values("t")["args"] == {"A": "one", "B": "one-b", "C": "c", "D": "d"}
    assert read(text, environ={"A": "env", "D": "env"}).values("t")["args"] == {"A": "env", "B": "env-b", "C": "c", "D": "env"}
    assert read(text, environ={"A": "env"}, given={"A": "given"}).values("t")["args"] == {"A": "given", "B": "given-b", "C": "c", "D": "d"}


def test_listed_variables() -> None:
    found = read("variables: {A: {default: one, description: first}, B: }\ntargets: {t: {}}", environ={"B": "env"})
    assert [(each.name, each.default, each.value, each.description) for each in found.project.variables] == [
        ("A", "one", "one", "first"),
        ("B", None, "env", ""),
    ]


def test_undeclared_variable() -> None:
    assert refused("targets:\n  t: {tags: ['a:$TAGG']}\n").startswith(
        "file:2:14: the variable TAGG is neither declared nor in the environment"
    )


def test_variable_made_of_itself() -> None:
    assert "the variable A is made of itself: A -> B -> A" in refused("variables: {A: '$B', B: '${A}'}\ntargets: {t: {tags: [$A]}}")


def test_variables_that_grow_or_go_deep() -> None:
    doubled = ", ".join(f"v{number}: $v{number + 1}$v{number + 1}" for number in range(18))
    assert "make a text that is too long" in refused(f"variables: {{{doubled}, v18: '{'x' * 10}'}}\ntargets: {{t: {{tags: [$v0]}}}}")
    chain = ", ".join(f"v{number}: $v{number + 1}" for number in range(3000))
    assert "deeper than 20 in each other" in refused(f"variables: {{{chain}, v3000: x}}\ntargets: {{t: {{tags: [$v0]}}}}")


def test_an_inline_buildfile_is_verbatim() -> None:
    text = "targets: {t: {buildfile-inline: 'FROM scratch\nENV A=$B ${C}'}}".replace("\n", "\\n").replace("'", '"')
    assert read(text).values("t")["dockerfile-inline"] == "FROM scratch\nENV A=$B ${C}"


def test_unknown_keys() -> None:
    assert refused("targets:\n  a:\n    contxt: .\n") == "file:3:5: unknown key 'contxt' in the target a (did you mean context?)"
    assert "unknown key 'target5' in a build file (did you mean targets?)" in refused("target5: {}")
    assert refused("groups: {g: {x: []}}\ntargets: {a: {}}").startswith("file:1:14: unknown key 'x' in the group g")
    assert "unknown key 'defualt' in the variable A" in refused("variables: {A: {defualt: 1}}\ntargets: {a: {}}")


def test_names_that_mean_the_same_said_twice() -> None:
    assert refused("targets: {a: {platform: [x], platforms: [y]}}").startswith("file:1:30: 'platforms' says again what 'platforms' said")


def test_a_settings_file_is_no_build_file() -> None:
    message = refused("compression: gzip\nparallelism: 2\n")
    assert message.startswith("file:1:1: 'compression' belongs to the settings file, and this is a build file")


def test_a_file_without_targets() -> None:
    assert "the build file has no targets" in refused("x-a: 1")
    assert "a build file must be a mapping" in refused("[a]")


def test_wrong_kinds() -> None:
    assert refused("targets: {a: {tags: x}}").startswith("file:1:21: a list is expected here")
    assert refused("targets: {a: {no-cache: maybe}}").startswith("file:1:25: true or false is expected here")
    assert refused("targets: {a: {context: [x]}}").startswith("file:1:24: a word is expected here")
    assert refused("targets: {a: [x]}").startswith("file:1:14: the target a must be a mapping")
    assert refused("targets: {a: {args: [=x]}}").startswith("file:1:22: '=x' has no name")
    assert refused("targets: {a b: {}}").startswith("file:1:11: 'a b' can't be the name of a target")


def test_a_buildfile_twice() -> None:
    assert "names a Buildfile and holds another one" in refused("targets: {a: {buildfile: x, buildfile-inline: FROM scratch}}")


def test_all_kinds_of_values() -> None:
    text = """
targets:
  a:
    args: [A=1=2, B]
    labels: {N: 1, T: true, E: ''}
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}
    add-hosts: ["a:1.2.3.4", "b=::1"]
    outputs: [{type: oci, dest: x.tar}, "type=docker"]
    ssh: {default: , key: /k}
    annotations: {"index:a": b}
    allow: [network.host]
    pull: newer
    shm-size: 1g
"""
    assert read(text).values("a") == {
        "args": {"A": "1=2", "B": None},
        "labels": {"N": "1", "T": "true", "E": ""},
        "ulimits": ("nofile=1:2", "nproc=3"),
        "extra-hosts": {"a": "1.2.3.4", "b": "::1"},
        "output": ("type=oci,dest=x.tar", "type=docker"),
        "ssh": ("default", "key=/k"),
        "annotations": ("index:a=b",),
        "entitlements": ("network.host",),
        "pull": "newer",
        "shm-size": "1g",
    }


def test_relative_paths_start_at_the_file() -> None:
    text = """
targets:
  a: {context: ../x, contexts: {d: d, i: "docker-image://i", t: "target:b", u: "https://h/x"}}
  b: {secrets: ["id=s,src=f", "id=e,type=env,src=V"], outputs: ["type=local,dest=out", "here"], ssh: ["k=a,/b"]}
  c: {context: /abs}
  d: {}
"""
    found = read(text, directory="sub/dir")
    assert found.values("a")["context"] == "sub/x"
    assert found.values("a")["contexts"] == {"d": "sub/dir/d", "i": "docker-image://i", "t": "target:b", "u": "https://h/x"}
    assert found.values("b") == {
        "secret": ("id=s,src=sub/dir/f", "id=e,type=env,src=V"),
        "output": ("type=local,dest=sub/dir/out", "sub/dir/here"),
        "ssh": ("k=sub/dir/a,/b",),
    }
    assert found.values("c")["context"] == "/abs"
    assert found.select("d").targets["d"].home == "sub/dir"


def test_several_files() -> None:
    found = read(
        "variables: {V: 1}\ngroups: {default: [a]}\ntargets: {a: {args: {A: '$V', B: x}, tags: [one]}}",
        "variables: {V: 2}\ngroups: {default: [b]}\ntargets: {a: {args: {B: y}, tags: [two]}, b: {inherits: [a]}}",
    )
    assert list(found.select().targets) == ["b"]
    assert found.values("b") == {"args": {"A": "2", "B": "y"}, "tags": ("two",)}


def test_linked_targets_come_first_and_are_not_asked_for() -> None:
    selection = read("targets: {a: {contexts: {x: 'target:b'}}, b: {contexts: {y: 'target:c'}}, c: {}}").select("a")
    assert list(selection.targets) == ["c", "b", "a"]
    assert selection.asked == {"a"}


def test_links_in_a_circle() -> None:
    text = "targets:\n  a: {contexts: {x: 'target:b'}}\n  b:\n    contexts: {y: 'target:a'}\n"
    assert refused(text, words=["a"]) == "file:4:5: targets read each other in a circle: a -> b -> a"


def test_link_to_nothing() -> None:
    assert refused("targets: {app: {}, b: {contexts: {y: 'target:ap'}}}", words=["b"]) == (
        "file:1:24: there is no target 'ap' to read (did you mean app?)"
    )


_NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


@given(st.dictionaries(st.sampled_from("abcdefgh"), _NAMES, min_size=1))
def test_any_links_come_in_an_order_in_which_they_can_be_built_or_are_refused(links: dict[str, list[str]]) -> None:
    lines = [f"  {name}: {{contexts: {{{', '.join(f'{other}: target:{other}' for other in others)}}}}}" for name, others in links.items()]
    lines += [f"  {name}: {{}}" for name in sorted({other for others in links.values() for other in others} - set(links))]
    text = "targets:\n" + "\n".join(lines)
    try:
        selection = read(text).select(*links)
    except Exception as error:
        assert "in a circle" in str(error), text
        return
    seen: set[str] = set()
    for name, target in selection.targets.items():
        assert set(target.linked()) <= seen
        seen.add(name)

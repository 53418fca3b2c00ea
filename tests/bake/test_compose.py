"""The build sections of compose files, and variables as compose has them."""

from __future__ import annotations

from .reading import read, refused

ALL = """
x-common: &common
  args: {A: one, B: 2, C: true, D: }
services:
  web.app:
    image: example/web
    ports: ["80:80"]
    build:
      <<: *common
      context: ./web
      dockerfile: Dockerfile.web
      target: prod
      labels: ["l=1"]
      additional_contexts: {base: "service:db.main", src: ./src}
      network: none
      shm_size: 64m
      platforms: [linux/amd64]
      extra_hosts: ["h:1.2.3.4", "h:1.2.3.5"]
      ulimits: {nofile: {soft: 1, hard: 2}}
      no_cache: true
      pull: true
      cache_from: [x]
      secrets: [token, {source: env, target: renamed}]
      ssh: [default]
      x-other: 1
  db.main:
    build: db
  only-an-image:
    image: busybox
secrets:
  token: {file: ./token.txt}
  env: {environment: TOKEN}
"""


def test_a_whole_section() -> None:
    found = read(ALL, directory="sub")
    selection = found.select()
    assert list(selection.targets) == ["db_main", "web_app"]
    assert selection.asked == {"db_main", "web_app"}
    assert found.values("web_app") == {
        "args": {"A": "one", "B": "2", "C": "true", "D": None},
        "context": "sub/web",
        "dockerfile": "Dockerfile.web",
        "target": "prod",
        "labels": {"l": "1"},
        "contexts": {"base": "target:db_main", "src": "sub/src"},
        "network": "none",
        "shm-size": "64m",
        "platforms": ("linux/amd64",),
        "extra-hosts": {"h": "1.2.3.4,1.2.3.5"},
        "ulimits": ("nofile=1:2",),
        "no-cache": True,
        "pull": "true",
        "secret": ("id=token,src=sub/token.txt", "id=renamed,env=TOKEN"),
        "ssh": ("default",),
        "tags": ("example/web",),
    }
    assert found.values("db_main") == {"context": "sub/db"}
    assert len(found.notices) == 1
    assert "cache_from is left out" in found.notices[0]


def test_tags_come_before_the_image() -> None:
    assert read("services: {a: {image: i, build: {tags: [x, y]}}}").values("a") == {"tags": ("x", "y")}


def test_x_bake() -> None:
    text = """
services:
  a:
    image: i
    build:
      context: .
      tags: [x]
      x-bake: {tags: "y z", platforms: linux/amd64, no-cache: true, contexts: {b: "target:b"}, output: [{type: oci, dest: f}]}
  b: {build: b}
"""
    assert read(text).values("a") == {
        "context": ".",
        "tags": ("x", "y", "z"),
        "platforms": ("linux/amd64",),
        "no-cache": True,
        "contexts": {"b": "target:b"},
        "output": ("type=oci,dest=f",),
    }


def test_an_override_file() -> None:
    found = read("services: {a: {image: i, build: {context: x, args: {A: 1, B: 1}}}}", "services: {a: {image: j, build: {args: [B=2]}}}")
    assert found.values("a") == {"context": "x", "args": {"A": "1", "B": "2"}, "tags": ("j",)}


def test_extends() -> None:
    found = read("services: {base: {build: {context: x, args: {A: 1}}}, a: {extends: {service: base}, image: i}, b: {extends: a}}")
    assert found.values("a") == {"context": "x", "args": {"A": "1"}, "tags": ("i",)}
    assert list(found.select().targets) == ["base", "a", "b"]
    assert "a service of another file" in refused("services: {a: {extends: {service: b, file: c.yml}}}")


def test_variables() -> None:
    text = "services: {a: {image: 'i:${TAG:-latest}', build: {context: $WHERE, args: {A: '$$x', B: '$GONE', C: '${FROM_FILE}'}}}}"
    found = read(text, environ={"WHERE": "here"}, dotenv={"FROM_FILE": "f", "WHERE": "there"})
    assert found.values("a") == {"context": "here", "args": {"A": "$x", "B": "", "C": "f"}, "tags": ("i:latest",)}
    column = text.index("'$GONE'") + 1
    assert found.notices == [f"file:1:{column}: the variable GONE is not set, and counts as empty"]


def test_arguments_without_a_value() -> None:
    text = "services: {a: {build: {args: [A, B, C]}}, b: {build: {args: {A: }}}}"
    found = read(text, environ={"A": "env"}, dotenv={"A": "x", "B": "file"})
    assert found.values("a")["args"] == {"A": "env", "B": "file", "C": None}
    assert found.values("b")["args"] == {"A": "env"}


def test_a_variable_that_is_needed() -> None:
    assert "the variable TAG is needed: set it" in refused("services: {a: {build: {tags: ['${TAG:?set it}']}}}")


def test_an_inline_dockerfile_has_variables_too() -> None:
    text = "services: {a: {build: {dockerfile_inline: 'FROM $BASE'}}}"
    assert read(text, environ={"BASE": "busybox"}).values("a") == {"dockerfile-inline": "FROM busybox"}


def test_refused() -> None:
    assert refused("services:\n  a:\n    build:\n      contxt: x\n").startswith(
        "file:4:7: unknown key 'contxt' in build of a (did you mean context?)"
    )
    assert "not both" in refused("services: {a: {build: {dockerfile: x, dockerfile_inline: FROM scratch}}}")
    assert "there is no secret 'x'" in refused("services: {a: {build: {secrets: [x]}}}")
    assert "neither a file nor in the environment" in refused("services: {a: {build: {secrets: [x]}}}\nsecrets: {x: {external: true}}")
    assert "can't be the name of a target" in refused("services: {'a b': {build: .}}")
    assert "services must be a mapping" in refused("services: []")
    assert "the service a must be a mapping" in refused("services: {a: x}")
    assert "beside 'services'" in refused("services: {a: {build: .}}\ntargets: {a: {}}")
    assert "there is no target or group 'b'" in refused("services: {a: {image: x}}", words=["b"])


def test_services_without_a_build_are_no_targets_to_build() -> None:
    found = read("services: {a: {image: x}, b: {build: .}}")
    assert list(found.select().targets) == ["b"]

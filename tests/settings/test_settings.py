"""The settings file: what its keys mean, and where its errors point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import SettingsError
from imgbuild.graph.ops import Limits
from imgbuild.layer.compression import Compression
from imgbuild.registry.endpoints import RegistryRule
from imgbuild.settings import Settings
from imgbuild.settings.load import load_settings, parse_settings

FULL = """\
registries:
  docker.io:
    mirrors: ["http://127.0.0.1:5000", mirror.internal/prefix]
  "registry.internal:5000":
    plain-http: true
    ca: /etc/ssl/internal.pem
  other.internal:
    insecure: true
    ca: certs/other.pem
network:
  ca: company.pem
  attempts: 3
  connect-timeout: 5s
  read-timeout: 1m
  longest-wait: 2m30s
  parallel: 8
  chunk-size: 16m
compression: gzip
compression-level: 1
parallelism: 2
limits:
  memory: 4g
  memory-swap: unlimited
  cpus: 1.5
  pids: 100
  timeout: 30m
  idle-timeout: 90s
  retry: 2
build-timeout: 2h
cache:
  unused: 24h
  failed: 1h
  failed-steps: 2
  failed-size: 100m
silence: 10s
memory: 6g
history: {age: 2h, size: 10m, log: 1m}
"""


def _read(text: str) -> Settings:
    return parse_settings(text, "imgbuild.yaml", Path("/etc/imgbuild"))


def test_every_key() -> None:
    found = _read(FULL)
    registries = found.registries
    assert registries is not None
    assert registries.rules == (
        RegistryRule("docker.io", mirrors=("http://127.0.0.1:5000", "mirror.internal/prefix")),
        RegistryRule("registry.internal:5000", plain_http=True, ca_file=Path("/etc/ssl/internal.pem")),
        RegistryRule("other.internal", verify_tls=False, ca_file=Path("/etc/imgbuild/certs/other.pem")),
    )
    assert registries.ca_file == Path("/etc/imgbuild/company.pem")
    assert (registries.attempts, registries.parallel, registries.chunk_bytes) == (3, 8, 16 << 20)
    assert (registries.connect_timeout, registries.read_timeout, registries.longest_wait) == (5.0, 60.0, 150.0)
    assert found.compression == Compression("gzip", 1)
    assert found.parallelism == 2
    assert found.limits == Limits(4 << 30, -1, 1.5, 100, 1800.0, 90.0, 2)
    assert (found.build_timeout, found.keep_unused, found.keep_failed) == (7200.0, 86400.0, 3600.0)
    assert (found.keep_failed_steps, found.keep_failed_size, found.silence) == (2, 100 << 20, 10.0)
    assert (found.memory, found.history_age, found.history_size, found.history_log) == (6 << 30, 7200.0, 10 << 20, 1 << 20)


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n", "registries:\nlimits:\n", "{}"])
def test_saying_nothing(text: str) -> None:
    assert _read(text) in (Settings(), Settings(limits=None))


WRONG = [
    ("compresion: zstd", (1, 1), "unknown key 'compresion' in the settings", "did you mean compression?"),
    ("limits:\n  memroy: 1g", (2, 3), "unknown key 'memroy' in limits", "did you mean memory?"),
    ("registries:\n  docker.io:\n    plain_htp: true", (3, 5), "unknown key", "did you mean plain-http?"),
    ("network:\n  zzzzzzzz: 1", (2, 3), "unknown key", "network has: ca, attempts"),
    ("limits: {memory: 1g, memory: 2g}", (1, 22), "twice", "line 1"),
    ("registries:\n  a.b:\n  docker.io:\n  a.b:\n", (4, 3), "twice", "line 2"),
    ("limits: [1]", (1, 9), "limits must be a mapping", None),
    ("[]", (1, 1), "the settings must be a mapping", None),
    ("hello", (1, 1), "the settings must be a mapping", None),
    ("registries:\n  docker.io:\n    mirrors: http://a", (3, 14), "a list is expected", "[a, b]"),
    ("registries:\n  docker.io:\n    mirrors: ['ftp://a']", (3, 14), "not [http[s]://]host", None),
    ("registries:\n  docker.io:\n    mirrors: ['http://[::1']", (3, 14), "", None),
    ("registries:\n  docker.io:\n    mirrors: [[a]]", (3, 15), "a word is expected", None),
    ("registries:\n  docker.io:\n    plain-http: maybe", (3, 17), "true or false", None),
    ("registries:\n  docker.io:\n    plain-http: 'true'", (3, 17), "true or false", None),
    ("registries:\n  internal: {}", (2, 3), "'internal' is not a registry's name", "registry.internal:5000"),
    ("registries:\n  'http://a.b': {}", (2, 3), "is not a registry's name", None),
    ("compression: lz4", (1, 14), "unknown compression 'lz4'", "zstd, gzip, none"),
    ("compression-level: 99", (1, 20), "no level 99", "the highest is 19"),
    ("compression: {kind: gzip}", (1, 14), "a word is expected", None),
    ("parallelism: 0", (1, 14), "above 0", None),
    ("parallelism: -1", (1, 14), "not a whole number", None),
    ("parallelism: many", (1, 14), "not a whole number", None),
    ("limits: {memory: lots}", (1, 18), "not a size", "512m"),
    ("limits: {cpus: 0}", (1, 16), "no CPUs", None),
    ("limits: {timeout: 30}", (1, 19), "not a duration", "90s"),
    ("build-timeout: 0", (1, 16), "above 0", "90s"),
    ("limits: {memory: !!python/object:os.system 1g}", (1, 18), "a word is expected", None),
    ("limits: {memory: ''}", (1, 18), "a word is expected", None),
    ("? [a]\n: b", (1, 3), "a key of the settings must be a word", None),
    ("a: b: c", (1, 5), "not YAML", None),
    ("limits: {", (1, 10), "not YAML", None),
    ("a: *nobody", (1, 4), "not YAML", None),
    ("--- a\n--- b", (2, 1), "not YAML", None),
    ("\tlimits: 1", (1, 1), "not YAML", None),
]


@pytest.mark.parametrize(("text", "place", "message", "hint"), WRONG, ids=[repr(row[0]) for row in WRONG])
def test_errors_point_at_what_is_wrong(text: str, place: tuple[int, int], message: str, hint: str | None) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(text)
    error = caught.value
    assert message in error.message
    assert error.at is not None
    assert (error.at.line, error.at.column) == place
    assert error.at.end_column > error.at.column
    assert error.at.source.lines == tuple(text.splitlines())
    if hint is not None:
        assert hint in (error.hint or "")


@given(st.text(st.sampled_from(list("abcdeilmnoprstyz:-{}[]?*&!|>'\"# \n\t019,%@`\\\0\x85é")), max_size=60))
def test_any_text_is_settings_or_one_error(text: str) -> None:
    try:
        _read(text)
    except SettingsError as error:
        assert error.message


@pytest.mark.parametrize("text", ["[" * 10_000, "a: " + "{b: " * 5000, "- " * 10_000])
def test_deep_nesting(text: str) -> None:
    with pytest.raises(SettingsError):
        _read(text)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "imgbuild.yaml"
    with pytest.raises(SettingsError, match="can't read") as caught:
        load_settings(path)
    assert "IMGBUILD_CONFIG" in (caught.value.hint or "")
    with pytest.raises(SettingsError, match="Is a directory"):
        load_settings(tmp_path)
    path.write_bytes(b"\xef\xbb\xbfnetwork:\r\n  ca: own.pem\r\n")
    registries = load_settings(path).registries
    assert registries is not None
    assert registries.ca_file == tmp_path / "own.pem"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(SettingsError, match="UTF-8") as caught:
        load_settings(path)
    assert str(caught.value.at) == f"{path}:2"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(SettingsError, match="larger"):
        load_settings(path)


def test_the_values_load_neither_yaml_nor_other_rooms() -> None:
    code = "import sys, imgbuild.settings; print({'yaml', 'imgbuild.graph', 'imgbuild.layer', 'imgbuild.registry'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    assert shown.stdout == "set()\n"

"""Credentials in docker's and containers' files, and by helpers."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from imgbuild.errors import AuthError, SettingsError
from imgbuild.registry.credentials import Credential, Credentials

HELPER = """#!/bin/sh
case "$1" in
get) read -r server; if [ -f "$STATE" ]; then cat "$STATE"; else echo "credentials not found in native keychain"; exit 1; fi;;
store) cat > "$STATE";;
erase) read -r server; rm -f "$STATE";;
esac
"""


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def helper(tmp_path: Path) -> dict[str, str]:
    """An environment with a helper `fake` on its PATH."""
    program = tmp_path / "bin" / "docker-credential-fake"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "STATE": str(tmp_path / "state")}


def test_nothing_is_known_without_files(tmp_path: Path) -> None:
    assert Credentials().get("a.example") is None
    assert Credentials([tmp_path / "missing.json"]).get("a.example") is None


@pytest.mark.parametrize("key", ["a.example", "https://a.example/v2/", "http://a.example"])
def test_docker_keys(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "config.json", {"auths": {key: auth("me", "pass:word")}})
    assert Credentials([path]).get("a.example") == Credential("me", "pass:word")
    assert Credentials([path]).get("a.example:5000") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "config.json", {"auths": {key: auth("me", "p")}})
    assert Credentials([path]).get("docker.io") == Credential("me", "p")


def test_the_most_specific_entry_of_podman_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"a.example": auth("all", "1"), "a.example/team": auth("team", "2")}})
    known = Credentials([path])
    assert known.get("a.example", "team/image") == Credential("team", "2")
    assert known.get("a.example", "other/image") == Credential("all", "1")


def test_files_are_asked_in_order(tmp_path: Path) -> None:
    first = write(tmp_path / "1.json", {"auths": {"b": auth("first", "1")}})
    second = write(tmp_path / "2.json", {"auths": {"a": auth("a", "2"), "b": auth("second", "2")}})
    known = Credentials([first, second])
    assert known.get("a") == Credential("a", "2")
    assert known.get("b") == Credential("first", "1")


def test_identity_token(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", {"auths": {"a": {**auth("me", ""), "identitytoken": "long"}}})
    assert Credentials([path]).get("a") == Credential("me", identity_token="long")


def test_store_keeps_what_it_does_not_know_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.json"
    path.parent.mkdir()
    write(path, {"psFormat": "x", "auths": {"b": auth("b", "b")}})
    Credentials([path]).store("docker.io", Credential("me", "hush"))
    found = json.loads(path.read_text())
    assert found["psFormat"] == "x" and found["auths"]["b"] == auth("b", "b")
    assert found["auths"]["https://index.docker.io/v1/"] == auth("me", "hush")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["config.json"]


def test_store_makes_the_directory_and_follows_a_link(tmp_path: Path) -> None:
    target = write(tmp_path / "real.json", {})
    link = tmp_path / "deep" / "config.json"
    link.parent.mkdir()
    link.symlink_to(target)
    Credentials([link]).store("a", Credential("me", "p"))
    assert link.is_symlink() and "a" in json.loads(target.read_text())["auths"]
    Credentials([tmp_path / "x" / "y" / "config.json"]).store("a", Credential("me", "p"))
    assert (tmp_path / "x" / "y" / "config.json").exists()


def test_erase(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", {"auths": {"a": auth("me", "p"), "https://a/v1/": auth("me", "p"), "b": {}}, "x": 1})
    known = Credentials([path])
    assert known.erase("a") is True
    assert known.erase("a") is False
    assert json.loads(path.read_text()) == {"auths": {"b": {}}, "x": 1}


def test_helper_round_trip(tmp_path: Path, helper: dict[str, str]) -> None:
    path = write(tmp_path / "config.json", {"credsStore": "fake"})
    known = Credentials([path], environment=helper)
    assert known.get("a") is None
    known.store("a", Credential("me", "hush"))
    assert json.loads(Path(helper["STATE"]).read_text()) == {"ServerURL": "a", "Username": "me", "Secret": "hush"}
    assert "hush" not in path.read_text()
    assert known.get("a") == Credential("me", "hush")
    assert known.erase("a") is True
    assert known.get("a") is None


def test_helper_of_one_registry_and_its_identity_token(tmp_path: Path, helper: dict[str, str]) -> None:
    path = write(tmp_path / "config.json", {"credHelpers": {"a": "fake"}, "auths": {"b": auth("b", "p")}})
    Path(helper["STATE"]).write_text('{"Username": "<token>", "Secret": "long"}')
    known = Credentials([path], environment=helper)
    assert known.get("a") == Credential("", identity_token="long")
    assert known.get("b") == Credential("b", "p")


def test_a_missing_helper_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", {"credsStore": "nowhere"})
    with pytest.raises(AuthError, match="docker-credential-nowhere"):
        Credentials([path]).get("a")


def test_a_failing_store_does_not_tell_the_secret(tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-echo"
    program.write_text("#!/bin/sh\ncat\nexit 3\n")
    program.chmod(0o755)
    path = write(tmp_path / "config.json", {"credsStore": "echo"})
    known = Credentials([path], environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(AuthError) as caught:
        known.store("a", Credential("me", "hush-hush"))
    assert "hush-hush" not in f"{caught.value} {caught.value.detail} {caught.value.hint}"


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b"])
def test_a_helper_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        Credentials([write(tmp_path / "config.json", {"credsStore": name})]).get("a")


@pytest.mark.parametrize("text", ["[]", "{", '{"auths": []}', '{"auths": {"a": {"auth": "é"}}}'])
def test_a_broken_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SettingsError):
        Credentials([path]).get("a")

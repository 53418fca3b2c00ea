"""What is read of a machine's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import machine
from demo.machine import MachineError, apt_sources, pip_settings, proxies

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_one_line_sources(apt: Path) -> None:
    (apt / "sources.list").write_text(
        f"# deb http://old.example/debian bookworm main\n"
        f"deb [arch=amd64 signed-by={KEYRING}] http://a.example/debian bookworm main contrib # near\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://a.example/debian-security bookworm-security main\n"
        "deb http://a.example/debian bookworm-backports main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
    )
    sources = apt_sources("bookworm", apt)
    assert sources.text.split("\n\n") == [
        "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main contrib\nArchitectures: amd64\n"
        f"Signed-By: {KEYRING}",
        "Types: deb\nURIs: http://a.example/debian-security\nSuites: bookworm-security\nComponents: main\n",
    ]
    assert sources.keyrings == (KEYRING,)


def test_deb822_sources(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(
        f"Types: deb deb-src\n# a mirror\nURIs: http://a.example/debian\nSuites: trixie trixie-updates trixie-backports\nComponents: main\n"
        f"Signed-By: {KEYRING}\n\n"
        "Types: deb\nURIs: http://b.example/debian\nSuites: trixie\nComponents: main\nEnabled: no\n"
        " \n"
        "Types: deb\nURIs: http://a.example/debian-security\nSuites: trixie-security\nComponents: main\nSigned-By:\n BEGIN\n .\n END\n"
    )
    sources = apt_sources("trixie", apt)
    assert sources.text == (
        f"Types: deb\nURIs: http://a.example/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: {KEYRING}\n\n"
        "Types: deb\nURIs: http://a.example/debian-security\nSuites: trixie-security\nComponents: main\nSigned-By: \n BEGIN\n .\n END\n"
    )
    assert sources.keyrings == (KEYRING,)


def test_third_parties_are_left_out(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (apt / "sources.list.d" / "x.list").write_text(
        "deb https://x.example/apt x-bookworm main\ndeb https://y.example/debian bookworm stable\n"
        "deb [signed-by=/usr/share/keyrings/z.gpg] https://z.example/debian bookworm main\n"
    )
    (apt / "sources.list.d" / "y.list.save").write_text("deb http://saved.example/debian bookworm main\n")
    assert apt_sources("bookworm", apt).text == "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n"


def test_a_list_of_mirrors_is_followed(apt: Path) -> None:
    (apt / "mirrors").write_text("# near\nhttp://near.example/debian\tpriority:1\nhttp://far.example/debian\n")
    (apt / "sources.list").write_text(f"deb mirror+file:{apt}/mirrors bookworm main\n")
    assert "URIs: http://near.example/debian\n" in apt_sources("bookworm", apt).text


def test_no_source_of_the_release(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://a.example/debian bookworm-updates main\n")
    with pytest.raises(MachineError, match="names no source of bookworm"):
        apt_sources("bookworm", apt)


def test_pip_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_bytes(b"certificates")
    settings = {
        "index-url": "https://user:word@index.example/simple",
        "extra-index-url": "file:///local/simple https://more.example/simple",
        "find-links": "/wheels",
        "default-timeout": "180",
        "cert": str(tmp_path / "ca.pem"),
    }
    monkeypatch.setattr(machine, "_pip_config", lambda environ: settings)
    found = pip_settings({}, "/run/secrets/ca.pem")
    assert found.certificates == b"certificates"
    assert found.configuration.splitlines() == [
        "[global]",
        "disable-pip-version-check = true",
        "timeout = 180",
        "index-url = https://user:word@index.example/simple",
        "extra-index-url = https://more.example/simple",
        "cert = /run/secrets/ca.pem",
        "",
    ]
    assert "word" not in repr(found)


def test_pip_settings_of_the_environment_come_last() -> None:
    environ = {"PATH": "/usr/bin:/bin", "PIP_INDEX_URL": "https://environment.example/simple", "PIP_CONFIG_FILE": "/dev/null"}
    assert "index-url = https://environment.example/simple" in pip_settings(environ, "/ca").configuration


def test_proxies() -> None:
    found = proxies({"HTTPS_PROXY": "http://p.example:3128", "no_proxy": "localhost", "NO_PROXY": "ignored"})
    assert (found["https_proxy"], found["no_proxy"]) == ("http://p.example:3128", "localhost")

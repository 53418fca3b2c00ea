"""Which URLs stand for a registry."""

from __future__ import annotations

import pytest

from imgbuild.errors import SettingsError
from imgbuild.registry.endpoints import RegistryRule, RegistrySettings, is_loopback, pull_endpoints, registry_endpoint


def test_docker_hub_has_another_host_and_another_name_for_credentials() -> None:
    endpoint = registry_endpoint(RegistrySettings(), "docker.io")
    assert (endpoint.host, endpoint.schemes, endpoint.key) == ("registry-1.docker.io", ("https",), "https://index.docker.io/v1/")


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000", "a.localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert registry_endpoint(RegistrySettings(), host).schemes == ("http", "https")


@pytest.mark.parametrize("host", ["localhost.example.com", "10.0.0.1:5000", "example.com", "[fe80::1]", "128.0.0.1"])
def test_elsewhere_is_https(host: str) -> None:
    assert registry_endpoint(RegistrySettings(), host).schemes == ("https",)


def test_a_rule_decides_the_scheme() -> None:
    settings = RegistrySettings(rules=(RegistryRule("a.example", plain_http=True), RegistryRule("localhost:1", plain_http=False)))
    assert registry_endpoint(settings, "a.example").schemes == ("http",)
    assert registry_endpoint(settings, "localhost:1").schemes == ("https",)


def test_mirrors_come_first_and_keep_their_prefix() -> None:
    rule = RegistryRule("docker.io", mirrors=("http://127.0.0.1:5000", "mirror.example/hub/"))
    first, second, last = pull_endpoints(RegistrySettings(rules=(rule,)), "docker.io")
    assert (first.host, first.schemes, first.repository("library/a")) == ("127.0.0.1:5000", ("http",), "library/a")
    assert (second.host, second.schemes, second.repository("library/a")) == ("mirror.example", ("https",), "hub/library/a")
    assert last.host == "registry-1.docker.io"


@pytest.mark.parametrize("text", ["ftp://x", "http://user:secret@x", "https://", "http://x/?q"])
def test_a_wrong_mirror_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        pull_endpoints(RegistrySettings(rules=(RegistryRule("a", mirrors=(text,)),)), "a")
    assert "secret" not in str(caught.value)

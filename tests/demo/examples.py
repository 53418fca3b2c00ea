"""The examples: how each is built, and what it must answer when it is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.cli import Imgbuild
from demo.machine import pip_settings, proxies

EXAMPLES = Path(__file__).resolve().parents[2] / "Buildfile.examples"
_CERTIFICATES_AT = "/run/secrets/ca.pem"


@dataclass(frozen=True, slots=True)
class Example:
    """A directory of Buildfile.examples. `reproducible`: built anywhere from the same bases, it has the same digest.

    `check` runs the image and fails with an AssertionError; it returns what it saw, in a few words.
    """

    name: str
    check: Callable[[Imgbuild, str], str]
    reproducible: bool = True
    targets: tuple[str, ...] = ()
    pip: bool = False

    @property
    def directory(self) -> Path:
        return EXAMPLES / self.name


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What this machine adds to a build so that it reaches its packages."""

    common: tuple[str, ...] = ()
    pip: tuple[str, ...] = field(default=(), repr=False)

    def of(self, example: Example) -> tuple[str, ...]:
        """Those that `example` needs."""
        return (*self.common, *self.pip) if example.pip else self.common


@dataclass(frozen=True, slots=True)
class Bases:
    """A registry that mirrors the default one with the base images, settings that say so, and what builds need besides."""

    url: str
    settings: Path
    options: BuildOptions


@contextmanager
def build_options(environ: Mapping[str, str]) -> Iterator[BuildOptions]:
    """Proxies as build args; pip's settings and certificates as secrets, in files that last as long as the block."""
    common = [word for name, value in proxies(environ).items() for word in ("--build-arg", f"{name}={value}")]
    settings = pip_settings(environ, _CERTIFICATES_AT)
    with TemporaryDirectory(prefix="imgbuild-demo-") as directory:  # 0700: an index URL may hold a password
        words = []
        for name, content in (("pip-conf", settings.configuration.encode()), ("ca", settings.certificates)):
            if content:
                file = Path(directory) / name
                file.write_bytes(content)
                words += ["--secret", f"id={name},src={file}"]
        yield BuildOptions(tuple(common), tuple(words))


def _same(actual: object, expected: object) -> None:
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


def _config(imgbuild: Imgbuild, image: str) -> Mapping[str, object]:
    config = json.loads(imgbuild("inspect", image).stdout)[0]["Config"]
    assert isinstance(config, dict)
    return config


def _hello(imgbuild: Imgbuild, image: str) -> str:
    greeting = imgbuild("run", "--rm", image).stdout
    _same(greeting, "Hello, world!\n")
    _same(imgbuild("run", "--rm", image, "Ada", "Grace").stdout, "Hello, Ada!\nHello, Grace!\n")
    return greeting.strip()


def _static_site(imgbuild: Imgbuild, image: str) -> str:
    with imgbuild.serving(image) as service:
        status, page = service.fetch("/")
        _same((status, "<title>Tide tables</title>" in page, "&amp; in metres; a height &lt; 0.5 m" in page), (200, True, True))
        _same(service.fetch("/style.css")[0], 200)
        status, missing = service.fetch("/moon.html")  # a draft, which .dockerignore leaves out
        _same((status, "The tide has taken it." in missing), (404, True))
        _same(imgbuild("exec", service.container, "id", "-un").stdout, "www-data\n")
    return "GET / 200 Tide tables"


def _python_app(imgbuild: Imgbuild, image: str) -> str:
    with imgbuild.serving(image) as service:
        status, answer = service.fetch("/count", b"to be or not to be")
        _same((status, json.loads(answer)["most"]["be"]), (200, 2))
        _same(imgbuild("exec", service.container, "python3", "-m", "app.healthy").returncode, 0)
        _same(imgbuild("exec", service.container, "id", "-un").stdout, "app\n")
    _same("Healthcheck" in _config(imgbuild, image), True)
    # The secrets, and the places where they were mounted, are not in the image.
    _same(imgbuild("run", "--rm", image, "sh", "-c", f"ls -d /etc/pip.conf {_CERTIFICATES_AT} 2>/dev/null", expect=2).stdout, "")
    return f"POST /count 200 {answer}"


def _c_multistage(imgbuild: Imgbuild, image: str) -> str:
    checksum = imgbuild("run", "--rm", "-i", image, input="123456789").stdout
    _same(checksum, "cbf43926\n")
    with TemporaryDirectory(prefix="imgbuild-demo-") as directory:
        imgbuild("unpack", image, Path(directory) / "rootfs")
        files = sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if not path.is_dir())
    _same(files, ["rootfs/bin/crc32"])
    return f"crc32 of 123456789 is {checksum.strip()}"


def _monorepo(imgbuild: Imgbuild, image: str) -> str:
    price = imgbuild("run", "--rm", image, "shop", "price", "apple", "3").stdout
    _same(price, "7.20 EUR\n")
    _same(imgbuild("run", "--rm", image, "shop", "list").stdout.splitlines()[0].split(), ["apple", "2.40"])
    _same(imgbuild("run", "--rm", image, "shop", "version").stdout, "1.4.0\n")
    _same(imgbuild("run", "--rm", image, "sell", expect=2).stderr, "usage: orchard shop|web ...\n")
    with imgbuild.serving(image, command=["web"]) as service:
        status, page = service.fetch("/")
        _same((status, "<td>quince</td><td>5.95 EUR</td>" in page), (200, True))
        _same("shop price FRUIT" in service.fetch("/manual.txt")[1], True)
        _same(imgbuild("exec", service.container, "id", "-un").stdout, "nobody\n")
    return f"3 kg of apples cost {price.strip()}"


def _bake(imgbuild: Imgbuild, image: str) -> str:
    notes = imgbuild("run", "--rm", image).stdout
    _same(notes, "# Notes\nBuilds share what they have in common.\n")
    _same(imgbuild("run", "--rm", image, "id", "-u").stdout, "65534\n")
    return notes.splitlines()[0]


ALL = (
    Example("hello", _hello),
    Example("static-site", _static_site),
    Example("python-app", _python_app, reproducible=False, targets=("test",), pip=True),
    Example("c-multistage", _c_multistage),
    Example("monorepo", _monorepo, targets=("check", "shop")),
    Example("bake", _bake, targets=("writer",)),
)

"""What is known of programs that fetch, by the words of an instruction; and that nothing is claimed of what can't be known."""

from __future__ import annotations

import pytest

from imgbuild.insight.tools import mounted, reads, sets_up, tools_in


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("RUN apt-get update && apt-get install -y curl && rm -rf /var/lib/apt/lists/*", ()),
        ("RUN DEBIAN_FRONTEND=noninteractive apt-get -y install curl", ()),
        ("RUN --mount=type=cache,target=/var/cache/apt apt install -y curl", ()),
        ("RUN apk add --no-cache curl", ()),
        ("RUN pip install -r deps/base.req", ("*.txt", "*.in", "base.req")),
        ("RUN python3 -m pip install --no-cache-dir flask", ("*.txt", "*.in")),
        ("RUN npm ci", ("package.json", "package-lock.json", ".npmrc")),
        ("RUN cd /app && yarn --frozen-lockfile", ("package.json", "yarn.lock", ".yarnrc*")),
        ("RUN go mod download", ("go.mod", "go.sum")),
        ("RUN poetry install --no-root --only main", ("pyproject.toml", "poetry.lock")),
        ("RUN uv sync --locked --no-install-project", ("pyproject.toml", "uv.lock")),
        ("RUN npm install -g @angular/cli", ("package.json", "package-lock.json", ".npmrc")),
        ("RUN sudo apk add curl; rm -rf /var/cache/apk/* /tmp/*", ()),
    ],
)
def test_what_is_read(text: str, names: tuple[str, ...]) -> None:
    assert reads(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "RUN make", "RUN pip install .", "RUN pip install -e ./lib", "RUN pip install -r a.txt && python x", "RUN npm ci && npm run build",
        "RUN apt-get install -y ./x.deb", "RUN apt-get install $(cat packages)", "RUN apt-get install `cat packages`", "RUN cargo build",
        "RUN xargs apt-get install < list", 'RUN ["pip", "install", "flask"]', "RUN go build ./...", "RUN pip install dist/x.whl",
        "RUN ./setup", "RUN pip install /src", "RUN pip install --no-deps src/lib", "RUN npm install /src/lib", "RUN poetry install",
        "RUN uv sync --frozen", "RUN cargo fetch", "RUN xargs -a list apt-get install -y", "RUN update-ca-certificates",
        "RUN apt-get install -y gcc && rm -rf /src/doc", "RUN rm -rf build", "RUN apk add curl && rm -r /var/www/html",
    ],
)  # fmt: skip
def test_what_can_not_be_known(text: str) -> None:
    assert reads(text) is None


def test_which_program_it_is() -> None:
    assert [tool.name for tool in tools_in("RUN apt-get update; pip install x")] == ["apt-get", "pip"]
    assert tools_in("RUN echo my-apt install-pip snapm install") == ()


def test_where_caches_are_mounted() -> None:
    text = "RUN --mount=type=cache,id=x,target=/root/.npm/ --mount=type=bind,target=/src --mount=type=cache,dst=/c npm ci"
    assert mounted(text) == ("/root/.npm", "/c")


@pytest.mark.parametrize(
    "text",
    [
        "COPY --chown=0:0 ca.crt /usr/local/share/ca-certificates/ca.crt", "COPY pip.conf /root/.pip/pip.conf",
        'COPY ["a b", "/etc/x"]', "COPY rootfs/ /", "COPY . /", "ADD etc /etc",
    ],
)  # fmt: skip
def test_what_sets_programs_up(text: str) -> None:
    assert sets_up(text)


def test_what_does_not() -> None:
    for text in ("COPY . .", "COPY main /", "COPY run.sh /usr/local/bin/", "COPY . /usr/src/app", "COPY", "COPY a /etcetera"):
        assert not sets_up(text)

"""What BuildKit's frontend refuses is refused, with a place and in words; what is next to it and accepted there is accepted."""

from __future__ import annotations

import pytest

from imgbuild.buildfile.parser import parse
from imgbuild.errors import BuildfileError, ImgbuildError
from imgbuild.graph.lower import lower
from imgbuild.graph.ops import Base
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import base_references
from imgbuild.oci.config import RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform

AMD64 = Platform("linux", "amd64")
LINK = "sha256:" + "0" * 64


def build(text: str) -> None:
    """Parse and lower every stage, whatever images it names."""
    buildfile = parse(text, "B")
    for index in range(len(buildfile.stages)):
        options, bases = LowerOptions(AMD64, target=str(index)), {}
        while needs := base_references(buildfile, options, bases):
            bases |= {need.key: Base(need.reference.familiar(), Digest(LINK), need.platform, RunConfig(), ()) for need in needs}
        lower(buildfile, options, bases)


IN_A_STAGE = [
    # accepted, refused
    ("ADD a b", "ADD a"),
    ("ADD a b c/", "ADD a b c"),
    ("ADD --chmod=0644 a b", "ADD --chmod=99999 a b"),
    ("ADD --checksum=sha256:" + "0" * 64 + " https://h/f /", "ADD --checksum=sha256:" + "0" * 64 + " a /"),
    ("ADD --keep-git-dir=true https://h/r.git /", "ADD --keep-git-dir=maybe https://h/r.git /"),
    ("ADD https://h/r.git?subdir=a /", "ADD https://h/r.git?subdirr=a /"),
    ("COPY http a", "COPY http://h/f a"),
    ("COPY a.git /", "COPY https://h/r.git /"),
    ("ARG a b=c", "ARG"),
    ("ARG a=", "ARG =a"),
    ("CMD", "CMD [1]"),
    ('CMD ["a"]', 'CMD ["a", 1]'),
    ("COPY a b", "COPY a"),
    ("COPY a b c/", "COPY a b c"),
    ("COPY --from=other a b", "COPY --from=$other a b"),
    ("COPY --from=0 a b", "COPY --from=7 a b"),
    ("COPY --chmod=u+x a b", "COPY --chmod=u+q a b"),
    ("COPY <<E /x\nE", "COPY a <<E\nE"),
    ("COPY <<E /x\nE", "COPY <<E /x\n"),
    ("COPY --link a b", "COPY --link=perhaps a b"),
    ("COPY --chown=1 a b", "COPY --chown a b"),
    ("COPY --exclude=a --exclude=b c d", "COPY --chown=1 --chown=2 c d"),
    ("ENTRYPOINT []", "ENTRYPOINT [null]"),
    ("ENV a b", "ENV a"),
    ("ENV a=b c=d", "ENV a=b c"),
    ("ENV a=", "ENV =a"),
    ("ENV a=${b:-c}", "ENV a=${b:?c}"),
    ("ENV a=\\${b", "ENV a=${b"),
    ("ENV a=${b}", "ENV a=${b^}"),
    ("EXPOSE 80", "EXPOSE"),
    ("EXPOSE 80-81/udp", "EXPOSE 81-80"),
    ("EXPOSE 65535", "EXPOSE 65536"),
    ("EXPOSE 80/sctp", "EXPOSE 80/icmp"),
    ("HEALTHCHECK NONE", "HEALTHCHECK NONE x"),
    ("HEALTHCHECK CMD x", "HEALTHCHECK CMD"),
    ("HEALTHCHECK CMD x", "HEALTHCHECK x"),
    ("HEALTHCHECK --interval=1ms CMD x", "HEALTHCHECK --interval=1us CMD x"),
    ("HEALTHCHECK --retries=0 CMD x", "HEALTHCHECK --retries=-1 CMD x"),
    ("HEALTHCHECK --start-interval=1s CMD x", "HEALTHCHECK --start-interval=1 CMD x"),
    ("LABEL a=b", "LABEL a"),
    ("LABEL a=''", "LABEL ''"),
    ("MAINTAINER me", "MAINTAINER"),
    ("ONBUILD RUN x", "ONBUILD"),
    ("ONBUILD RUN x", "ONBUILD ONBUILD RUN x"),
    ("ONBUILD RUN x", "ONBUILD FROM x"),
    ("ONBUILD RUN x", "ONBUILD MAINTAINER x"),
    ("ONBUILD COPY a b", "ONBUILD COPY a"),
    ("RUN x", "RUN"),
    ("RUN <<E\nE", "RUN <<E\n"),
    ('RUN ["a"]', 'RUN ["a", {}]'),
    ("RUN --network=none x", "RUN --network=bridge x"),
    ("RUN --security=sandbox x", "RUN --security=none x"),
    ("RUN --mount=target=/x x", "RUN --mount=type=volume,target=/x x"),
    ("RUN --mount=type=cache,target=/x x", "RUN --mount=type=cache,target=/ x"),
    ("RUN --mount=type=cache,target=/x,sharing=private x", "RUN --mount=type=cache,target=/x,sharing=none x"),
    ("RUN --mount=type=cache,target=/x,mode=0700 x", "RUN --mount=type=cache,target=/x,mode=0800 x"),
    ("RUN --mount=type=tmpfs,target=/x,size=1m x", "RUN --mount=type=tmpfs,target=/x,size=big x"),
    ("RUN --mount=type=secret,id=a x", "RUN --mount=type=secret x"),
    ("RUN --mount=type=secret,id=a,env=A x", "RUN --mount=type=secret,id=a,sharing=shared x"),
    ("RUN --mount=type=secret,id=a,required x", "RUN --mount=type=secret,id=a,required=maybe x"),
    ("RUN --mount=type=bind,target=/x,rw x", "RUN --mount=type=bind,target=/x,rw=maybe x"),
    ("RUN --mount=type=bind,from=other,target=/x x", "RUN --mount=type=bind,from=$other,target=/x x"),
    ("RUN --mount=type=bind,source=a,target=/x x", "RUN --mount=type=bind,source,target=/x x"),
    ("RUN --mount=type=bind,target=/x x", 'RUN --mount=type=bind,"target=/x x'),
    ('SHELL ["a"]', "SHELL a"),
    ('SHELL ["a"]', "SHELL []"),
    ("STOPSIGNAL 9", "STOPSIGNAL"),
    ("STOPSIGNAL SIGRTMIN+3", "STOPSIGNAL SIGNOTHING"),
    ("USER a:b", "USER"),
    ("VOLUME /a /b", "VOLUME"),
    ('VOLUME ["/a"]', 'VOLUME [""]'),
    ("WORKDIR a", "WORKDIR"),
    ("WORKDIR ''", "WORK"),
    ("RUN --mount=type=cache,target=/x x", "RUN --mount type=cache,target=/x x"),
    ("USER -- a", "USER --a"),
]


@pytest.mark.parametrize(("accepted", "refused"), IN_A_STAGE, ids=[f"{refused[:40]!r}" for _, refused in IN_A_STAGE])
def test_instructions(accepted: str, refused: str) -> None:
    build(f"FROM busybox AS first\nFROM busybox\n{accepted}\n")
    with pytest.raises(BuildfileError) as caught:
        build(f"FROM busybox AS first\nFROM busybox\n{refused}\n")
    assert caught.value.at is not None
    assert caught.value.at.line == 3
    assert caught.value.exit_code == 10


FILES = [
    ("FROM scratch", ""),
    ("ARG x\nFROM scratch", "RUN x"),
    ("ARG x\nFROM scratch", "ARG x"),
    ("FROM scratch AS a", "FROM scratch AS 1"),
    ("FROM scratch AS a", "FROM scratch AS"),
    ("FROM scratch AS a", "FROM scratch a"),
    ("FROM a-b/c:d", "FROM a--b:"),
    ("ARG b=scratch\nFROM $b", "ARG b\nFROM $b"),
    ("FROM --platform=linux/arm64 a", "FROM --platform=/ a"),
    ("FROM --platform=$TARGETPLATFORM a", "FROM --platform=$NOTHING a"),
    ("# escape=`\nFROM scratch", "# escape=x\nFROM scratch"),
    ("# syntax=docker/dockerfile:1\nFROM scratch", "# syntax=docker/dockerfile:1\n# syntax=x\nFROM scratch"),
    ("FROM scratch AS a\nFROM scratch\nCOPY --from=a / /", "FROM scratch\nCOPY --from=a / /\nFROM scratch AS a"),
    ("FROM a\nCOPY --from=a / /", "FROM scratch AS a\nCOPY --from=a / /"),
    (
        "FROM scratch AS a\nFROM scratch AS b\nCOPY --from=a / /",
        "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /",
    ),
    ("FROM scratch\nRUN x \\\n  y", "FROM scratch\nRUNX x \\\n  y"),
]


@pytest.mark.parametrize(("accepted", "refused"), FILES, ids=[repr(refused[:40]) for _, refused in FILES])
def test_files(accepted: str, refused: str) -> None:
    build(accepted)
    with pytest.raises(ImgbuildError) as caught:
        build(refused)
    assert isinstance(caught.value, BuildfileError)
    assert caught.value.at is not None

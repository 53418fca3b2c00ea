"""An OCI registry for tests: distribution-spec 1.1 on the standard library alone, with faults on request.

    python registry-mock --port 0 --root DIR

It is an oracle: it shares no code with what is tested against it, and where the spec says MUST it insists. Blobs,
manifests, tags, referrers, mounts, resumable uploads, Basic and Bearer authentication, TLS. See `faults` for what can be
made to go wrong, and `journal` for what GET /_requests tells.

This module is the entry: the command line, the signals, and the line that says where it listens.
"""

import argparse
import signal
import ssl
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import faults
from access import Policy
from registry import Registry, Settings
from server import Server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        given = faults.Faults(fault for text in options.fault for fault in faults.from_text(text))
    except faults.FaultError as error:
        parser.error(str(error))
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    try:
        server = Server((options.host, options.port), Registry(_settings(options)), given, _tls(options))
    except OSError as error:
        print(f"registry-mock: {error}", file=sys.stderr)
        return 1
    stopped = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        if options.port_file:
            _write_port(options.port_file, server.server_port)
        print(f"listening on {server.scheme}://{server.authority}", flush=True)
        stopped.wait()
        server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"    {kind:<11}  {what}" for kind, what in faults.KINDS.items())
    parser = argparse.ArgumentParser(
        prog="registry-mock",
        description="An OCI registry for tests.",
        epilog=f"{faults.__doc__}\nKINDS\n\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port to listen on; 0 for a free one")
    add("--port-file", type=Path, metavar="FILE", help="write the port to this file")
    add("--root", type=Path, required=True, metavar="DIR", help="where everything is kept")
    add("--auth", choices=("none", "basic", "bearer"), default="none", help="how clients say who they are")
    add("--user", type=_credentials, action="append", default=[], metavar="U:P", help="a user who may do everything")
    add("--reader", type=_credentials, action="append", default=[], metavar="U:P", help="a user who may only pull")
    add("--anonymous-pull", action="store_true", help="pulling needs no credentials")
    add("--service", default="registry-mock", help="the service of the token protocol, and the realm of Basic")
    add("--token-seconds", type=int, default=300, metavar="N", help="how long a token is good")
    add("--read-only", action="store_true", help="answer every write with 405")
    add("--chunk-min-length", type=int, default=0, metavar="N", help="say OCI-Chunk-Min-Length")
    add("--page-size", type=int, default=0, metavar="N", help="never list more than so many at once")
    add("--opaque-locations", action="store_true", help="upload locations are absolute, with a query that must be kept")
    add("--fault", action="append", default=[], metavar="SPEC", help="a fault, as JSON or as key=value words")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    return parser


def _credentials(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError("not USER:PASSWORD")
    return name, password


def _settings(options: argparse.Namespace) -> Settings:
    policy = Policy(
        scheme=options.auth,
        users=tuple(options.user),
        readers=tuple(options.reader),
        anonymous_pull=options.anonymous_pull,
        service=options.service,
        token_seconds=options.token_seconds,
    )
    return Settings(
        root=options.root,
        policy=policy,
        read_only=options.read_only,
        chunk_min_length=options.chunk_min_length,
        page_size=options.page_size,
        opaque_locations=options.opaque_locations,
    )


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


def _write_port(path: Path, port: int) -> None:
    # Whoever waits for the file must not find it empty.
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(f"{port}\n")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())

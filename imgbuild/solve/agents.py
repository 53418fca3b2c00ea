"""Forwards ssh agents into steps: a socket of the step's own, behind which only what a login needs reaches the agent.

As BuildKit does, a step may ask for the public keys and for signatures. It may not add or remove keys, lock the agent, or use
extensions of its protocol (draft-ietf-sshm-ssh-agent). Nothing of the agent's own socket is in the sandbox. Keys that are given as files
are held by an ssh-agent that is started for the build when the first step wants it, and that goes with the build, however it ends.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile

from imgbuild.errors import NotFoundError, UsageError
from imgbuild.hints import Mapping, TracebackType
from imgbuild.light import threading
from imgbuild.light.contextlib import ExitStack, suppress
from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass, field

_ALLOWED = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_REFUSED = b"\0\0\0\1\5"  # SSH_AGENT_FAILURE
_LONGEST = 256 * 1024  # OpenSSH's own limit of a message
_PIECE = 1 << 16
_LOOK_SECONDS = 0.2
_END_MILLISECONDS = 5000


@dataclass(frozen=True, slots=True)
class Agent:
    """What ``--ssh`` gives under an id: the socket of an agent, or the contents of private keys with what they are called."""

    socket: str = ""
    keys: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


class Agents:
    """The agents of a build. Leaving it ends those that were started for it. `environ` is what ssh-agent is started with."""

    def __init__(self, agents: Mapping[str, Agent], environ: Mapping[str, str]) -> None:
        self._agents = agents
        self._environ = environ
        self._started: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __contains__(self, identity: str) -> bool:
        return identity in self._agents

    def socket(self, identity: str) -> str:
        """The path of the agent's socket. UsageError where its keys can't be loaded."""
        agent = self._agents[identity]
        if agent.socket:
            return agent.socket
        with self._lock:
            if identity not in self._started:
                self._started[identity] = self._start(identity, agent)
            return self._started[identity]

    def _start(self, identity: str, agent: Agent) -> str:
        """Start an agent that ends with us, in whatever way: a shell beside it reads from a pipe whose other end only we hold."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="imgbuild-", ignore_cleanup_errors=True))
        path = os.path.join(directory, "agent")
        script = 'echo "$SSH_AGENT_PID"; cat; kill -9 "$SSH_AGENT_PID"; rm -rf "$1"'
        try:
            process = subprocess.Popen(
                ["ssh-agent", "-a", path, "sh", "-c", script, "sh", directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=dict(self._environ), start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            hint = "install it, or start an agent of your own and give its socket: --ssh default"
            raise NotFoundError(f"--ssh {identity}: there is no ssh-agent to hold its keys", hint=hint) from None
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        pidfd = -1
        with suppress(OSError, ValueError):
            pidfd = os.pidfd_open(int(pid))
        self._stack.callback(_end, process, pidfd)
        if pidfd < 0:
            raise UsageError(f"--ssh {identity}: ssh-agent does not start")
        for name, key in agent.keys:
            self._add(identity, name, key, path)
        return path

    def _add(self, identity: str, name: str, key: bytes, path: str) -> None:
        environ = {**self._environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
        try:
            done = subprocess.run(["ssh-add", "-q", "-"], input=key, capture_output=True, env=environ, start_new_session=True, check=False)
        except FileNotFoundError:
            raise NotFoundError(f"--ssh {identity}: there is no ssh-add to load its keys", hint="install OpenSSH's client") from None
        if done.returncode:
            hint = "it must be a private key without a passphrase; load others into an agent of your own"
            detail = done.stderr.decode("utf-8", "replace").strip() or None
            raise UsageError(f"--ssh {identity}: {name} can't be loaded", hint=hint, detail=detail)


class Forwarding:
    """A socket at `path` that leads to an agent for as long as this context is entered. Its owner and mode are the caller's to set."""

    def __init__(self, path: Path, agent: str) -> None:
        self.path = path
        self._agent = agent
        self._listener = socket.socket(socket.AF_UNIX)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="imgbuild-agent")

    def __enter__(self) -> Forwarding:
        # By a descriptor: an address has room for about a hundred bytes, and the store may lie deep.
        directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        serving: list[threading.Thread] = []
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            thread = threading.Thread(target=self._forward, args=(connection,), daemon=True, name="imgbuild-agent")
            thread.start()
            serving = [other for other in serving if other.is_alive()] + [thread]
        for thread in serving:
            thread.join()

    def _forward(self, client: socket.socket) -> None:
        """Answer one connection until either side ends it."""
        with client, socket.socket(socket.AF_UNIX) as agent, suppress(OSError):
            agent.connect(self._agent)
            while (request := self._message(client)) is not None:
                if request[4:5] and request[4] in _ALLOWED:
                    agent.sendall(request)
                    answer = self._message(agent)
                    if answer is None:
                        return
                else:
                    answer = _REFUSED
                client.sendall(answer)

    def _message(self, sender: socket.socket) -> bytes | None:
        """One message with its length; None where there is none, or none that can be."""
        head = self._exactly(sender, 4)
        size = int.from_bytes(head or b"", "big")
        if head is None or not 0 < size <= _LONGEST:
            return None
        body = self._exactly(sender, size)
        return None if body is None else head + body

    def _exactly(self, sender: socket.socket, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            if not self._readable(sender):
                return None
            piece = sender.recv(min(size - len(data), _PIECE))
            if not piece:
                return None
            data += piece
        return data

    def _readable(self, sender: socket.socket) -> bool:
        """Wait for something to read; False when the step is over."""
        while not self._ending.is_set():
            if select.select([sender], [], [], _LOOK_SECONDS)[0]:
                return True
        return False


def _end(process: subprocess.Popen[bytes], agent: int) -> None:
    """Let the shell end the agent, and see that gone: it is no child of ours. `agent` is a pidfd, -1 where there is none."""
    with process:
        assert process.stdin is not None
        process.stdin.close()
    if agent >= 0:
        poll = select.poll()
        poll.register(agent, select.POLLIN)
        poll.poll(_END_MILLISECONDS)
        os.close(agent)

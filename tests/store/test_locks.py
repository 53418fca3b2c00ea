"""Locks and leases between threads and processes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from imgbuild.errors import ConflictError
from imgbuild.store.locks import Interrupted
from imgbuild.store.store import Store

from .made import start_child

HOLD = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    with store.lock("step") if sys.argv[2] == "lock" else getattr(store, sys.argv[2])():
        print("held", flush=True)
        sys.stdin.read()
"""

COUNT = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    counter = Path(sys.argv[2])
    for _ in range(25):
        with store.lock("counter"):
            counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_a_name_excludes_threads(store: Store) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with store.lock("name"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    _together(*[work] * 6)
    assert most == 1
    assert os.listdir(store.root / "locks") == []


def test_a_name_excludes_processes(store: Store, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = [start_child(COUNT, store.root, counter) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert counter.read_text() == "100"
    for child in children:
        child.communicate()


def test_names_do_not_mind_each_other(store: Store) -> None:
    with store.lock("one"), store.lock("two"), store.lock("a/../b\udcff"):
        assert len(os.listdir(store.root / "locks")) == 3


@pytest.mark.parametrize("what", ["lock", "lease", "exclusive"])
def test_a_killed_holder_lets_go(store: Store, what: str) -> None:
    child = start_child(HOLD, store.root, what)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    waited = threading.Event()

    def on_wait() -> None:
        waited.set()
        os.kill(child.pid, signal.SIGKILL)

    with store.lock("step", on_wait=on_wait) if what == "lock" else store.exclusive(on_wait=on_wait):
        assert waited.is_set()
    child.communicate()


def test_waiting_can_be_cancelled(store: Store) -> None:
    with store.lock("name"):
        with pytest.raises(Interrupted):
            store.lock("name", cancelled=lambda: True).__enter__()
    with store.lease():
        raised = []

        def alone() -> None:
            try:
                with store.exclusive(cancelled=lambda: True):
                    pass
            except Interrupted as error:
                raised.append(error)

        _together(alone)
        assert raised


def test_leases_are_shared_and_nest(store: Store, root: Path) -> None:
    with store.lease(), store.lease(), Store.open(root) as other, other.lease():
        _together(lambda: store.lease().__enter__())


def test_alone_means_alone(store: Store, root: Path) -> None:
    with Store.open(root) as other:
        with other.lease(), pytest.raises(ConflictError, match="still in use"):
            store.exclusive(timeout=0).__enter__()
        with store.exclusive(timeout=0), store.exclusive(), store.lease():
            with pytest.raises(Interrupted):
                other.lease(cancelled=lambda: True).__enter__()
        with other.exclusive(timeout=0):
            pass


def test_a_lease_s_own_thread_is_told_at_once(store: Store) -> None:
    with store.lease(), pytest.raises(ConflictError, match="a thread that is using it"):
        store.exclusive(timeout=None).__enter__()
    with store.exclusive(timeout=0):
        pass


def test_a_lease_may_be_let_go_by_another_thread(store: Store) -> None:
    lease = store.lease()
    lease.__enter__()
    _together(lambda: lease.__exit__(None, None, None))
    with store.exclusive(timeout=0):
        pass


def test_dead_lock_files_are_swept_and_held_ones_stay(store: Store) -> None:
    (store.root / "locks" / "dead").touch()
    with store.lock("held"):
        store.locks.sweep()
        assert len(os.listdir(store.root / "locks")) == 1
        assert "dead" not in os.listdir(store.root / "locks")


def _together(*works: object) -> None:
    threads = [threading.Thread(target=work) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""What stands for modules of the standard library behaves as they do, as far as it is used, and imports none of them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild import light
from imgbuild.light import collections as light_collections
from imgbuild.light import contextlib as light_contextlib
from imgbuild.light import enum as light_enum
from imgbuild.light import functools as light_functools
from imgbuild.light import json as light_json
from imgbuild.light import pathlib as light_pathlib
from imgbuild.light import re as light_re
from imgbuild.light import signal as light_signal
from imgbuild.light import threading as light_threading

BOTH_CONTEXTLIBS = pytest.mark.parametrize("lib", [contextlib, light_contextlib], ids=["standard", "light"])
TEXTS = st.text(st.sampled_from("ab./~"), max_size=12)


def test_none_of_them_is_imported() -> None:
    names = sorted(path.stem for path in pathlib.Path(light.__path__[0]).glob("[a-z]*.py"))
    code = "\n".join(f"import imgbuild.light.{name}" for name in names)
    code = f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(light.__path__[0]))!r})\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 7
    assert set(done.stdout.split()) & {*names, "types", "operator", "weakref", "urllib", "ipaddress", "typing", "fnmatch"} == set()


@given(TEXTS, TEXTS)
def test_paths_are_those_of_the_standard_library(one: str, two: str) -> None:
    ours, theirs = light_pathlib.Path(one), pathlib.Path(one)
    assert str(ours) == str(theirs)
    assert str(ours / two) == str(theirs / two)
    assert str(two / ours) == str(two / theirs)
    assert str(light_pathlib.Path(one, two)) == str(pathlib.Path(one, two))
    assert str(ours.joinpath(two, one)) == str(theirs.joinpath(two, one))
    assert (ours.name, ours.suffix, ours.is_absolute()) == (theirs.name, theirs.suffix, theirs.is_absolute())
    assert str(ours.parent) == str(theirs.parent)
    assert [str(path) for path in ours.parents] == [str(path) for path in theirs.parents]
    assert (light_pathlib.Path("x", one) < light_pathlib.Path("x", two)) == (pathlib.Path("x", one) < pathlib.Path("x", two))
    assert (ours == light_pathlib.Path(two)) == (theirs == pathlib.Path(two)) == (ours == pathlib.Path(two))
    assert {ours, theirs} == {theirs}
    assert (ours.stem, ours.parts) == (theirs.stem, theirs.parts)
    assert copy.copy(ours) == pickle.loads(pickle.dumps(ours)) == ours


@given(TEXTS)
def test_names_are_given_as_in_the_standard_library(one: str) -> None:
    try:
        expected = str(pathlib.Path(one).with_name("n.e"))
    except ValueError:
        with pytest.raises(ValueError, match="named"):
            light_pathlib.Path(one).with_name("n.e")
    else:
        assert str(light_pathlib.Path(one).with_name("n.e")) == expected


def test_standard_paths_are_paths_here(tmp_path: pathlib.Path) -> None:
    assert isinstance(tmp_path, light_pathlib.Path)
    assert not isinstance(str(tmp_path), light_pathlib.Path)
    assert light_pathlib.Path(tmp_path) / tmp_path.name == tmp_path / tmp_path.name
    with pytest.raises(TypeError):
        light_pathlib.Path(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        light_pathlib.Path("x") / 1  # type: ignore[operator]


def test_files_are_made_read_and_removed(tmp_path: pathlib.Path) -> None:
    top = light_pathlib.Path(tmp_path)
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b").mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        (top / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        (top / "x" / "y").mkdir()
    file = top / "a" / "file"
    assert file.write_text("é\n", encoding="utf-8") == 2
    assert (file.read_text(encoding="utf-8"), file.read_bytes()) == ("é\n", "é\n".encode())
    with pytest.raises(FileExistsError):
        file.mkdir(exist_ok=True)
    file.chmod(0o600)
    assert file.stat().st_mode & 0o777 == 0o600
    link = top / "link"
    link.symlink_to("a/file")
    assert (link.is_symlink(), link.is_file(), link.is_dir(), str(link.readlink())) == (True, True, False, "a/file")
    assert (file / "below").exists() is False
    assert link.resolve() == pathlib.Path(link).resolve() == file
    assert sorted(top.iterdir()) == [top / "a", link]
    assert sorted(path.name for path in top.glob("**/f*")) == ["file"]
    assert file.rename(top / "moved") == top / "moved"
    link.unlink()
    link.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        link.unlink()
    (top / "a" / "b").rmdir()
    assert light_pathlib.Path("~").expanduser() == pathlib.Path.home() == light_pathlib.Path.home()
    assert light_pathlib.Path("x").absolute() == pathlib.Path("x").absolute() == light_pathlib.Path.cwd() / "x"


@BOTH_CONTEXTLIBS
def test_generators_are_managers(lib: Any) -> None:
    seen: list[object] = []

    @lib.contextmanager
    def managed(answer: bool) -> Iterator[int]:
        """Says."""
        try:
            yield 1
        except KeyError:
            seen.append("key")
            if not answer:
                raise
        finally:
            seen.append("left")

    assert (managed.__name__, managed.__doc__) == ("managed", "Says.")
    with managed(True) as value:
        assert value == 1
    with managed(True):
        raise KeyError
    with pytest.raises(KeyError), managed(False):
        raise KeyError
    with pytest.raises(ValueError, match="x") as caught, managed(True):
        raise ValueError("x")
    assert caught.value.__context__ is None
    with pytest.raises(StopIteration), managed(True):
        raise StopIteration
    assert seen == ["left", "key", "left", "key", "left", "left", "left"]


@BOTH_CONTEXTLIBS
def test_generators_that_yield_otherwise_than_once(lib: Any) -> None:
    @lib.contextmanager
    def managed(times: int) -> Iterator[int]:
        for number in range(times):
            with contextlib.suppress(OSError):
                yield number

    with pytest.raises(RuntimeError, match="didn't yield"), managed(0):
        pass
    with pytest.raises(RuntimeError, match="didn't stop"), managed(2):
        pass
    with pytest.raises(RuntimeError, match="didn't stop"), managed(2):
        raise OSError


@BOTH_CONTEXTLIBS
def test_stacks(lib: Any) -> None:
    seen: list[object] = []

    class Manager:
        def __init__(self, name: str, answer: object = False) -> None:
            self.name = name
            self.answer = answer

        def __enter__(self) -> str:
            return self.name

        def __exit__(self, kind: type | None, error: object, trace: object) -> object:
            seen.append((self.name, kind))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    with lib.ExitStack() as stack:
        assert stack.enter_context(Manager("a")) == "a"
        stack.callback(seen.append, "called")
        stack.push(Manager("b"))
        stack.push(lambda *details: seen.append(len(details)))
    assert seen == [3, ("b", None), "called", ("a", None)]
    seen.clear()
    with lib.ExitStack() as stack:
        stack.enter_context(Manager("outer"))
        stack.enter_context(Manager("inner", True))
        raise KeyError
    assert seen == [("inner", KeyError), ("outer", None)]
    with pytest.raises(ValueError, match="second") as caught, lib.ExitStack() as stack:
        stack.enter_context(Manager("outer", ValueError("second")))
        stack.enter_context(Manager("inner", OSError("first")))
        raise KeyError("body")
    assert repr([caught.value.__context__, caught.value.__context__.__context__]) == "[OSError('first'), KeyError('body')]"  # type: ignore[union-attr]
    with pytest.raises(OSError, match="raised") as other, lib.ExitStack() as stack:
        stack.enter_context(Manager("x", OSError("raised")))
    assert other.value.__context__ is None
    seen.clear()
    with lib.ExitStack() as stack:
        stack.callback(seen.append, 1)
        kept = stack.pop_all()
    assert seen == []
    kept.close()
    kept.close()
    assert seen == [1]


@BOTH_CONTEXTLIBS
def test_small_managers(lib: Any) -> None:
    closed: list[int] = []

    class Closable:
        def close(self) -> None:
            closed.append(1)

    with lib.suppress(KeyError, OSError):
        raise FileNotFoundError
    with pytest.raises(ValueError), lib.suppress(KeyError):
        raise ValueError
    with lib.suppress():
        pass
    with lib.nullcontext(3) as three, lib.closing(Closable()) as thing:
        assert (three, isinstance(thing, Closable)) == (3, True)
    assert closed == [1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda deeper: st.lists(deeper) | st.dictionaries(st.text() | st.integers(), deeper),
    max_leaves=8,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 0, 1, 4, "\t"]), st.sampled_from([None, (",", ":")]))
def test_json_is_that_of_the_standard_library(value: object, ensure_ascii: bool, indent: Any, separators: Any) -> None:
    options = {"ensure_ascii": ensure_ascii, "indent": indent, "separators": separators}
    text = json.dumps(value, **options)
    assert light_json.dumps(value, **options) == text
    assert repr(light_json.loads(text)) == repr(json.loads(text))
    data = f" \n{text}\t".encode("utf-8", "surrogatepass")
    assert repr(light_json.loads(data)) == repr(json.loads(data))


def test_json_sorts_keys() -> None:
    value = {"b": {"d": [], "c": {}}, "a": [1, {"y": 1, "x": None}]}
    for indent in (None, 1):
        assert light_json.dumps(value, sort_keys=True, indent=indent) == json.dumps(value, sort_keys=True, indent=indent)


@pytest.mark.parametrize("text", ["", "[", "[1] x", "{'a': 1}", "nul", '"\n"', "\ufeff1", b"\xff", "[1,]", "\x0b1"])
def test_json_that_is_none_is_refused_in_the_same_words(text: str | bytes) -> None:
    with pytest.raises(ValueError) as expected:
        json.loads(text)
    with pytest.raises(ValueError) as found:
        light_json.loads(text)
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))


def test_json_that_is_none_is_refused_while_the_standard_module_is_not_there() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom imgbuild.light import json\n"
    code += "try: json.loads('[1,')\nexcept ValueError as error: print(error)"
    directory = os.path.dirname(os.path.dirname(light.__path__[0]))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, directory], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Expecting value")


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf[1]", "[1]".encode("utf-16"), "[1]".encode("utf-32-le"), b"1", b"[1]\x00"])
def test_json_in_other_encodings(data: bytes) -> None:
    def read(loads: Any) -> str:
        try:
            return repr(loads(data))
        except ValueError as error:
            return str(error)

    assert read(light_json.loads) == read(json.loads)


def test_json_of_what_it_can_not_say() -> None:
    def refuse(word: str) -> object:
        raise ValueError(f"no {word}")

    with pytest.raises(TypeError, match="set is not JSON serializable"):
        light_json.dumps({"a": {1}})
    with pytest.raises(ValueError, match="no NaN"):
        light_json.loads("[NaN]", parse_constant=refuse)
    assert light_json.loads("[1]", parse_constant=refuse) == [1]


def wait_until(condition: Callable[[], bool]) -> Iterator[None]:
    """Looks again and again, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()
        yield


def test_signals_are_numbers() -> None:
    assert light_signal.SIGTERM == signal.SIGTERM
    assert light_signal.Signals(15) is signal.SIGTERM
    assert light_signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGTERM)


@pytest.fixture(params=[threading, light_threading], ids=["standard", "light"])
def threads(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_what_threads_have(threads: Any) -> None:
    assert threads.get_ident() == threading.get_ident()
    assert threads.current_thread() is threading.current_thread()
    with threads.Lock() as taken:
        assert taken
    for module in (light_threading, light_signal, light_re):
        with pytest.raises(AttributeError):
            module.nothing  # noqa: B018


def test_a_thread_from_start_to_end(threads: Any) -> None:
    go, seen = threads.Event(), []
    thread = threads.Thread(target=lambda *words, more: (go.wait(), seen.append((words, more))), args=(1,), kwargs={"more": 2}, daemon=True)
    with pytest.raises(RuntimeError):
        thread.join()
    assert not thread.is_alive()
    before = light_threading.active_count()
    thread.start()
    assert thread.is_alive()
    assert light_threading.active_count() == before + 1
    thread.join(0)
    assert thread.is_alive()
    assert not go.is_set()
    go.set()
    thread.join()
    thread.join(5.0)
    assert not thread.is_alive()
    assert seen == [((1,), 2)]
    with pytest.raises(RuntimeError):
        thread.start()


def test_what_a_thread_raises_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: said.append(error))

    def end(error: BaseException) -> None:
        raise error

    for error in (ValueError("no"), SystemExit(3)):
        thread = light_threading.Thread(target=end, args=(error,))
        thread.start()
        thread.join()
        assert not thread.is_alive()
    assert [str(error) for error in said] == ["no"]


@pytest.mark.parametrize("of", [None, "Lock", "RLock"])
def test_conditions(threads: Any, of: str | None) -> None:
    condition = threads.Condition(*([] if of is None else [getattr(threads, of)()]))
    with condition:
        assert not condition.wait(0)
        assert not condition.wait(0.001)
        assert not condition.wait_for(lambda: False, 0.001)
        assert condition.wait_for(lambda: True)
        condition.notify()  # which nobody hears, and which is not kept for who comes later
        assert not condition.wait(0.001)
    waiting, woken = 0, []

    def wait(number: int) -> None:
        nonlocal waiting
        with condition:
            waiting += 1
            assert condition.wait()
            woken.append(number)

    sleepers = [threads.Thread(target=wait, args=(number,)) for number in range(5)]
    for sleeper in sleepers:
        sleeper.start()
    for _ in wait_until(lambda: waiting == 5):
        pass
    for number in (2, 3):
        with condition:
            condition.notify(number)
        for _ in wait_until(lambda number=number: len(woken) == (2 if number == 2 else 5)):
            pass
    for sleeper in sleepers:
        sleeper.join()
    assert sorted(woken) == [0, 1, 2, 3, 4]


def test_a_condition_lets_go_of_a_lock_that_is_held_twice(threads: Any) -> None:
    condition, heard = threads.Condition(), []

    def tell() -> None:
        with condition:
            heard.append(1)
            condition.notify_all()

    with condition, condition:
        thread = threads.Thread(target=tell)
        thread.start()
        assert condition.wait(60)
        assert heard == [1]
    thread.join()


def test_events(threads: Any) -> None:
    event = threads.Event()
    assert not event.wait(0.001)
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.is_set()
    assert not event.wait(0)


def test_semaphores(threads: Any) -> None:
    places = threads.Semaphore(2)
    with places:
        assert places.acquire()
        assert not places.acquire(blocking=False)
        assert not places.acquire(timeout=0.001)
        places.release()
    most, inside, lock = 0, 0, threads.Lock()

    def work() -> None:
        nonlocal most, inside
        for _ in range(50):
            with places:
                with lock:
                    inside += 1
                    most = max(most, inside)
                os.sched_yield()
                with lock:
                    inside -= 1

    workers = [threads.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (inside, most) == (0, 2)


def test_a_signal_ends_a_wait(threads: Any) -> None:
    """As Ctrl-C must, whatever the main thread waits for."""

    class Rang(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for wait in (threads.Event().wait, threads.Semaphore(0).acquire):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(Rang):
                wait()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_functions() -> None:
    calls: list[int] = []

    @light_functools.cache
    def times(number: int, by: int) -> int:
        calls.append(number)
        return by * number

    class Thing:
        @light_functools.cached_property
        def once(self) -> int:
            calls.append(0)
            return 7

    assert [times(1, 2), times(1, 2), times(2, 2)] == [2, 2, 4]
    thing = Thing()
    assert [thing.once, thing.once, calls] == [7, 7, [1, 2, 0]]
    assert light_functools.partial(int, base=2)("11") == 3


def test_counts() -> None:
    counted: light_collections.Counter[str] = light_collections.Counter("abca")
    counted["x"] += 1
    assert (counted["a"], counted["x"], counted["none"], "none" in counted) == (2, 1, 0, False)
    assert light_collections.deque([1, 2, 3], 2) == light_collections.deque([2, 3])


class Word(light_enum.StrEnum):
    ONE = "one"
    TWO = "two"


class Kind(light_enum.Enum):
    A = "a"
    B = "b"


def test_words_of_which_a_value_is_one() -> None:
    assert [Word.ONE, f"{Word.TWO}", str(Word.ONE), Word("two")] == ["one", "two", "one", Word.TWO]
    assert (Word("one") is Word.ONE, Kind("a") is Kind.A, Kind(Kind.B) is Kind.B) == (True, True, True)
    assert [list(Word), list(Kind), len(Kind)] == [[Word.ONE, Word.TWO], [Kind.A, Kind.B], 2]
    assert (Kind.A.name, Kind.A.value, Kind.A == "a", {Word.ONE: 1}["one"]) == ("A", "a", False, 1)  # type: ignore[comparison-overlap]
    assert (isinstance(Kind.A, Kind), repr(Kind.A), repr(Word.ONE)) == (True, "<Kind.A: 'a'>", "<Word.ONE: 'one'>")
    assert [pickle.loads(pickle.dumps(Kind.A)), copy.deepcopy(Kind.A), copy.copy(Word.ONE)] == [Kind.A, Kind.A, Word.ONE]
    with pytest.raises(ValueError, match="'c' is not a valid Kind"):
        Kind("c")
    with pytest.raises(AttributeError):
        Kind.A = Kind.B  # type: ignore[misc,assignment]


@given(st.text() | st.binary())
def test_escaped_text_means_itself(text: Any) -> None:
    assert light_re.escape(text) == re.escape(text)


def test_patterns() -> None:
    found = light_re.compile(r"a(.)", light_re.DOTALL).match("a\n")
    assert found is not None
    assert found[1] == "\n"
    assert light_re.fullmatch("A", "a", light_re.IGNORECASE)
    assert light_re.error is re.error


def test_what_was_asked_for_last_is_remembered() -> None:
    calls: list[int] = []

    @light_functools.lru_cache(maxsize=2)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(number) for number in (1, 2, 1, 3, 2)] == [2, 4, 2, 6, 4]
    assert calls == [1, 2, 3, 2]

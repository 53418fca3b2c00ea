"""Chromium without a window, driven by the WebDriver protocol (W3C) over chromedriver: as much of it as looking at a page of ours takes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60
_DRIVER = "chromedriver"
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
KEYS = {
    "Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Backspace": "\ue003", "ArrowLeft": "\ue012", "ArrowUp": "\ue013",
    "ArrowRight": "\ue014", "ArrowDown": "\ue015", "Shift": "\ue008", "End": "\ue010", "Home": "\ue011",
}  # fmt: skip


class Browser:
    """One session. What the page says on its console, and what it asks of the network, is kept by the browser until it is asked for."""

    def __init__(self, address: str, session: str) -> None:
        self._session = f"{address}/session/{session}"

    def open(self, page: Path, width: int, theme: str, *, height: int = 900, scripts: bool = True) -> None:
        """Show a file at a width (CSS pixels), to who prefers a "light" or "dark" theme."""
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self._post("url", url=page.resolve().as_uri())

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", cmd=name, params=parameters)

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns, which is run in the page."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def press(self, *names: str) -> None:
        """Keys, one after another, as a user types them; "Shift+Tab" holds one."""
        actions = []
        for name in names:
            held, _, key = name.rpartition("+")
            keys = [KEYS.get(word, word) for word in (held, key) if word]
            actions += [{"type": "keyDown", "value": key} for key in keys]
            actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def until(self, script: str) -> Any:
        """Wait until a script returns something true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < end, script
        return value

    def problems(self) -> list[str]:
        """What was said on the console."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._post("se/log", type="browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        events = [json.loads(entry["message"])["message"] for entry in self._post("se/log", type="performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def picture(self, place: Path, *, whole: bool = True) -> None:
        """A PNG of the page, or of what can be seen of it."""
        data = self.command("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        place.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the session, and the browser with it."""
        _ask("DELETE", self._session)

    def _post(self, path: str, **values: object) -> Any:
        return _ask("POST", f"{self._session}/{path}", values)


def _ask(method: str, address: str, values: object = None) -> Any:
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPErrorProcessor())
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None


def available() -> bool:
    """Whether this machine has one."""
    return all(map(shutil.which, (_DRIVER, "chromium")))


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in an empty directory."""
    place = str(profile.parent)
    environ = {**os.environ, "HOME": place, "TMPDIR": place}  # all that it leaves is there
    with subprocess.Popen([_DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            port = next(line.rpartition(" ")[2].strip(" .\n") for line in process.stdout if "started successfully on port" in line)
            options = {
                "goog:chromeOptions": {"args": [*_ARGUMENTS, f"--user-data-dir={profile}"]},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            address = f"http://127.0.0.1:{port}"
            session = _ask("POST", f"{address}/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
            browser = Browser(address, session)
            _ask("POST", f"{address}/session/{session}/url", {"url": "about:blank"})
            browser.requests()  # of the page that the browser itself began with
            try:
                yield browser
            finally:
                browser.close()
        finally:
            process.terminate()

"""Debian's Chromium, driven through its own protocol: opens pages, runs their scripts, takes pictures."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect
from websockets.sync.connection import Connection

CHROMIUM = "chromium"
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--force-prefers-reduced-motion", "--remote-debugging-port=0"),
)
PATIENCE_SECONDS = 90.0


def is_there() -> bool:
    """Whether it is installed."""
    return shutil.which(CHROMIUM) is not None


class Browser:
    """One page of it."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._number = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol; its result."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._line.recv(timeout=PATIENCE_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str, *, width: int = 1500, height: int = 1000) -> None:
        """Go to a page, in a window of that size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=address)

    def ask(self, script: str) -> Any:
        """What a script of the page comes to."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """The same, as soon as it is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        tolerant = f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()"
        while not (found := self.ask(tolerant)):
            assert time.monotonic() < deadline, f"{script} never came true of {self.ask('document.body.innerText')}"
            time.sleep(0.2)
        return found

    def type(self, text: str) -> None:
        """Into what has the focus, as a person would."""
        self.send("Input.insertText", text=text)

    def press(self, words: str) -> None:
        """The button with these words, once it can be pressed."""
        button = (
            f"[...document.querySelectorAll('button')].find("
            f"each => each.innerText.trim() === {json.dumps(words)} && !each.disabled)"
        )
        self.until(f"!!{button}")
        self.ask(f"{button}.click()")

    def log_in(self, pages: str, auth_string: str) -> None:
        """As Prefect's pages ask for it, once."""
        self.open(pages)
        self.until("document.querySelector('input').focus() === undefined")
        self.type(auth_string)
        self.press("Login")
        self.until("!document.querySelector('input[type=password]') && document.body.innerText.includes('Dashboard')")

    def picture(self, file: Path) -> None:
        """Of the window."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser without memory of earlier ones."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            page = next(each for each in pages if each["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], proxy=None, max_size=None) as line:
                yield Browser(line)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _port(file: Path) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (file.exists() and (lines := file.read_text().splitlines())):
        assert time.monotonic() < deadline, "chromium does not listen"
        time.sleep(0.1)
    return int(lines[0])

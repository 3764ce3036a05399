"""A headless Chromium, told what to do over the pipe of its DevTools protocol."""

import fcntl
import json
import os
import pathlib
import subprocess
import time
from typing import Any

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
]
#: Seconds for whatever is waited for.
PATIENCE = 15


class Browser:
    """One process. It ends by its own process id."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._count = 0
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        self._unread = b""
        self._log = open(folder / "chromium.log", "wb")
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}"],
            preexec_fn=lambda: _as_three_and_four(reads, writes), close_fds=False,
            stdout=self._log, stderr=self._log,
        )
        os.close(reads)
        os.close(writes)

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(timeout=PATIENCE)
        os.close(self._to)
        os.close(self._from)
        self._log.close()

    def person(self) -> "Person":
        """Somebody with a cookie jar of their own."""
        return Person(self, self.call("Target.createBrowserContext")["browserContextId"])

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            read = os.read(self._from, 1 << 16)
            assert read, "the browser has ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


def _as_three_and_four(reads: int, writes: int) -> None:
    # First out of each other's way.
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes))
    os.dup2(reads, 3)
    os.dup2(writes, 4)


class Person:
    """A cookie jar, and tabs that share it."""

    def __init__(self, browser: Browser, context: str) -> None:
        self.browser, self._context = browser, context

    def tab(self, url: str) -> "Tab":
        target = self.browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = self.browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Tab(self.browser, attached["sessionId"], url)

    def cookies(self) -> dict[str, dict[str, Any]]:
        """By name, those that no page can see too."""
        found = self.browser.call("Storage.getCookies", browserContextId=self._context)["cookies"]
        return {cookie["name"]: cookie for cookie in found}


class Tab:
    """A page."""

    def __init__(self, browser: Browser, session: str, url: str) -> None:
        self._browser, self._session = browser, session
        self.open(url)

    def open(self, url: str) -> None:
        self._browser.call("Page.navigate", self._session, url=url)
        self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def run(self, script: str) -> Any:
        """What an expression is, once it is there."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=script, awaitPromise=True, returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> Any:
        """Waits for it."""
        end = time.monotonic() + PATIENCE
        while not (held := self.run(condition)):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.01)
        return held

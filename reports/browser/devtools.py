"""Chromium without a window, driven over a pipe: the DevTools protocol, and nothing that must be installed for it.

With --remote-debugging-pipe Chromium reads JSON messages from its file descriptor 3 and writes them to 4, each ended by
a zero byte. https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import select
import subprocess
import tempfile
import time

FLAGS = [
    "--headless",
    "--no-sandbox",  # which root may not have; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
]

DOMAINS = ["Page", "Runtime", "Network", "Log", "Audits"]

ANSWER_WITHIN_S = 30


class Chromium:
    """One browser, and the page that is open in it."""

    def __init__(self, program):
        self.profile = tempfile.TemporaryDirectory(prefix="keyquake-browser-", ignore_cleanup_errors=True)
        commands, self.to_browser = os.pipe()
        self.from_browser, events = os.pipe()
        # The shell gives the pipe its numbers: file descriptors 3 and 4 may be in use here.
        redirect = f'exec "$@" 3<&{commands} 4>&{events}'
        arguments = [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", *arguments],
            pass_fds=(commands, events),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(events)
        self.unread = b""
        self.sent = 0
        self.events = []
        self.session = self.tab = None

    def open(self, url):
        """Loads a page in a tab of its own, where nothing of the one before is left, and waits for it."""
        before, self.session = self.tab, None
        self.tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        if before:
            self.call("Target.closeTarget", targetId=before)
        self.events.clear()
        self.session = self.call("Target.attachToTarget", targetId=self.tab, flatten=True)["sessionId"]
        for domain in DOMAINS:
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=ANSWER_WITHIN_S)
        self.profile.cleanup()

    def call(self, method, **parameters):
        """Sends a command and gives its result; events that come meanwhile are kept."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self._write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self.sent:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", expression))
        return result["result"].get("value")

    def seen(self, *methods):
        """The events of these kinds so far, each asked for once."""
        wanted = [event for event in self.events if event.get("method") in methods]
        self.events = [event for event in self.events if event.get("method") not in methods]
        return wanted

    def press(self, key, code, text=None):
        """A key as a person presses it."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def _wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def _write(self, message):
        while message:
            message = message[os.write(self.to_browser, message) :]

    def _read(self):
        until = time.monotonic() + ANSWER_WITHIN_S
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.from_browser], [], [], max(0, until - time.monotonic()))
            piece = os.read(self.from_browser, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError("Chromium does not answer" if not ready else "Chromium has ended")
            self.unread += piece
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

"""A page in headless Chromium, driven over its own debugging protocol (CDP) as a person would: mouse, keys, eyes."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0", "--mute-audio"),
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}


class Page:
    """One page, with everything that it asked for and said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._last = socket, 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._events: dict[str, asyncio.Event] = {}
        self.requests: list[str] = []
        self.said: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def send(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol."""
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, 30)

    async def open(self, url: str) -> None:
        """Go there, and wait until it is drawn."""
        loaded = self._events["Page.loadEventFired"] = asyncio.Event()
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(loaded.wait(), 30)
        await self.do("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")

    async def do(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        found = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def resize(self, width: int, height: int, scale: float = 1) -> None:
        """The window's size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        await self.send("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, **features: str) -> None:
        """What the person prefers: ``prefers_color_scheme="dark"`` and the like."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.send("Emulation.setEmulatedMedia", features=wanted)

    async def key(self, name: str) -> None:
        """Press and release a key."""
        code = {"key": name, "code": name, "windowsVirtualKeyCode": _KEYS[name]}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **code)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    async def drag(self, x: float, y: float, to: float) -> None:
        """Press the mouse at (x, y), move it along to ``to``, release it."""
        held = {"y": y, "button": "left", "clickCount": 1}
        await self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, **held)
        for step in range(1, 9):
            await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + (to - x) * step / 8, buttons=1, **held)
        await self.send("Input.dispatchMouseEvent", type="mouseReleased", x=to, **held)

    async def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        found = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            self._take(message.json())

    def _take(self, told: dict[str, Any]) -> None:
        method, parameters = told.get("method"), told.get("params", {})
        if "id" in told:
            answer = self._answers.pop(told["id"])
            if "error" in told:
                answer.set_exception(RuntimeError(str(told["error"])))
            else:
                answer.set_result(told["result"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(f"console.{parameters['type']}: {parameters['args']}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.said.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        if method in self._events:
            self._events[method].set()


@contextmanager
def chromium() -> Iterator[int]:
    """A browser of its own; the port at which it listens."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _port(Path(profile) / "DevToolsActivePort")
        finally:
            process.terminate()
            process.wait(20)


@asynccontextmanager
async def opened(port: int, url: str) -> AsyncIterator[Page]:
    """A new page of the browser, at a URL."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        async with http.put("/json/new?about:blank") as answer:
            target = await answer.json()
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            await page.open(url)
            yield page
            await page.send("Page.close")


def _port(file: Path) -> int:
    for _ in range(600):
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("chromium did not say on which port it listens")

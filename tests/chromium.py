"""A headless Chromium, spoken to by its DevTools protocol: how a page looks, what it asks for.

Source: chromedevtools.github.io/devtools-protocol
"""

import asyncio
import base64
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.servers import until

PROGRAM = shutil.which("chromium")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)
SECONDS = 20  #: for one answer of Chromium: this machine may be busy


@dataclass
class Tab:
    """One tab. What it complains about and what it asks for is kept."""

    socket: ClientWebSocketResponse
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _answers: "dict[int, asyncio.Future[Any]]" = field(default_factory=dict)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Take in what Chromium says, for as long as it says anything."""
        async for message in self.socket:
            said = message.json()
            if waiting := self._answers.pop(said.get("id", 0), None):
                waiting.set_result(said)
            elif said.get("sessionId") == self.session:
                self._note(said["method"], said["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(str(params))
            case _:
                pass

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        about = {"sessionId": self.session} if self.session else {}
        await self.socket.send_json({"id": number, "method": method, "params": params, **about})
        said = await asyncio.wait_for(answer, SECONDS)
        assert "error" not in said, said
        return said["result"]

    async def look(self, width: int, scheme: str, height: int = 900) -> None:
        """From now on as on a screen this wide, for somebody who likes it `light` or `dark`."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **screen)
        likes = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=likes)

    async def open(self, url: str) -> None:
        self._loaded.clear()
        said = await self.call("Page.navigate", url=url)
        assert "errorText" not in said, said
        await asyncio.wait_for(self._loaded.wait(), SECONDS)

    async def submit(self) -> None:
        """Press Enter, and wait for the page that it leads to."""
        self._loaded.clear()
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await asyncio.wait_for(self._loaded.wait(), SECONDS)

    async def evaluate(self, expression: str) -> Any:
        """What the expression is, in the page; our own, so no policy of the page forbids it."""
        said = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def picture(self) -> bytes:
        """A PNG of what is on the screen."""
        said = await self.call("Page.captureScreenshot")
        return base64.b64decode(said["data"])


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A tab of a Chromium of our own; skips the test where there is none."""
    if PROGRAM is None:
        pytest.skip("no chromium on PATH: install Debian's package chromium to look at the page")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with _tab(await _address(Path(profile))) as tab:
                yield tab
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group that it leads: its helpers
            await process.wait()


async def _address(profile: Path) -> str:
    """Where it listens; it writes that into its profile."""
    file = profile / "DevToolsActivePort"

    async def lines() -> list[str]:
        return file.read_text().split() if file.exists() else []

    port, path = await until(lines)
    return f"ws://127.0.0.1:{port}{path}"


@asynccontextmanager
async def _tab(address: str) -> AsyncIterator[Tab]:
    async with ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
        tab = Tab(socket)
        reading = asyncio.create_task(tab.read())
        try:
            target = await tab.call("Target.createTarget", url="about:blank")
            tab.session = (
                await tab.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            )["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            yield tab
        finally:
            reading.cancel()
            await asyncio.wait({reading})

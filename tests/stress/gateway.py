"""A gateway that is well, hangs, or is out of order, as it is told; and knows who asked when."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers import Asked, inquired, scripted_gateway, signed_answer


@dataclass
class Moody:
    """`mood`: well, hang or error. Calls are noted by payment: when, and what was answered."""

    url: str = ""
    mood: str = "well"
    status: Callable[[str], str] = lambda _name: "PROCESSING"
    calls: list[tuple[float, str, str, bool]] = field(default_factory=list)
    #: Answers made beforehand: to sign costs more than all else that happens here.
    made: dict[str, web.Response] = field(default_factory=dict)

    async def answer(self, asked: Asked) -> web.StreamResponse:
        name, call = json.loads(asked.body)["paymentRequestId"], asked.path.rpartition("/")[2]
        well = self.mood == "well"
        self.calls.append((time.monotonic(), call, name, well))
        if self.mood == "hang":
            await asyncio.sleep(3600)
        if not well:
            return web.Response(status=503)
        if call == "cancel":
            said = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."}
            ids = {"paymentRequestId": name, "paymentId": f"2026{name}"}
            return signed_answer(asked.path, {"result": said} | ids)
        return self.made.pop(name, None) or self.make(asked.path, name)

    def make(self, path: str, name: str) -> web.Response:
        return signed_answer(path, inquired(name, self.status(name)))


@asynccontextmanager
async def moody_gateway() -> AsyncIterator[Moody]:
    moody = Moody()
    async with scripted_gateway() as scripted:
        moody.url, scripted.answer = scripted.url, moody.answer
        yield moody

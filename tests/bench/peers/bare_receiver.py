"""The floor of the receiver: an aiohttp handler that reads the body, answers, and keeps nothing."""

import asyncio

from aiohttp import web

from tests.bench.peers.loop import run
from worker.messages import ACK


async def acknowledge(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ACK, content_type="application/json")


async def serve() -> None:
    app = web.Application()
    app.router.add_post("/notify", acknowledge)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve())

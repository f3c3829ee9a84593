"""The merchant's endpoint for callbacks: it believes what the standard's own library believes."""

import json
import random
from dataclasses import dataclass, field

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_YSBzZWNyZXQgb2YgY2hhb3MsIDMyIGJ5dGVzIGxvbmc="
PATH = "/hook"
REFUSES = 0.05  #: of the callbacks, the first time or again


@dataclass(frozen=True, slots=True)
class Call:
    """A callback that was believed and taken."""

    id: str
    payment: str
    seq: int
    status: str


@dataclass(slots=True)
class Endpoint:
    """What was taken, in order."""

    rng: random.Random
    calls: list[Call] = field(default_factory=list)
    disbelieved: list[str] = field(default_factory=list)  #: why

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(PATH, self.hear)
        return app

    async def hear(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError as why:
            self.disbelieved.append(f"{headers.get('webhook-id')}: {why}")
            return web.Response(status=401)
        if self.rng.random() < REFUSES:
            return web.Response(status=503)
        said = json.loads(body)
        data = said["data"]
        if said["id"] != headers["webhook-id"]:
            self.disbelieved.append(f"{headers['webhook-id']}: the body has the id {said['id']}")
        self.calls.append(Call(said["id"], data["paymentRequestId"], data["seq"], data["status"]))
        return web.Response(status=204)

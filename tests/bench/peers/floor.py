"""The floor: what an inquiry cannot do without. A signature, an exchange over HTTP, a verification.

The same bytes under the same headers as the worker's, through a session opened in the same way, by
as many at once; nothing is read, decided, written or logged.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping

from tests.bench.peers.loop import run
from tests.bench.seed import names, settings_of
from worker.gateway import open_session
from worker.requests import api_path, inquiry_body, request_headers
from worker.settings import Account
from worker.signature import Signed, signature_header, verify
from worker.tools import MAX_JOBS


async def exchanges(payments: int, each: int) -> None:
    settings = settings_of(os.environ)
    account = next(iter(settings.accounts.values()))
    asked = iter(names(payments) * each)
    async with open_session(MAX_JOBS) as session:

        async def in_turn(waiting: Iterator[str]) -> None:
            path = api_path(account.client_id, "inquiryPayment")
            for name in waiting:
                body, at = inquiry_body(name), str(time.time_ns() // 1_000_000)
                question = Signed(path, account.client_id, at, body)
                signature = signature_header(question, account.private_key, account.key_version)
                headers = request_headers(question, signature)
                url = account.gateway_url + path
                async with session.post(url, data=body, headers=headers) as reply:
                    check(account, path, reply.headers, await reply.read())

        await asyncio.gather(*(in_turn(asked) for _ in range(MAX_JOBS)))


def check(account: Account, path: str, headers: Mapping[str, str], body: bytes) -> None:
    answer = Signed(path, headers["client-id"], headers["response-time"], body)
    verify(answer, headers["signature"], client_id=account.client_id, keys=account.public_keys)


if __name__ == "__main__":
    run(exchanges(int(sys.argv[1]), int(sys.argv[2])))

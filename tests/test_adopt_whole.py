"""Adoption as a merchant lives it: real processes, many payments, and all of Redis lost."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money
from jobs.outcome import rfc3339
from tests.keys import CLIENT_ID
from tests.servers import (
    OtherServer,
    Process,
    environ,
    now_ms,
    own_server,
    process,
    reconciler,
    says,
    scripted_gateway,
    until,
)
from worker.keys import Keys
from worker.mock_gateway import RunningMock, agrees

pytestmark = pytest.mark.once

PREFIX = "adopting"
K = Keys(PREFIX)
HEADING = "paymentRequestId,currency,value,paymentExpiryTime"
MANY = int(os.environ.get("IMPORTED", "30000"))  #: `make import-killed` takes 100,000


@pytest.fixture
def server() -> Iterator[OtherServer]:
    with own_server() as server:
        yield server


@asynccontextmanager
async def client(server: OtherServer) -> AsyncIterator[Redis]:
    redis = Redis.from_url(server.url, decode_responses=True)
    yield redis
    await redis.aclose()


def table(folder: Path, *rows: str) -> str:
    file = folder / "payments.csv"
    file.write_text("\n".join([HEADING, *rows]) + "\n")
    return str(file)


async def ended(running: Process, seconds: float = 120) -> int:
    return await asyncio.to_thread(running.ended, seconds)


async def ran(folder: Path, given: dict[str, str], *words: str) -> tuple[int, Any]:
    """Exit code, and the JSON on stdout."""
    with process(folder, given, *reconciler(*words, "--json")) as running:
        out = await asyncio.to_thread(running.stdout)
        assert out, running.said
        return await ended(running), json.loads(out)


async def payments_in(redis: Redis) -> list[str]:
    """Of every command in the stream, in its order."""
    found, first = [], "-"
    while page := await redis.xrange(K.commands, first, "+", count=20_000):
        found += [json.loads(fields["data"])["paymentRequestId"] for _, fields in page]
        first = f"({page[-1][0]}"
    return found


async def progress(redis: Redis) -> int:
    lines: dict[str, str] = await redis.hgetall(K.imports)  # type: ignore[misc]
    besides = (":began", ":left")
    return max((int(at) for name, at in lines.items() if not name.endswith(besides)), default=0)


async def test_of_payments_imported_and_killed_half_way_none_is_missing_and_none_twice(
    server: OtherServer, tmp_path: Path
) -> None:
    closing = rfc3339(now_ms() + 86_400_000)
    wanted = [f"order-{n}" for n in range(MANY)]
    file = table(tmp_path, *(f"{name},USD,599,{closing}" for name in wanted))
    given = environ(server.url, PREFIX, "")
    words = ("track", "--file", file, "--room", "0")  # no worker runs, so nobody is kept waiting
    async with client(server) as redis:
        with process(tmp_path, given, *reconciler(*words)) as importing:

            async def half() -> bool:
                assert importing.running, importing.said
                return await progress(redis) > 0.4 * MANY

            await until(half, 180)
            importing.signal(signal.SIGKILL)
            assert await ended(importing) == -signal.SIGKILL
            assert f"10,000 of {MANY:,} written" in importing.said
        stands = await progress(redis)
        assert 0.4 * MANY < stands < MANY
        assert await redis.xlen(K.commands) == stands - 1  # the heading is line 1
        code, said = await ran(tmp_path, given, *words)
        assert (code, said["writtenBefore"]) == (0, stands)
        assert said["written"] == MANY - (stands - 1)
        assert await payments_in(redis) == wanted


async def test_an_imported_list_is_carried_out_and_what_is_rejected_is_told(
    server: OtherServer, tmp_path: Path
) -> None:
    rows = [f"order-{n},USD,599," for n in range(500)]
    async with client(server) as redis, scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        given = environ(server.url, PREFIX, gateway.url)
        with process(tmp_path, given, *reconciler("worker")) as worker:
            await asyncio.to_thread(worker.wait_for, "worker.started")
            words = ("track", "--file", table(tmp_path, *rows), "--wait", "--room", "100")
            code, said = await ran(tmp_path, given, *words)
            assert (code, said["written"], said["rejected"]) == (0, 500, [])

            async def all_told() -> bool:
                return bool(await redis.xlen(K.outcomes) == 500)

            await until(all_told, 120)
            told = [fields["id"] for _, fields in await redis.xrange(K.outcomes)]
            assert set(told) == {f"{CLIENT_ID}:order-{n}:succeeded" for n in range(500)}
            other = table(tmp_path, "order-7,USD,600,", "order-501,USD,599,")
            code, said = await ran(tmp_path, given, "track", "--file", other, "--wait")
            [bad] = said["rejected"]
            assert (code, bad["line"], bad["paymentRequestId"]) == (1, 2, "order-7")
            assert bad["message"].startswith("conflict: ")


# Everything lost

SCENARIOS = {
    "paid-1": "succeeded",
    "paid-2": "succeeded",
    "failed-1": "failed",
    "closed_by_gateway-1": "cancelled",
    "never_paid-1": "cancelled",
}


async def outcomes(redis: Redis) -> dict[str, dict[str, Any]]:
    """The final outcome of each payment by its event's id."""
    found = {}
    for _, fields in await redis.xrange(K.outcomes):
        data = json.loads(fields["data"])["data"]
        if data["finalAt"]:
            found[fields["id"]] = data
    return found


async def follow(redis: Redis) -> dict[str, dict[str, Any]]:
    async def over() -> bool:
        return len(await outcomes(redis)) == len(SCENARIOS)

    await until(over, 120)
    return await outcomes(redis)


async def test_all_is_rebuilt_from_the_merchants_list_after_redis_was_lost(
    server: OtherServer, mock: RunningMock, tmp_path: Path
) -> None:
    """As docs/adopt.md says it, with a deployment that refuses an empty Redis."""
    given = environ(server.url, PREFIX, mock.url)
    guarded = given | {"REQUIRE_STATE": "true"}
    closing = rfc3339(now_ms() + 1500)
    file = table(tmp_path, *(f"{name},USD,599,{closing}" for name in SCENARIOS))
    for name in SCENARIOS:
        mock.ledger.create(name, Money("USD", 599), now_ms())
    words = ("track", "--file", file, "--on-timeout", "cancel", "--wait")
    async with client(server) as redis:
        with process(tmp_path, given, *reconciler("worker")) as worker:
            assert (await ran(tmp_path, given, *words))[0] == 0
            before = await follow(redis)
            worker.signal(signal.SIGTERM)
            assert await ended(worker) == 0
        await redis.flushall()
        for command in (("worker",), words):  # neither goes on as if nothing had happened
            with process(tmp_path, guarded, *reconciler(*command)) as refused:
                assert await ended(refused) == 5
                assert "Redis holds nothing of ours" in refused.said
        assert await redis.dbsize() == 0
        with process(tmp_path, given, *reconciler("worker")):
            code, said = await ran(tmp_path, given, *words)
            assert (code, said["written"], said["past"]) == (0, len(SCENARIOS), len(SCENARIOS))
            after = await follow(redis)
            code, said = await ran(tmp_path, guarded, "audit", "--file", file, "--rate", "100")
        assert (code, said["counts"]) == (0, {"agrees": len(SCENARIOS)})
    assert after.keys() == before.keys() == {f"{CLIENT_ID}:{n}:{s}" for n, s in SCENARIOS.items()}
    truths = {truth.payment_request_id: truth for truth in mock.ledger.truths(now_ms())}
    for id_, data in after.items():
        assert agrees(data["status"], truths[data["paymentRequestId"]]), id_
        assert data["seq"] > before[id_]["seq"]

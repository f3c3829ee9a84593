"""The jobs as arq calls them: whatever fails in one, arq hears nothing of it but `Retry`."""

from datetime import UTC, datetime

import pytest
from arq.worker import Retry
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from jobs.schedule import Policy
from jobs.tools import Account, Loaded, Tools
from tests.fakes import ScriptedGateway as NobodyAsked
from tests.keys import CLIENT_ID
from worker import arq_jobs, connect
from worker.keys import Keys
from worker.logs import log
from worker.records import UnknownSchema
from worker.store import Store


class Failing(Store):
    """A store where everything fails in one way."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(Redis(), Keys())
        self.fault = fault

    async def claim(self, _: str) -> Loaded | None:
        raise self.fault

    async def load(self, _: str) -> Loaded | None:
        raise self.fault

    async def rearm(self, _: str) -> None:
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (UnknownSchema("record has schema '2'"), "record.unreadable"),
        (RedisConnectionError("away"), "worker.redis_waiting"),
        (OSError("away"), "worker.redis_waiting"),
        (RuntimeError("a bug"), "job.failed"),
    ],
)
async def test_a_wake_up_that_fails_says_so_and_costs_the_worker_nothing(
    fault: Exception, event: str, log_lines: list[EventDict]
) -> None:
    tools = Tools(store=Failing(fault), accounts={}, log=log)
    await arq_jobs.follow_payment({"tools": tools}, f"{CLIENT_ID}:order-1")
    assert [line["event"] for line in log_lines] == [event]


async def test_the_next_wake_up_of_a_payment_is_queued_when_one_has_ended(
    redis_url: str, redis: Redis, prefix: str
) -> None:
    store = Store(connect.client(redis_url), Keys(prefix))
    key = f"{CLIENT_ID}:order-1"
    await redis.zadd(store.keys.open, {key: 1_800_000_000_000})
    await arq_jobs.rearm({"store": store, "job_id": store.keys.job(key)})
    assert await redis.zscore(store.keys.queue, store.keys.job(key)) == 1_800_000_000_000
    await store.redis.aclose()


async def test_the_end_of_a_command_job_wakes_nobody() -> None:
    store = Failing(AssertionError("woken"))
    await arq_jobs.rearm({"store": store, "job_id": "a" * 32})


async def test_a_wake_up_that_cannot_be_queued_is_left_to_the_sweep(
    log_lines: list[EventDict],
) -> None:
    store = Failing(RedisConnectionError("away"))
    await arq_jobs.rearm({"store": store, "job_id": store.keys.job("a:b")})
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"]


@pytest.mark.parametrize("job", arq_jobs.COMMAND_JOBS.values())
async def test_a_command_given_as_a_job_is_tried_again_when_redis_is_away(
    job: str, log_lines: list[EventDict]
) -> None:
    """arq drops a job for any other exception."""
    given = '{"paymentRequestId": "order-1"}'
    if job == "payment.track":
        given = given[:-1] + ', "paymentAmount": {"currency": "USD", "value": "1"}}'
    store = Failing(RedisConnectionError("away"))
    account = Account(gateway=NobodyAsked(), policy=Policy(), brake=0)
    tools = Tools(store=store, accounts={CLIENT_ID: account}, log=log)
    ctx = {"tools": tools, "store": store, "job_id": "j", "enqueue_time": datetime.now(UTC)}
    with pytest.raises(Retry):
        await arq_jobs.command_job(job)(ctx, given)
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"]

"""The jobs as arq calls them: whatever fails in one, arq hears nothing of it but `Retry`."""

from datetime import UTC, datetime, timedelta

import pytest
from arq.worker import Retry
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from jobs.model import Rejected
from jobs.schedule import Policy
from jobs.tools import Account, Loaded, Tools
from tests.fakes import ScriptedGateway as NobodyAsked
from tests.keys import CLIENT_ID
from worker import arq_jobs, records
from worker.keys import Keys
from worker.logs import log
from worker.outage import Outage
from worker.records import OtherVersions, UnknownSchema
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

    async def reject(self, _: Rejected) -> None:
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
    ctx = {"tools": tools, "other_versions": OtherVersions(), "outage": Outage("jobs")}
    await arq_jobs.follow_payment(ctx, f"{CLIENT_ID}:order-1")
    assert [line["event"] for line in log_lines] == [event]


async def test_a_record_that_cannot_be_read_is_told_once_in_a_while(
    log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Failing(UnknownSchema("record has schema '2'"))
    shared = {
        "tools": Tools(store=store, accounts={}, log=log),
        "store": store,
        "other_versions": OtherVersions(),
        "outage": Outage("jobs"),
    }
    for key in ("a:1", "a:1", "a:2", "a:1"):
        await arq_jobs.follow_payment(shared, key)
    assert [line["payment_request_id"] for line in log_lines] == ["1", "2"]
    monkeypatch.setattr(records, "TOLD_EVERY", 0)
    await arq_jobs.follow_payment(shared, "a:1")
    assert len(log_lines) == 3, "and told again after a while"


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
    ctx["outage"] = Outage("jobs")
    with pytest.raises(Retry):
        await arq_jobs.command_job(job)(ctx, given)
    with pytest.raises(Retry):
        await arq_jobs.command_job(job)(ctx, "malformed")
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"] * 2


@pytest.mark.parametrize(("tries", "waited"), [(1, 0), (2, 5_000), (13, 60_000)])
async def test_a_command_of_the_future_is_as_old_as_its_tries_have_taken(
    tries: int, waited: int
) -> None:
    """By the clock of who enqueued it, an order without a payment would be tried for ever."""
    store = Failing(RedisConnectionError("away"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ctx = {"store": store, "enqueue_time": tomorrow, "job_try": tries}
    assert arq_jobs._written_at(ctx) == pytest.approx(store.now() - waited, abs=2000)
    ctx["enqueue_time"] = datetime.fromtimestamp(1_000_000_000, UTC)
    assert arq_jobs._written_at(ctx) == 1_000_000_000_000

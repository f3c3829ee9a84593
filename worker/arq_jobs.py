"""The worker's jobs, as arq would call them; `worker.dispatch` does, and hears of `Retry` alone."""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from arq.worker import Retry
from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars

from jobs.follow import follow
from jobs.model import Ms
from jobs.schedule import SECOND
from worker.commands import BadCommand, as_dead, execute, rejection_of, report_dead
from worker.envelope import encode_data
from worker.logs import log
from worker.records import UnknownSchema

COMMAND_RETRY: Ms = 5 * SECOND

#: No two processes begin at the same number, or near it.
_WAKES = itertools.count(secrets.randbits(64))


async def follow_payment(ctx: dict[str, Any], key: str) -> None:
    """One wake-up of one payment; its lines share an id."""
    with bound_contextvars(wake_id=f"{next(_WAKES) % 2**64:016x}"):
        try:
            await follow(key, ctx["tools"])
            ctx["outage"].answers()
        except UnknownSchema as fault:
            if ctx["other_versions"].is_news(key):
                log.error("record.unreadable", **ids_of(key), fault=str(fault))
        except (RedisError, OSError) as fault:
            ctx["outage"].waits(fault)
        except Exception:  # a bug: the lease runs out and another wake-up tries again
            log.exception("job.failed", task="follow", **ids_of(key))


def ids_of(key: str) -> dict[str, str]:
    """A payment's key, as log lines tell it."""
    client_id, _, payment_request_id = key.partition(":")
    return {"client_id": client_id, "payment_request_id": payment_request_id}


def command_job(type_: str) -> Any:
    """A command as an arq job: as safe as arq, no safer."""

    async def run(ctx: dict[str, Any], *said: Any, **named: Any) -> None:
        try:
            done = await _execute_or_bury(type_, said, named, ctx)
        except (RedisError, OSError) as fault:
            ctx["outage"].waits(fault)
            raise Retry(defer=COMMAND_RETRY / SECOND) from fault
        except UnknownSchema as fault:
            if ctx["other_versions"].is_news(ctx["job_id"]):
                log.error("record.unreadable", command_id=ctx["job_id"], fault=str(fault))
            raise Retry(defer=COMMAND_RETRY / SECOND) from fault
        else:
            if not done:
                raise Retry(defer=COMMAND_RETRY / SECOND)

    return run


async def _execute_or_bury(
    type_: str, said: Sequence[Any], named: Mapping[str, Any], ctx: Mapping[str, Any]
) -> bool:
    id_, store = ctx["job_id"], ctx["store"]
    given = said or [named.get("data", named)]
    data = given[0] if isinstance(given[0], str) else encode_data(given[0])
    try:
        _check_call(said, named)
        return await execute(type_, data, id_, _written_at(ctx), ctx["tools"])
    except BadCommand as bad:
        await store.reject(rejection_of(bad, type_, id_))
        raw = {"type": type_, "data": data.encode(errors="surrogatepass")}
        await store.redis.xadd(store.keys.dead, as_dead(raw, bad, ctx.get("job_try", 1), id_))
        report_dead(bad, type_, id_)
        return True


def _check_call(said: Sequence[Any], named: Mapping[str, Any]) -> None:
    """arq would delete a job that is called otherwise, and nobody would hear of it."""
    if len(said) + len(named) != 1 or (named and "data" not in named):
        message = 'an arq job takes one argument, the data: ("track_payment", {"payment...": ...})'
        raise BadCommand("malformed", message)


def _written_at(ctx: Mapping[str, Any]) -> Ms:
    """By the clock of who wrote it, which may be ahead: each try was a while before the next."""
    tried_for: Ms = (ctx.get("job_try", 1) - 1) * COMMAND_RETRY
    written: Ms = round(ctx["enqueue_time"].timestamp() * 1000)
    latest: Ms = ctx["store"].now() - tried_for
    return min(written, latest)


COMMAND_JOBS = {
    "track_payment": "payment.track",
    "submit_payment": "payment.submit",
    "cancel_payment": "payment.cancel",
    "recheck_payment": "payment.recheck",
    "forget_payment": "payment.forget",
}

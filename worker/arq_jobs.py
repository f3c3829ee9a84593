"""The worker's jobs, as arq calls them: nothing that they raise reaches arq but `Retry`.

arq deletes a job for any other exception.
"""

from collections.abc import Mapping
from typing import Any

from arq.worker import Retry
from redis.exceptions import RedisError

from jobs.follow import follow
from worker.commands import BadCommand, encode_data, execute, rejection_of
from worker.logs import log
from worker.records import UnknownSchema

COMMAND_RETRY_SECONDS = 5


async def follow_payment(ctx: dict[str, Any], key: str) -> None:
    """One wake-up of one payment."""
    try:
        await follow(key, ctx["tools"])
    except UnknownSchema as fault:
        log.error("record.unreadable", payment=key, fault=str(fault))
    except (RedisError, OSError) as fault:
        log.warning("worker.redis_waiting", fault=str(fault)[:200], task="follow")
    except Exception:  # a bug: the lease runs out and another wake-up tries again
        log.exception("job.failed", payment=key)


async def rearm(ctx: dict[str, Any]) -> None:
    """arq has just deleted a payment's job: queue its next one. What fails here is swept up."""
    job_id, prefix = ctx["job_id"], ctx["store"].keys.prefix + ":"
    if not job_id.startswith(prefix):
        return
    try:
        await ctx["store"].rearm(job_id.removeprefix(prefix))
    except (RedisError, OSError) as fault:
        log.warning("worker.redis_waiting", fault=str(fault)[:200], task="rearm")


def command_job(type_: str) -> Any:
    """A command as an arq job: as safe as arq, no safer."""

    async def run(ctx: dict[str, Any], data: Mapping[str, Any] | str) -> None:
        at = round(ctx["enqueue_time"].timestamp() * 1000)
        text = data if isinstance(data, str) else encode_data(data)
        try:
            done = await execute(type_, text, ctx["job_id"], at, ctx["tools"])
        except BadCommand as bad:
            await ctx["store"].reject(rejection_of(bad, type_, ctx["job_id"]))
            log.warning("command.rejected", command_id=ctx["job_id"], reason=bad.reason)
        except (RedisError, OSError) as fault:
            log.warning("worker.redis_waiting", fault=str(fault)[:200], task="command")
            raise Retry(defer=COMMAND_RETRY_SECONDS) from fault
        except UnknownSchema as fault:
            log.error("record.unreadable", command_id=ctx["job_id"], fault=str(fault))
            raise Retry(defer=COMMAND_RETRY_SECONDS) from fault
        else:
            if not done:
                raise Retry(defer=COMMAND_RETRY_SECONDS)

    return run


COMMAND_JOBS = {
    "track_payment": "payment.track",
    "cancel_payment": "payment.cancel",
    "recheck_payment": "payment.recheck",
    "forget_payment": "payment.forget",
}

"""The product with a fault planted: `python -m tests.chaos.plant NAME worker ...`.

Chaos must find each of these; `tests/simulation/mutants.py` has many more, for virtual time.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from redis.exceptions import RedisError

from jobs import follow, step
from jobs.deliveries import Attempt
from jobs.model import Act, Decision, Payment
from worker import cli, courier, main, messages, receiver
from worker.gateway import HttpGateway
from worker.scripts import Confirm, Scripts
from worker.store import Store

MOMENT = 3.0  #: seconds between a careless look and what is done about it, as in a frozen worker


def plant(module: Any, name: str, new: Any) -> None:
    patch.object(module, name, new).start()


def ack_before_write() -> None:
    """The receiver answers first, and writes when it has time."""
    keep, later = receiver._keep, set()

    async def answer_first(visit: Any, message: Any, store: Store) -> str:
        async def write() -> None:
            with contextlib.suppress(RedisError, OSError):
                await keep(visit, message, store)

        task = asyncio.ensure_future(write())
        later.add(task)
        task.add_done_callback(later.discard)
        return "accepted"

    plant(receiver, "_keep", answer_first)


def two_writes() -> None:
    """The record is written, and the events about it in a second step."""
    run = Scripts.run

    async def split(
        self: Scripts, name: str, keys: Any, args: Any, confirm: Confirm | None = None
    ) -> list[Any]:
        if name != "save":
            return await run(self, name, keys, args, confirm)
        write = json.loads(args[0])
        events, write["events"] = write["events"], []
        answer = await run(self, name, keys, [json.dumps(write)], confirm)
        for fields in events if answer[1] else []:
            await run(self, "append", [keys[4]], fields, confirm)
        return answer

    plant(Scripts, "run", split)


def no_sweep() -> None:
    """What arq has lost stays lost."""

    async def nothing(tools: Any) -> int:
        return 0

    plant(main, "sweep", nothing)


def cancel_without_cas() -> None:
    """The right to cancel is looked at, not taken: what others write meanwhile does not stop it."""
    save = Store.save

    async def careless(
        self: Store, loaded: Any, decision: Decision, entries: Any, **more: Any
    ) -> Any:
        if decision.act is not Act.CANCEL:
            return await save(self, loaded, decision, entries, **more)
        await asyncio.sleep(MOMENT)
        saved = await save(self, loaded, replace(decision, act=Act.WAIT), entries, **more)
        return saved or decision.payment

    plant(Store, "save", careless)


def give_up_after_5() -> None:
    """arq's default: what was tried five times is dropped, and nobody hears of it."""
    judge = step.judge

    def impatient(tools: Any, loaded: Any, message: Any) -> step.Step:
        made = judge(tools, loaded, message)
        if made.decision.payment.attempts <= 5 or made.decision.events:
            return made
        payment = replace(made.decision.payment, next_at=None)
        return replace(made, decision=replace(made.decision, payment=payment, act=Act.WAIT))

    plant(step, "judge", impatient)
    plant(follow, "judge", impatient)


def pay_anew() -> None:
    """Each try to pay is a request of its own, as if it had not been written down."""

    async def pay(self: HttpGateway, payment: Payment, asked_at: int) -> Any:
        said = json.loads(payment.pay_request)
        said["order"]["orderDescription"] += f" {payment.pay_attempts}"
        body = json.dumps(said).encode()
        return await self._ask("pay", body, asked_at, messages.parse_pay_answer)

    plant(HttpGateway, "pay", pay)


def callback_written_off_first() -> None:
    """A callback counts as delivered before it is: what happens to it then, nobody sees."""
    send, later = courier.send, set()

    async def settled_first(session: Any, parcel: courier.Parcel) -> Attempt:
        task = asyncio.ensure_future(send(session, parcel))
        later.add(task)
        task.add_done_callback(later.discard)
        return Attempt(status=204)

    plant(courier, "send", settled_first)


#: By name. `everysec` patches nothing: the run itself has another fsync and DURABILITY=memory.
PLANTED: Mapping[str, Callable[[], None]] = {
    "ack_before_write": ack_before_write,
    "two_writes": two_writes,
    "no_sweep": no_sweep,
    "cancel_without_cas": cancel_without_cas,
    "give_up_after_5": give_up_after_5,
    "pay_anew": pay_anew,
    "callback_written_off_first": callback_written_off_first,
    "everysec": lambda: None,
}


if __name__ == "__main__":
    PLANTED[sys.argv[1]]()
    raise SystemExit(cli.main(sys.argv[2:]))

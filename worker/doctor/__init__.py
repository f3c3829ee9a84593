"""`reconciler doctor`: whether a deployment is as it must be, and what to do where it is not.

Nothing is changed: of Redis it is asked, the gateway is asked about a payment that nobody made, and
the notify URL is sent one message that nobody signed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.doctor.check import Check, Verdict, by_account, failed, ok
from worker.doctor.gateway import check_gateway
from worker.doctor.local import check_files, check_keys, check_names
from worker.doctor.notify import check_notify_url
from worker.doctor.ports import check_ports
from worker.doctor.store import check_redis
from worker.doctor.values import check_values
from worker.environment import Need
from worker.rights import Role
from worker.settings import Settings, Source

__all__ = ["Check", "Patient", "Verdict", "examine"]

NEEDS = {Role.RECEIVER: Need.NOTIFICATIONS, Role.WORKER: Need.GATEWAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is to be looked at: the settings as a process would find them, and what it is to do."""

    environ: Mapping[str, str]
    dotenv: Path | None = None
    overrides: Mapping[str, str] | None = None
    roles: Sequence[Role] = (Role.RECEIVER, Role.WORKER)

    @property
    def source(self) -> Source:
        need = Need.COMMANDS
        for role in self.roles:
            need |= NEEDS[role]
        return Source(environ=self.environ, dotenv=self.dotenv, overrides=self.overrides, need=need)


async def examine(patient: Patient, *, offline: bool = False) -> list[Check]:
    """Every check, in the order in which a person would mend things.

    `offline` leaves out what calls the gateway and the notify URL.
    """
    settings, faults = patient.source.survey()
    each = {client_id: settings.of(client_id) for client_id in _asked_about(settings)}
    local = [
        *(_fault(fault) for fault in faults),
        *([] if faults else [ok("settings", "all of them can be used")]),
        *([] if faults else check_names(patient.environ, patient.dotenv)),
        *by_account({client_id: check_values(own) for client_id, own in each.items()}),
        *by_account({client_id: check_keys(own) for client_id, own in each.items()}),
        *check_files(settings, patient.environ, patient.dotenv),
        *await check_ports(settings, patient.roles),
    ]
    redis, gateway, notify = await asyncio.gather(
        check_redis(settings, patient.roles),
        _of_each(each, lambda own: check_gateway(own, patient.roles, offline)),
        _of_each(each, lambda own: check_notify_url(own, offline)),
    )
    return [*local, *redis, *gateway, *notify]


def _asked_about(settings: Settings) -> Sequence[str]:
    """The account that was named, or all of them; one without a name where there is none."""
    return [settings.client_id] if settings.client_id else settings.client_ids or [""]


async def _of_each(
    each: Mapping[str, Settings], look: Callable[[Settings], Awaitable[list[Check]]]
) -> list[Check]:
    found = await asyncio.gather(*map(look, each.values()))
    return by_account(dict(zip(each, found, strict=True)))


def _fault(text: str) -> Check:
    """A fault of the settings; its remedy stands behind the first colon or full stop."""
    colon, stop = text.find(": "), text.find(". ")
    cut = min(at for at in (colon, stop, len(text)) if at >= 0)
    seen, fix = text[:cut], text[cut + 2 :] or "see .env.example"
    return failed("settings", seen, f"set it. {fix}" if seen.endswith(" is not set") else fix)

"""`reconciler doctor`: whether a deployment is as it must be, and what to do where it is not.

Nothing is changed: of Redis it is asked, the gateway is asked about a payment that nobody made, and
the notify URL is sent one message that nobody signed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.doctor.check import Check, Verdict, failed, ok
from worker.doctor.gateway import check_gateway
from worker.doctor.local import check_files, check_keys, check_names
from worker.doctor.notify import check_notify_url
from worker.doctor.ports import check_ports
from worker.doctor.store import check_redis
from worker.doctor.values import check_values
from worker.environment import Need
from worker.rights import Role
from worker.settings import survey

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
    def need(self) -> Need:
        need = Need.COMMANDS
        for role in self.roles:
            need |= NEEDS[role]
        return need


async def examine(patient: Patient, *, offline: bool = False) -> list[Check]:
    """Every check, in the order in which a person would mend things.

    `offline` leaves out what calls the gateway and the notify URL.
    """
    settings, faults = survey(patient.environ, patient.dotenv, patient.overrides, need=patient.need)
    local = [
        *(_fault(fault) for fault in faults),
        *([] if faults else [ok("settings", "all of them can be used")]),
        *([] if faults else check_names(patient.environ, patient.dotenv)),
        *check_values(settings),
        *check_keys(settings),
        *check_files(settings, patient.environ, patient.dotenv),
        *await check_ports(settings, patient.roles),
    ]
    redis, gateway, notify = await asyncio.gather(
        check_redis(settings, patient.roles),
        check_gateway(settings, patient.roles, offline),
        check_notify_url(settings, offline),
    )
    return [*local, *redis, *gateway, *notify]


def _fault(text: str) -> Check:
    """A fault of the settings; its remedy stands behind the first colon or full stop."""
    colon, stop = text.find(": "), text.find(". ")
    cut = min(at for at in (colon, stop, len(text)) if at >= 0)
    seen, fix = text[:cut], text[cut + 2 :] or "see .env.example"
    return failed("settings", seen, f"set it. {fix}" if seen.endswith(" is not set") else fix)

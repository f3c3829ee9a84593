"""Whether the ports that the processes listen on are free, or taken by processes of ours."""

import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from worker.doctor.check import Check, failed, ok, warning
from worker.doctor.notify import is_ours
from worker.doctor.tls import STEP_SECONDS
from worker.rights import Role
from worker.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Where one of our processes is to listen."""

    what: str
    setting: str
    number: int
    host_setting: str
    host: str
    is_ours: Callable[[str], Awaitable[bool]]  #: whether what answers at host:port is
    #: What it means if it cannot listen: the receiver ends, but goes on without an admin port.
    verdict: Callable[[str, str, str], Check]


async def check_ports(settings: Settings, roles: Sequence[Role]) -> list[Check]:
    ports = [port for port in _ports(settings, roles) if port.number]
    checks = [await _check(port) for port in ports]
    if Role.RECEIVER in roles and settings.receiver_port == 0:
        seen = "RECEIVER_PORT=0: the receiver takes any port, which no proxy can know"
        checks.append(warning("port", seen, "set RECEIVER_PORT=8080"))
    twice = [n for n, count in Counter(port.number for port in ports).items() if count > 1]
    for number in twice:
        names = " and ".join(port.setting for port in ports if port.number == number)
        seen = f"{names} are both {number}"
        checks.append(failed("port", seen, "give each a port of its own"))
    return checks


def _ports(settings: Settings, roles: Sequence[Role]) -> Iterator[Port]:
    if Role.RECEIVER in roles:
        scheme = "https" if settings.tls_cert_file and settings.tls_key_file else "http"
        yield Port(
            what="port",
            setting="RECEIVER_PORT",
            number=settings.receiver_port,
            host_setting="RECEIVER_HOST",
            host=settings.receiver_host,
            is_ours=lambda where: is_ours(f"{scheme}://{where}{settings.notify_path}"),
            verdict=failed,
        )
    for role, number in (
        (Role.RECEIVER, settings.receiver_admin_port),
        (Role.WORKER, settings.worker_admin_port),
    ):
        if role in roles:
            yield Port(
                what=f"admin port of the {role.value}",
                setting=f"{role.name}_ADMIN_PORT",
                number=number,
                host_setting="ADMIN_HOST",
                host=settings.admin_host,
                is_ours=_is_an_admin_port,
                verdict=warning,
            )


async def _check(port: Port) -> Check:
    where = f"{port.host}:{port.number}"
    try:
        _bind(port.host, port.number)
    except OSError as fault:
        return await _not_to_be_had(port, fault)
    return ok(port.what, f"{where} is free")


def _bind(host: str, port: int) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = found[0]
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as our servers do
        probe.bind(address)


async def _not_to_be_had(port: Port, fault: OSError) -> Check:
    if fault.errno == errno.EADDRINUSE:
        here = "127.0.0.1" if port.host in ("0.0.0.0", "::") else port.host
        if await port.is_ours(f"{here}:{port.number}"):
            return ok(port.what, f"a process of ours answers on port {port.number}")
        seen = f"port {port.number} is taken by another program"
        return port.verdict(port.what, seen, f"end that program, or set {port.setting}")
    if fault.errno == errno.EACCES:
        seen = f"this user may not listen on port {port.number}"
        fix = f"set {port.setting} above 1023, and let a proxy listen below"
        return port.verdict(port.what, seen, fix)
    seen = f"{port.host_setting} {port.host} is no address of this machine"
    return port.verdict(port.what, seen, f"set {port.host_setting} to one of its addresses")


async def _is_an_admin_port(where: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=STEP_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{where}/healthz", allow_redirects=False) as reply,
        ):
            said = await reply.json()
            return bool(said == {"status": "ok"})
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False

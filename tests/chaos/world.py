"""Everything that runs, the faults that befall it, and the quiet afterwards."""

import asyncio
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, ResponseError

from tests.chaos import endpoint, plan
from tests.chaos.endpoint import Endpoint
from tests.chaos.merchant import GROUP, Merchant
from tests.chaos.plan import HTTP_WIRES, REDIS_WIRES, WORKERS, Fault, Kind
from tests.chaos.proxy import Wire
from tests.chaos.server import Server
from tests.chaos.supervisor import Service
from tests.servers import bare
from worker.keys import Keys
from worker.mock_gateway.command import make_keys

CLIENT_ID = "SANDBOX_5X00000000000000"
START_SECONDS = 30
READY_SHARE = 0.8  #: of the kills wait until their target works; the others may hit a start
WORKS_SECONDS = (0.0, 2.0)  #: for so long it then may
GRACE_SECONDS = 15

#: Everything happens within seconds, so every delay shrinks with the closing time. A cancel may be
#: held back by a frozen gateway and a wire that swallows, one after the other.
SETTINGS = {
    "ALIPAY_CLIENT_ID": CLIENT_ID,
    "RECEIVER_HOST": "127.0.0.1",
    "GATEWAY_TIMEOUT_SECONDS": "1.5",
    "RECONCILER_SCHEDULE": "0.5,0.5,1",
    "PENDING_SCHEDULE": "1,2",
    "UNRESOLVED_SCHEDULE": "2,4",
    "CANCEL_SCHEDULE": "0.5,0.5,1,1,2",
    "CANCEL_QUIET_SECONDS": str(2 * plan.HELD_AT_MOST + 2),
    "CANCEL_LIMIT_SECONDS": "30",
    "LAST_INQUIRY_GRACE_SECONDS": str(GRACE_SECONDS),
    "NOT_FOUND_SETTLE_SECONDS": "3",
    "AFTERCARE_SCHEDULE": "1,3,6,10",
    "SWEEP_SECONDS": "1",
    "OUTCOME_GROUPS": GROUP,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a run is told."""

    folder: Path  #: short, as a socket lies in it; logs stay there
    shim: Path | None
    seed: int = 0
    binary: Path | None = None
    fsync: str = "always"
    durability: str = "fsync"
    planted: str = ""
    per_second: float = 4.0  #: new payments
    pace: float = 1  #: of the faults
    outage: float = 0  #: seconds that the server is away in the middle of the run


@dataclass(slots=True)
class World:
    """The processes, their wires, and a hand that breaks them."""

    setup: Setup
    server: Server
    services: dict[str, Service]
    wires: dict[str, Wire]
    admin: Redis  #: past all wires
    gateway: aiohttp.ClientSession
    merchant: Merchant
    endpoint: Endpoint
    rng: random.Random
    injected: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    forgotten: int = 0  #: bytes that power cuts took
    started: float = field(default_factory=time.monotonic)
    _hand: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))
    _at_server: asyncio.Lock = field(default_factory=asyncio.Lock)
    _lasting: list["asyncio.Future[None]"] = field(default_factory=list)

    async def break_things(self, seconds: float) -> None:
        """Let the merchant sell, and let everything go wrong around it for so long."""
        selling = asyncio.ensure_future(self.merchant.sell(self.setup.per_second))
        if self.setup.outage:
            self._last(self._outage(seconds / 2))
        try:
            async with asyncio.timeout(seconds):
                for wait, fault in plan.draw(random.Random(self.setup.seed), self.setup.pace):
                    await asyncio.sleep(wait)
                    self._last(self.befall(fault))
        except TimeoutError:
            pass
        finally:
            selling.cancel()
            await self._calm_down()

    async def _outage(self, after: float) -> None:
        await asyncio.sleep(after)
        await self._restart_server(Fault(Kind.TERMINATE, "server", self.setup.outage))

    async def befall(self, fault: Fault) -> None:
        """Let one fault happen, to its end."""
        match fault.kind:
            case Kind.KILL | Kind.TERMINATE | Kind.POWER_CUT if fault.target == "server":
                await self._restart_server(fault)
            case Kind.KILL | Kind.TERMINATE:
                await self._end(fault)
            case Kind.FREEZE:
                await self._freeze(fault)
            case kind if kind in plan.SPOILS:
                await self._spoil(fault, self.wires[fault.target])
            case _:
                with suppress(RedisError, OSError):
                    await self._meddle(fault)
                    self.injected[fault.kind, fault.target] += 1

    # Processes

    async def _end(self, fault: Fault) -> None:
        service = self.services[fault.target]
        if self.rng.random() < READY_SHARE:
            for _ in range(100):
                if service.ready:
                    await asyncio.sleep(self.rng.uniform(*WORKS_SECONDS))
                    break
                await asyncio.sleep(0.1)
        number = signal.SIGKILL if fault.kind is Kind.KILL else signal.SIGTERM
        self.injected[fault.kind, fault.target] += service.kill(number)

    async def _freeze(self, fault: Fault) -> None:
        if fault.target != "server":
            service = self.services[fault.target]
            if not service.frozen:
                self.injected[fault.kind, fault.target] += 1
                await service.freeze(fault.seconds)
            return
        pid = self.server.pid
        if pid is None:
            return
        self.injected[fault.kind, fault.target] += 1
        self.server.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            if self.server.pid == pid:  # else it was killed meanwhile
                self.server.signal(signal.SIGCONT)

    async def _restart_server(self, fault: Fault) -> None:
        kind = fault.kind
        if kind is Kind.POWER_CUT and self.setup.shim is None:
            kind = Kind.KILL
        async with self._at_server:
            self.injected[kind, fault.target] += 1
            match kind:
                case Kind.POWER_CUT:
                    self.forgotten += self.server.cut_power(self.rng)
                case Kind.KILL:
                    self.server.kill()
                case _:
                    await self._in_hand(self.server.stop)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                await self._in_hand(self.server.start)

    async def _in_hand(self, work: Callable[[], None]) -> None:
        """In a thread that outlives the server, which the kernel ties to it."""
        await asyncio.get_running_loop().run_in_executor(self._hand, work)

    # Wires

    async def _spoil(self, fault: Fault, wire: Wire) -> None:
        match fault.kind:
            case Kind.CUT:
                wire.cut()
            case Kind.LOSE_REQUEST:
                wire.drop_next = True
            case Kind.LOSE_REPLY:
                wire.lose_next = True
            case Kind.DELAY:
                wire.delay = self.rng.uniform(0.02, 0.4)
            case Kind.SWALLOW:
                wire.swallow()
            case _:
                wire.refusing = True
                wire.cut()
        self.injected[fault.kind, fault.target] += 1
        if fault.seconds:
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                wire.flow()

    # The server's memory

    async def _meddle(self, fault: Fault) -> None:
        redis, keys = self.admin, Keys()
        match fault.kind:
            case Kind.FLUSH_JOBS:
                await redis.delete(keys.queue, *await redis.keys("arq:*"))
            case Kind.FLUSH_SCRIPTS:
                await redis.script_flush()
            case Kind.DROP_CLIENTS:
                await redis.client_kill_filter(_type="normal")
            case Kind.REWRITE:
                await redis.bgrewriteaof()  # type: ignore[no-untyped-call]
            case Kind.FILL:
                await self._fill(fault.seconds)
            case _:
                raise AssertionError(fault)

    async def _fill(self, seconds: float) -> None:
        used = (await self.admin.info("memory"))["used_memory"]
        await self.admin.config_set("maxmemory", used + self.rng.randrange(40_000))
        try:
            await asyncio.sleep(seconds)
        finally:
            await self.admin.config_set("maxmemory", 0)

    # Calm

    def _last(self, fault: Awaitable[None]) -> None:
        self._lasting.append(asyncio.ensure_future(fault))

    async def _calm_down(self) -> None:
        """Every fault ends, everything runs."""
        for task in self._lasting:
            task.cancel()
        for end in await asyncio.gather(*self._lasting, return_exceptions=True):
            if isinstance(end, Exception):
                raise end  # a mistake of ours
        self._lasting.clear()
        for wire in self.wires.values():
            wire.flow()
        async with self._at_server:
            await self._in_hand(lambda: None)  # a start under way comes to its end
            if self.server.pid is None:
                await self._in_hand(self.server.start)
        await self.admin.config_set("maxmemory", 0)


@asynccontextmanager
async def running(setup: Setup) -> AsyncIterator[World]:
    """A world in which everything has started; it ends with the `with`, whatever happens in it."""
    async with AsyncExitStack() as stack:
        server = Server(setup.folder, setup.shim, fsync=setup.fsync, binary=setup.binary)
        server.start()
        stack.callback(server.stop)
        again = Retry(ExponentialBackoff(cap=0.5, base=0.05), 5)
        admin = Redis.from_url(server.url, decode_responses=True, socket_timeout=7, retry=again)
        stack.push_async_callback(admin.aclose)
        make_keys(setup.folder / "keys")
        gateway_port, receiver_port = _free_port(), _free_port()
        wires = {name: Wire(str(server.socket)) for name in REDIS_WIRES}
        shop = Endpoint(random.Random(setup.seed))
        shop_port = await _serve(shop, stack)
        targets = (gateway_port, gateway_port, receiver_port, shop_port)
        wires |= {name: Wire(port) for name, port in zip(HTTP_WIRES, targets, strict=True)}
        for wire in wires.values():
            await wire.start()
            stack.push_async_callback(wire.close)
        services = _services(setup, wires, gateway_port, receiver_port)
        keeping = [asyncio.ensure_future(service.keep_running()) for service in services.values()]
        stack.push_async_callback(_end, services, keeping)
        url = f"http://127.0.0.1:{gateway_port}"
        gateway = await stack.enter_async_context(aiohttp.ClientSession(url))
        till = Redis.from_url(
            _url(wires["redis-merchant"]), decode_responses=True, socket_timeout=4
        )
        stack.push_async_callback(till.aclose)
        rng = random.Random(setup.seed)
        confirms = await _knows_waitaof(admin)
        hook = f"{_callback_host(wires)}{endpoint.PATH}"
        merchant = Merchant(till, gateway, Keys(), random.Random(setup.seed), confirms, hook)
        reading = asyncio.ensure_future(merchant.read())
        stack.callback(reading.cancel)
        await _until_ready(services)
        yield World(setup, server, services, wires, admin, gateway, merchant, shop, rng)


async def _serve(shop: Endpoint, stack: AsyncExitStack) -> int:
    """The merchant's endpoint, on a free port."""
    runner = web.AppRunner(shop.app(), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


def _callback_host(wires: dict[str, Wire]) -> str:
    return f"http://127.0.0.1:{wires['callback'].port}"


def _services(
    setup: Setup, wires: dict[str, Wire], gateway_port: int, receiver_port: int
) -> dict[str, Service]:
    keys = setup.folder / "keys"
    notify = f"http://127.0.0.1:{wires['notify'].port}/notify"
    common = bare() | SETTINGS | {"DURABILITY": setup.durability}
    common |= {
        "ALIPAY_PRIVATE_KEY_FILE": str(keys / "merchant.key"),
        "ALIPAY_PUBLIC_KEYS_FILE": str(keys / "gateway.pub"),
        "RECEIVER_PORT": str(receiver_port),
        "RECEIVER_ADMIN_PORT": "0",
        "WORKER_ADMIN_PORT": "0",
        "ALIPAY_GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "ALIPAY_NOTIFY_URL": notify,
    }
    words = ["mock-gateway", "--keys", str(keys), "--port", str(gateway_port)]
    words += ["--notify-url", notify, "--seed", str(setup.seed), "--time-scale", "0.01"]
    made = {
        "gateway": Service("gateway", _ours("", *words), common, setup.folder, ""),
        "receiver": Service(
            "receiver",
            _ours(setup.planted, "receiver"),
            common | {"REDIS_URL": _url(wires["redis-receiver"])},
            setup.folder,
            "receiver.started",
        ),
    }
    for name in WORKERS:
        own = {
            "REDIS_URL": _url(wires[f"redis-{name}"]),
            "CALLBACK_SECRETS": endpoint.SECRET,
            "CALLBACK_ALLOWED_HOSTS": _callback_host(wires),
            "ALIPAY_GATEWAY_URL": f"http://127.0.0.1:{wires[f'gateway-{name}'].port}",
        }
        words = _ours(setup.planted, "worker")
        made[name] = Service(name, words, common | own, setup.folder, "worker.started")
    return made


def _ours(planted: str, *words: str) -> list[str]:
    module = ["tests.chaos.plant", planted] if planted else ["worker.cli"]
    return [sys.executable, "-m", *module, "--env-file", "/dev/null", *words]


def _url(wire: Wire) -> str:
    return f"redis://127.0.0.1:{wire.port}/0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _knows_waitaof(redis: Redis) -> bool:
    try:
        await redis.execute_command("WAITAOF", 1, 0, 1000)  # type: ignore[no-untyped-call]
    except ResponseError:
        return False
    return True


async def _until_ready(services: dict[str, Service]) -> None:
    async with asyncio.timeout(START_SECONDS):
        for service in services.values():
            while service.ready_line and not service.ready:
                await asyncio.sleep(0.05)


async def _end(services: dict[str, Service], keeping: "list[asyncio.Task[None]]") -> None:
    """In good order, the gateway last, so that nobody waits for it."""
    for task in keeping:
        task.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)
    gateway, *others = services.values()
    await asyncio.gather(*(service.stop() for service in others))
    await gateway.stop()

"""Callbacks, from a payment's end to the merchant's endpoint: in order, signed, at least once.

Time is wound by hand: what waits for its next try is made due.
"""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.typing import EventDict

from jobs.commands import carry_out
from jobs.deliveries import LADDER
from jobs.model import Decision, Event, Ms, Rejected
from jobs.news import Ask
from tests.fakes import CLIENT as CLIENT_ID
from tests.fakes import KEY, PAID, Bench, notification, open_bench, order, track
from tests.servers import Asked, certificate, environ, raw_gateway, scripted_gateway
from worker import courier, deliveries
from worker.courier import Courier
from worker.deliveries import Delivery, Kind, callback_lane
from worker.keys import Keys
from worker.receiving import tls_context
from worker.settings import Settings, load

pytestmark = pytest.mark.once  # what is under test is Redis and HTTP

OLD, NEW = b"o" * 24, b"n" * 32
LANE = callback_lane(KEY)


def whsec(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def settings_of(*hosts: str, secrets: Sequence[bytes] = (OLD,), **more: str) -> Settings:
    given = environ("redis://127.0.0.1", "x", "http://127.0.0.1:1") | {
        "ALIPAY_CLIENT_ID": CLIENT_ID,
        "CALLBACK_SECRETS": ",".join(map(whsec, secrets)),
        "CALLBACK_ALLOWED_HOSTS": ",".join(hosts),
    }
    return load(given | more)


@dataclass
class Endpoint:
    """The merchant's: it keeps what it got, and answers what it is told to, then 204."""

    url: str
    got: list[Asked]
    answers: list[int | web.Response] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)  #: not set: no answer yet

    def __post_init__(self) -> None:
        self.open.set()

    async def answer(self, _: Asked) -> web.StreamResponse:
        await self.open.wait()
        said = self.answers.pop(0) if self.answers else 204
        return web.Response(status=said) if isinstance(said, int) else said

    @property
    def host(self) -> str:
        return self.url.removesuffix("/hook")

    def ids(self) -> list[str]:
        return [asked.headers["Webhook-Id"].removeprefix(f"{KEY}:") for asked in self.got]


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@asynccontextmanager
async def an_endpoint(tls: Any = None) -> AsyncIterator[Endpoint]:
    async with scripted_gateway(tls) as server:
        endpoint = Endpoint(f"{server.url}/hook", server.asked)
        server.answer = endpoint.answer
        yield endpoint


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with an_endpoint() as endpoint:
        yield endpoint


@asynccontextmanager
async def couriers(bench: Bench, settings: Settings) -> AsyncIterator[Courier]:
    courier = Courier(bench.worker.store, settings)
    try:
        yield courier
    finally:
        await courier._sessions.close()


async def deliver(bench: Bench, settings: Settings, rounds: int = 1) -> None:
    """So many rounds of a worker, what waits being due at once."""
    async with couriers(bench, settings) as courier:
        for _ in range(rounds):
            await make_due(bench)
            await courier.collect()
            await courier.drain()


async def make_due(bench: Bench) -> None:
    for lane in await bench.redis.zrange(bench.keys.deliveries, 0, -1):
        await bench.redis.zadd(bench.keys.deliveries, {lane: 1})


async def waits(bench: Bench, lane: str = LANE) -> list[Delivery]:
    entries = await bench.redis.lrange(bench.keys.delivery(lane), 0, -1)  # type: ignore[misc]
    return [deliveries.read(entry.decode()) for entry in entries]


async def due(bench: Bench, lane: str = LANE) -> Ms | None:
    """In how many milliseconds the lane is due."""
    score = await bench.redis.zscore(bench.keys.deliveries, lane)
    return None if score is None else round(score) - await bench.now()


async def dead(bench: Bench) -> list[dict[str, str]]:
    entries = await bench.redis.xrange(bench.keys.dead_deliveries)
    return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries]


async def tell(bench: Bench, url: str, *names: str) -> None:
    """A payment with a callback is tracked, and events of these names are published."""
    if await bench.worker.store.load(KEY) is None:
        now = await bench.now()
        assert await carry_out(track(now, callback_url=url), bench.worker.tools)
    for name in names:
        loaded = await bench.worker.load()
        seq = loaded.payment.seq + 1
        event = Event(type="payment.attention", name=name, seq=seq)
        changed = replace(loaded.payment, seq=seq)
        decision = Decision(payment=changed, events=(event,))
        assert await bench.worker.store.save(loaded, decision, [])


# What arrives


async def test_a_payment_with_a_callback_is_told_there_as_in_the_stream(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url)
    await bench.deliver(notification())
    await bench.worker.follow()
    [outcome] = [said[b"data"] for _, said in await bench.redis.xrange(bench.keys.outcomes)]
    assert endpoint.got == [], "nothing is sent before it is written down"
    await deliver(bench, settings_of(endpoint.host))
    [asked] = endpoint.got
    assert asked.body == outcome
    assert asked.path == "/hook"
    assert asked.headers["Content-Type"] == "application/cloudevents+json"
    assert asked.headers["Webhook-Id"] == json.loads(outcome)["id"] == f"{KEY}:succeeded"
    assert json.loads(outcome)["data"]["status"] == "succeeded"
    assert await waits(bench) == []
    assert await due(bench) is None


async def test_the_standards_own_library_believes_it_and_nothing_altered(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url, "a")
    await deliver(bench, settings_of(endpoint.host))
    [asked] = endpoint.got
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert Webhook(whsec(OLD)).verify(asked.body, headers)["id"] == f"{KEY}:a"
    with pytest.raises(WebhookVerificationError):
        Webhook(whsec(NEW)).verify(asked.body, headers)
    for altered in (
        headers | {"webhook-id": "other"},
        headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(whsec(OLD)).verify(asked.body, altered)
    with pytest.raises(WebhookVerificationError):
        Webhook(whsec(OLD)).verify(asked.body + b" ", headers)


async def test_while_the_secret_is_changed_both_sign(bench: Bench, endpoint: Endpoint) -> None:
    await tell(bench, endpoint.url, "a")
    await deliver(bench, settings_of(endpoint.host, secrets=(NEW, OLD)))
    [asked] = endpoint.got
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (OLD, NEW):
        assert Webhook(whsec(secret)).verify(asked.body, headers)


async def test_a_payment_without_a_callback_and_a_refused_command_leave_nothing_to_send(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, "")
    await bench.deliver(notification())
    await bench.worker.follow()
    assert await bench.redis.zcard(bench.keys.deliveries) == 0


async def test_a_refused_command_is_answered_in_the_stream_alone(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url)
    loaded = await bench.worker.load()
    refused = Rejected(command_id="1-0", command="payment.cancel", reason="x", message="x")
    assert await bench.worker.store.save(
        loaded, Decision(payment=loaded.payment, events=(refused,)), []
    )
    assert len(await bench.outcomes()) == 1
    assert await waits(bench) == []


# What goes wrong


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500, 502])
async def test_what_is_not_taken_is_sent_again_under_the_same_id(
    bench: Bench, endpoint: Endpoint, status: int, log_lines: list[EventDict]
) -> None:
    await tell(bench, endpoint.url, "a")
    elsewhere = web.Response(status=status, headers={"Location": f"{endpoint.host}/elsewhere"})
    endpoint.answers = [elsewhere]
    await deliver(bench, settings_of(endpoint.host))
    [waiting] = await waits(bench)
    assert waiting.tries == 1
    later = await due(bench)
    assert later is not None and 0 < later < 2 * LADDER[0]
    [line] = [line for line in log_lines if line["event"] == "delivery.failed"]
    assert (line["fault"], line["attempt"]) == (f"http_{status}", 1)
    await deliver(bench, settings_of(endpoint.host))
    assert endpoint.ids() == ["a", "a"]
    assert {asked.path for asked in endpoint.got} == {"/hook"}, "no redirect is followed"
    assert await waits(bench) == []


async def test_a_payments_events_arrive_in_order_whatever_befalls_one_of_them(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url, "a", "b", "c")
    endpoint.answers = [500, 503, 204, 500]
    await deliver(bench, settings_of(endpoint.host), rounds=7)
    assert endpoint.ids() == ["a", "a", "a", "b", "b", "c"]


async def test_only_one_of_a_payments_events_is_on_its_way_at_a_time(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url, "a", "b")
    async with couriers(bench, settings_of(endpoint.host)) as courier:
        await courier.collect()
        await courier.collect()
        await courier.drain()
    assert endpoint.ids() == ["a"]


async def test_two_workers_do_not_send_the_same_at_once(bench: Bench, endpoint: Endpoint) -> None:
    await tell(bench, endpoint.url, "a")
    settings = settings_of(endpoint.host)
    async with couriers(bench, settings) as one, couriers(bench, settings) as other:
        await asyncio.gather(one.collect(), other.collect())
        await asyncio.gather(one.drain(), other.drain())
    assert endpoint.ids() == ["a"]


async def test_two_who_sent_the_same_take_out_no_more_than_that(
    bench: Bench, endpoint: Endpoint
) -> None:
    """As where a lease ran out while its worker stood still."""
    await tell(bench, endpoint.url, "a", "b")
    settings = settings_of(endpoint.host)
    async with couriers(bench, settings) as one, couriers(bench, settings) as other:
        endpoint.open.clear()
        for each in (one, other):
            await make_due(bench)
            await each.collect()
        endpoint.open.set()
        await asyncio.gather(one.drain(), other.drain())
    assert endpoint.ids() == ["a", "a"]
    assert [waiting.id for waiting in await waits(bench)] == [f"{KEY}:b"]


async def test_where_a_worker_dies_between_sending_and_writing_down_it_is_sent_again(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(bench, endpoint.url, "a")

    async def dies(*_: Any) -> Any:
        raise RedisConnectionError

    with monkeypatch.context() as dying:
        dying.setattr(bench.worker.store, "settle", dies)
        await deliver(bench, settings_of(endpoint.host))
    held = await due(bench)
    assert held is not None and 0 < held <= courier.HELD_FOR
    await deliver(bench, settings_of(endpoint.host))
    assert endpoint.ids() == ["a", "a"]
    assert await waits(bench) == []


async def test_after_the_last_try_it_is_kept_aside_and_the_next_one_goes(
    bench: Bench, endpoint: Endpoint, log_lines: list[EventDict]
) -> None:
    await tell(bench, endpoint.url, "a", "b")
    endpoint.answers = [500] * 10
    await deliver(bench, settings_of(endpoint.host), rounds=11)
    assert endpoint.ids() == ["a"] * 10 + ["b"]
    [letter] = await dead(bench)
    assert letter["id"] == f"{KEY}:a"
    assert (letter["lane"], letter["url"], letter["fault"]) == (LANE, endpoint.url, "http_500")
    assert letter["attempts"] == "10"
    assert deliveries.read(letter["entry"]).body == endpoint.got[0].body
    [line] = [line for line in log_lines if line["event"] == "delivery.dead"]
    assert (line["delivery_id"], line["count"], line["fault"]) == (f"{KEY}:a", 1, "http_500")


async def test_410_stops_all_that_waits_for_this_payment(
    bench: Bench, endpoint: Endpoint, log_lines: list[EventDict]
) -> None:
    await tell(bench, endpoint.url, "a", "b", "c")
    endpoint.answers = [410]
    await deliver(bench, settings_of(endpoint.host), rounds=3)
    assert endpoint.ids() == ["a"]
    assert [letter["id"] for letter in await dead(bench)] == [f"{KEY}:{name}" for name in "abc"]
    assert await due(bench) is None
    [line] = [line for line in log_lines if line["event"] == "delivery.dead"]
    assert (line["count"], line["fault"]) == (3, "http_410")


async def test_an_endpoint_that_is_busy_is_left_alone_for_as_long_as_it_says(
    bench: Bench, endpoint: Endpoint
) -> None:
    await tell(bench, endpoint.url, "a")
    endpoint.answers = [web.Response(status=429, headers={"Retry-After": "3600"})]
    await deliver(bench, settings_of(endpoint.host))
    later = await due(bench)
    assert later is not None and 3_500_000 < later <= 3_600_000


async def no_answer(bench: Bench, url: str, *hosts: str) -> str:
    """The fault of a delivery that gets none."""
    await tell(bench, url, "a")
    await deliver(bench, settings_of(*hosts), rounds=10)
    [letter] = await dead(bench)
    return letter["fault"]


async def test_an_endpoint_that_is_down(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert await no_answer(bench, f"{host}/", host) == "not_connected"


async def test_an_endpoint_that_is_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "ATTEMPT_SECONDS", 0.05)

    async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_gateway(says_nothing) as host:
        assert await no_answer(bench, f"{host}/", host) == "timeout"


async def test_an_endpoint_that_hangs_up(bench: Bench) -> None:
    async def hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readline()

    async with raw_gateway(hangs_up) as host:
        assert await no_answer(bench, f"{host}/", host) == "connection_lost"


async def test_an_endpoint_whose_certificate_nobody_knows(bench: Bench, tmp_path: Path) -> None:
    async with an_endpoint(tls_context(*certificate(tmp_path))) as endpoint:
        assert await no_answer(bench, endpoint.url, endpoint.host) == "tls"
        assert endpoint.got == []


async def test_an_endpoint_without_an_address(bench: Bench) -> None:
    host = "https://nowhere.invalid"
    assert await no_answer(bench, f"{host}/", host) == "no_such_host"


async def test_an_endless_answer_is_not_read_to_its_end(bench: Bench) -> None:
    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    async with raw_gateway(talks) as host:
        await tell(bench, f"{host}/", "a")
        await deliver(bench, settings_of(host))
        assert await waits(bench) == []


# Where it may go


async def test_a_name_that_leads_inside_is_not_followed_there(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a name on the list may point it anywhere, and at any time: what counts is the
    address that is connected to."""
    port = int(endpoint.host.rpartition(":")[2])
    names = {"rebound.example.com": "127.0.0.1"}
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", looks_up(names))
    url = f"https://rebound.example.com:{port}/hook"
    assert await no_answer(bench, url, f"*.example.com:{port}") == "refused_address"
    assert endpoint.got == []


def looks_up(names: dict[str, str]) -> Callable[..., Awaitable[Any]]:
    async def getaddrinfo(_: Any, host: str, port: Any, **__: Any) -> Any:
        address = (names[host], int(port))
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    return getaddrinfo


async def test_an_address_inside_that_is_on_the_list_is_reached_by_a_name(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_endpoint(tls_context(*certificate(tmp_path))) as endpoint:
        port = int(endpoint.host.rpartition(":")[2])
        monkeypatch.setattr(
            asyncio.BaseEventLoop, "getaddrinfo", looks_up({"a.example.com": "127.0.0.1"})
        )
        url = f"https://a.example.com:{port}/hook"
        hosts = (f"a.example.com:{port}", "127.0.0.0/8")
        assert await no_answer(bench, url, *hosts) == "tls", "it was reached, and not believed"


async def test_a_host_taken_off_the_list_gets_nothing_more(
    bench: Bench, endpoint: Endpoint
) -> None:
    assert await no_answer(bench, endpoint.url, "shop.example.com") == "not_allowed"
    assert endpoint.got == []


async def test_a_list_that_is_read_again_holds_from_the_next_delivery_on(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[EventDict],
) -> None:
    async with an_endpoint(tls_context(*certificate(tmp_path))) as endpoint:
        port = int(endpoint.host.rpartition(":")[2])
        monkeypatch.setattr(
            asyncio.BaseEventLoop, "getaddrinfo", looks_up({"a.example.com": "127.0.0.1"})
        )
        name = f"a.example.com:{port}"
        await tell(bench, f"https://{name}/hook", "a")
        settings = settings_of(name)
        async with couriers(bench, settings) as courier:
            for hosts in (name,), (name, "127.0.0.0/8"), (name,), ("b.example.com",), (name,):
                settings.renew(settings_of(*hosts))
                await make_due(bench)
                await courier.collect()
                await courier.drain()
    faults = [line["fault"] for line in log_lines if line["event"] == "delivery.failed"]
    reached, refused = "tls", "refused_address"
    assert faults == [refused, reached, refused, "not_allowed", refused]


async def test_a_connection_is_used_no_more_once_its_list_has_changed(endpoint: Endpoint) -> None:
    """It may lead to where the new list forbids to go."""
    one, other = (
        settings_of(*hosts).accounts[CLIENT_ID]
        for hosts in ((endpoint.host,), (endpoint.host, "10.0.0.0/8"))
    )
    sessions = courier.Sessions()
    async with sessions.of(Kind.CALLBACK, one) as first:
        async with sessions.of(Kind.CALLBACK, one) as same:
            assert same is first
        async with sessions.of(Kind.CALLBACK, other) as second:
            assert second is not first
        closed = [first.closed]  # what is in hand ends as it began
    closed += [first.closed, second.closed]  # the next delivery has connections
    async with sessions.of(Kind.CALLBACK, one) as third:
        closed += [second.closed]
    await sessions.close()
    assert [*closed, third.closed] == [False, True, False, True, True]


async def test_without_a_secret_nothing_leaves(bench: Bench, endpoint: Endpoint) -> None:
    await tell(bench, endpoint.url, "a")
    bare = settings_of(endpoint.host, CALLBACK_SECRETS="", CALLBACK_ALLOWED_HOSTS="")
    await deliver(bench, bare, rounds=10)
    assert [letter["fault"] for letter in await dead(bench)] == ["no_secrets"]
    assert endpoint.got == []


async def test_no_proxy_of_the_environment_is_used(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await tell(bench, endpoint.url, "a")
    await deliver(bench, settings_of(endpoint.host))
    assert endpoint.ids() == ["a"]


async def test_what_is_of_an_account_without_settings_here_waits_for_one_who_has_them(
    bench: Bench, endpoint: Endpoint, log_lines: list[EventDict]
) -> None:
    await tell(bench, endpoint.url, "a")
    other = settings_of(endpoint.host, ALIPAY_CLIENT_ID="SANDBOX_2")
    await deliver(bench, other, rounds=20)
    assert {line["event"] for line in log_lines if line["log_level"] == "error"} == {
        "account.unknown"
    }
    [waiting] = await waits(bench)
    assert waiting.tries == 0
    await deliver(bench, settings_of(endpoint.host))
    assert endpoint.ids() == ["a"]


# Nobody waits for another


async def test_a_slow_endpoint_delays_no_other_payment(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "ATTEMPT_SECONDS", 5)
    asked = 0

    async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()

    async with raw_gateway(says_nothing) as slow:
        for n in range(3 * courier.AT_ONCE):
            await put(bench, f"{CLIENT_ID}:slow-{n}", f"{slow}/{n}")
        await put(bench, KEY, endpoint.url)
        working = Courier(bench.worker.store, settings_of(endpoint.host, slow))
        running = asyncio.create_task(working.run())
        async with asyncio.timeout(4):  # before the slow ones are given up
            while not endpoint.got:
                await asyncio.sleep(0.01)
        assert asked == courier.OF_A_GROUP
        running.cancel()
        await asyncio.wait({running})


async def put(bench: Bench, key: str, url: str) -> None:
    """As the store does with an event."""
    lane, now = callback_lane(key), await bench.now()
    one = Delivery(id=f"{key}:a", at=now, about=key, body=b"{}", seq=now, url=url)
    await bench.redis.rpush(bench.keys.delivery(lane), deliveries.write(one))  # type: ignore[misc]
    await bench.redis.zadd(bench.keys.deliveries, {lane: now})


async def test_a_worker_that_is_stopped_and_started_again_loses_nothing(
    bench: Bench, endpoint: Endpoint
) -> None:
    names = [f"n{n}" for n in range(12)]
    await tell(bench, endpoint.url, *names)
    settings = settings_of(endpoint.host)
    while len(await waits(bench)):
        running = asyncio.create_task(Courier(bench.worker.store, settings).run())
        before = len(endpoint.got)
        async with asyncio.timeout(10):
            while len(endpoint.got) < before + 2 and await waits(bench):
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait({running})
        await make_due(bench)
    seen = endpoint.ids()
    assert sorted(set(seen), key=seen.index) == names, "in order, and none is missing"


async def test_what_nobody_of_us_wrote_is_kept_aside_and_holds_up_nothing(
    bench: Bench, endpoint: Endpoint, log_lines: list[EventDict]
) -> None:
    await bench.redis.rpush(bench.keys.delivery(LANE), "?", "{}", b"\xff", "[1]")  # type: ignore[misc]
    await bench.redis.zadd(bench.keys.deliveries, {LANE: 1, "nonsense": 1, "x:": 1})
    await tell(bench, endpoint.url, "a")
    await deliver(bench, settings_of(endpoint.host), rounds=6)
    assert endpoint.ids() == ["a"]
    letters = await bench.redis.xrange(bench.keys.dead_deliveries)
    assert [fields[b"fault"] for _, fields in letters] == [b"unreadable"] * 4
    assert await bench.redis.zcard(bench.keys.deliveries) == 0


async def test_what_another_version_wrote_is_left_for_it(
    bench: Bench, endpoint: Endpoint, log_lines: list[EventDict]
) -> None:
    await bench.redis.rpush(bench.keys.delivery(LANE), '{"v":2}')  # type: ignore[misc]
    await bench.redis.zadd(bench.keys.deliveries, {LANE: 1})
    await deliver(bench, settings_of(endpoint.host), rounds=12)
    assert await dead(bench) == []
    assert {line["event"] for line in log_lines if line["log_level"] == "error"} == {
        "record.unreadable"
    }
    assert await bench.redis.llen(bench.keys.delivery(LANE)) == 1  # type: ignore[misc]


# What outlives what


async def test_a_callback_outlives_its_payments_record(bench: Bench, endpoint: Endpoint) -> None:
    await tell(bench, endpoint.url)
    await bench.deliver(notification())
    await bench.worker.follow()
    assert await carry_out(order(Ask.FORGET, await bench.now()), bench.worker.tools)
    await bench.redis.delete(bench.keys.payment(KEY), bench.keys.timeline(KEY))
    await deliver(bench, settings_of(endpoint.host), rounds=3)
    assert endpoint.ids()[0] == "succeeded"


async def test_an_event_told_twice_is_called_back_twice(bench: Bench, endpoint: Endpoint) -> None:
    """As when a final payment is tracked again, by a merchant who missed its end."""
    await tell(bench, endpoint.url)
    bench.worker.gateway.will(PAID)
    await bench.deliver(notification())
    await bench.worker.follow()
    assert await carry_out(track(await bench.now(), id="9-0"), bench.worker.tools)
    await deliver(bench, settings_of(endpoint.host), rounds=2)
    assert endpoint.ids() == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("120", 120_000),
        ("0", 0),
        ("99999999999999999999", 365 * 86_400_000),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("\u0661", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(text: str, ms: Ms | None) -> None:
    assert courier.retry_after({"Retry-After": text}) == ms


def test_the_keys_are_those_of_the_contract() -> None:
    keys = Keys()
    assert keys.deliveries == "reconciler:v1:deliveries"
    assert keys.delivery(LANE) == f"reconciler:v1:delivery:callback:{KEY}"
    assert keys.dead_deliveries == "reconciler:v1:deliveries:dead"

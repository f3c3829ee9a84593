"""What is wrong with a Redis, a clock or a key is found before anything is promised."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.keys import CLIENT_ID, private_key
from tests.servers import debian_redis, environ, own_server
from worker import connect, probes
from worker.connect import CONFIRM_MS
from worker.facts import TRIED, Facts, WaitAof, ask
from worker.keys import Keys
from worker.probes import Finding, Level, confirmation, judge
from worker.rights import Role
from worker.scripts import Confirm, Scripts
from worker.settings import Settings, load
from worker.values import RedisChecks

pytestmark = pytest.mark.once  # what is under test is not Python

ON_DISK = Confirm(("WAITAOF", 1, 0, CONFIRM_MS), 1)
PROCESSES = pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
EVERYBODY = pytest.mark.parametrize("role", list(Role))
OLD = ("--rename-command", "WAITAOF", "")  #: as before Redis 7.2
MANAGED = ("--rename-command", "CONFIG", "")
REFUSE, WARN = Level.REFUSE, Level.WARN


def given(url: str = "unix:///r.sock", **more: str) -> Settings:
    return load(environ(url, "reconciler", "https://gateway.example", **more))


@asynccontextmanager
async def used(*options: str, program: str | None = None) -> AsyncIterator[tuple[Redis, str]]:
    """A server that a worker has written to, and its URL."""
    with own_server(*options, program=program) as server:
        redis = connect.client(server.url)
        if "--cluster-enabled" not in options:
            await redis.set(Keys().canary, "2026-01-01")
        try:
            yield redis, server.url
        finally:
            await redis.aclose()


@pytest.fixture(scope="module")
def good_url() -> Iterator[str]:
    with own_server() as server:
        yield server.url


@pytest.fixture
async def good(good_url: str) -> AsyncIterator[Redis]:
    """A server that is as it must be, and that a worker has written to."""
    redis = connect.client(good_url)
    await redis.flushall()
    await redis.set(Keys().canary, "2026-01-01")
    yield redis
    await redis.config_set("maxmemory", 0)
    await redis.aclose()


@asynccontextmanager
async def user(redis: Redis, url: str, *rights: str, db: int = 0) -> AsyncIterator[Redis]:
    """A client of a user who has just these rights."""
    await redis.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", *rights)  # type: ignore[no-untyped-call]
    client = connect.client(f"{url}?username=u&password=p&db={db}")
    try:
        yield client
    finally:
        await client.aclose()


async def found_on(
    redis: Redis, url: str, role: Role, clock: Any = time.time, **more: str
) -> list[Finding]:
    settings = given(url, **more)
    return judge(await ask(redis, settings, role, clock), settings)


def told(found: list[Finding]) -> list[tuple[str, Level]]:
    return [(finding.what, finding.level) for finding in found]


# Real servers


@EVERYBODY
async def test_nothing_is_found_on_a_good_server(good: Redis, good_url: str, role: Role) -> None:
    assert await found_on(good, good_url, role) == []
    facts = await ask(good, given(good_url), role)
    assert confirmation(facts, given(good_url).durability) == ON_DISK


async def test_looking_writes_nothing() -> None:
    async with used() as (own, url):
        before = await own.keys("*"), (await own.info("stats"))["expired_keys"]
        for role in Role:
            await found_on(own, url, role)
        assert (await own.keys("*"), (await own.info("stats"))["expired_keys"]) == before


@pytest.mark.parametrize(
    ("options", "wanted", "says"),
    [
        (("--maxmemory-policy", "allkeys-lru"), [("eviction", REFUSE)], "allkeys-lru"),
        (("--maxmemory-policy", "volatile-ttl"), [("eviction", REFUSE)], "noeviction"),
        (("--appendonly", "no"), [("persistence", REFUSE)], "keeps nothing on disk"),
        ((*OLD, "--appendonly", "no"), [("persistence", REFUSE)], "keeps nothing on disk"),
        ((*OLD, "--appendfsync", "everysec"), [("persistence", REFUSE)], "appendfsync everysec"),
        ((*OLD, *MANAGED), [("persistence", WARN)], "does not tell whether each write"),
        (OLD, [], ""),
        (("--appendfsync", "everysec"), [("persistence", REFUSE)], "a power cut takes what Redis"),
        (MANAGED, [("persistence", WARN)], "does not tell whether each write"),
        (("--cluster-enabled", "yes"), [("cluster", REFUSE)], "a single primary"),
    ],
)
async def test_what_is_wrong_with_a_server_is_found(
    options: tuple[str, ...], wanted: list[tuple[str, Level]], says: str
) -> None:
    async with used(*options) as (redis, url):
        for role in (Role.RECEIVER, Role.WORKER):
            found = [f for f in await found_on(redis, url, role) if f.what != "state"]
            assert told(found) == wanted
            assert says in " ".join(map(str, found))


async def test_a_server_without_waitaof_is_not_asked_for_it_again() -> None:
    async with used(*OLD) as (redis, url):
        facts = await ask(redis, given(url), Role.WORKER)
        assert facts.waitaof is WaitAof.UNKNOWN
        assert confirmation(facts, given(url).durability) is None


async def test_a_replica_is_not_taken_for_a_server_without_waitaof() -> None:
    """Promoted later, it must be asked whether a write is on disk."""
    async with used() as (redis, url):
        await redis.replicaof("127.0.0.1", "1")
        with pytest.raises(ResponseError, match="replica"):
            await ask(redis, given(url), Role.WORKER)
        await redis.replicaof("NO", "ONE")
        assert (await ask(redis, given(url), Role.WORKER)).waitaof is WaitAof.WORKS


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), []),
        (("--appendfsync", "everysec"), [("persistence", REFUSE)]),
        (MANAGED, [("persistence", WARN)]),
        (("--cluster-enabled", "yes"), [("cluster", REFUSE)]),
    ],
)
async def test_redis_7_0_is_used_and_judged_too(
    options: tuple[str, ...], wanted: list[tuple[str, Level]]
) -> None:
    async with used(*options, program=debian_redis()) as (redis, url):
        for role in (Role.RECEIVER, Role.WORKER):
            found = await found_on(redis, url, role)
            assert [one for one in told(found) if one[0] != "state"] == wanted


async def test_memory_that_is_nearly_used_up_is_found(good: Redis, good_url: str) -> None:
    memory = (await good.info("memory"))["used_memory"]
    await good.config_set("maxmemory", int(memory * 1.1))
    found = await found_on(good, good_url, Role.WORKER)
    assert told(found) == [("memory", WARN)]
    assert "9" in found[0].message and "full" in found[0].message
    await good.config_set("maxmemory", memory * 2)
    assert await found_on(good, good_url, Role.WORKER) == []


def by(seconds: float) -> Any:
    return lambda: time.time() + seconds


@pytest.mark.parametrize(("off", "wanted"), [(61, True), (-61, True), (58, False), (-58, False)])
@EVERYBODY
async def test_a_clock_that_is_a_minute_off_is_found(
    good: Redis, good_url: str, off: float, wanted: bool, role: Role
) -> None:
    found = await found_on(good, good_url, role, clock=by(off))
    assert told(found) == ([("clock", REFUSE)] if wanted else [])
    assert all("differ by 61 s" in str(finding) for finding in found)


async def test_a_slow_answer_is_not_taken_for_a_clock_that_is_off(
    good: Redis, good_url: str
) -> None:
    ticks = iter([time.time() - 300, time.time() + 300])
    assert await found_on(good, good_url, Role.WORKER, clock=lambda: next(ticks)) == []


async def test_replicas_that_are_not_there_are_found(good: Redis, good_url: str) -> None:
    found = await found_on(good, good_url, Role.WORKER, DURABILITY="replica:2")
    assert told(found) == [("replicas", WARN)]
    assert "0 of 2" in found[0].message


@pytest.mark.parametrize(("durability", "found"), [("replica:1", True), ("memory", False)])
async def test_a_promise_without_a_disk_asks_for_none(durability: str, found: bool) -> None:
    async with used("--appendonly", "no") as (redis, url):
        told_ = told(await found_on(redis, url, Role.WORKER, DURABILITY=durability))
        assert told_ == ([("persistence", WARN), ("replicas", WARN)] if found else [])


@EVERYBODY
@pytest.mark.parametrize(("require", "level"), [("false", WARN), ("true", REFUSE)])
async def test_an_empty_database_is_found(
    good: Redis, good_url: str, role: Role, require: str, level: Level
) -> None:
    await good.rename(Keys().canary, Keys().outcomes)  # does not count: it may be younger
    found = await found_on(good, good_url, role, REQUIRE_STATE=require)
    assert told(found) == [("state", level)]


async def test_a_server_that_cannot_take_our_scripts_is_found(
    good: Redis,
    good_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(self: Scripts) -> None:
        await self._redis.script_load("this is not Lua")

    monkeypatch.setattr(Scripts, "load", broken)
    found = await found_on(good, good_url, Role.WORKER)
    assert told(found) == [("scripts", REFUSE)]
    assert "compiling" in found[0].message


async def test_the_scripts_are_there_for_those_who_may_not_load_them(
    good: Redis, good_url: str
) -> None:
    await ask(good, given(good_url), Role.WORKER)
    shas = [script.sha for script in Scripts(good)._scripts.values()]
    assert all(await good.script_exists(*shas))


@PROCESSES
async def test_a_user_who_may_not_ask_whether_a_write_is_on_disk_is_found(
    good: Redis, good_url: str, role: Role
) -> None:
    async with user(good, good_url, "~*", "+@all", "-waitaof") as client:
        assert told(await found_on(client, good_url, role)) == [("persistence", REFUSE)]


async def test_a_user_who_may_not_use_the_database_is_found(good: Redis, good_url: str) -> None:
    async with user(good, good_url, "~*", "+@all", "-select", db=1) as client:
        found = await found_on(client, good_url, Role.WORKER)
        assert ("rights", REFUSE) in told(found)
        assert "'select' command" in str(found)


async def test_what_a_merchant_may_not_see_is_no_reason_to_refuse_its_commands(
    good: Redis, good_url: str
) -> None:
    async with user(good, good_url, "~reconciler:v1:commands", "+xadd") as client:
        found = await found_on(client, good_url, Role.MERCHANT)
        assert {level for _, level in told(found)} == {WARN}


async def test_a_managed_server_is_used_after_warnings_if_that_is_wanted() -> None:
    async with used("--maxmemory-policy", "allkeys-lru", "--appendonly", "no") as (redis, url):
        settings = given(url, REDIS_CHECKS="warn", REQUIRE_STATE="true")
        await redis.delete(Keys().canary)
        facts = await ask(redis, settings, Role.WORKER)
        assert told(judge(facts, settings)) == [
            ("persistence", WARN),
            ("eviction", WARN),
            ("state", REFUSE),  # asked for, whoever manages Redis
        ]
        assert confirmation(facts, settings.durability) is None


# What no server of ours can be made to say

GOOD = Facts(
    info={"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": 1},
    config={"appendfsync": "always"},
    waitaof=WaitAof.WORKS,
    lacking=[],
    scripts="",
    clock_ahead=0,
    canary="2026-01-01",
)


def with_info(**info: Any) -> Facts:
    return Facts(
        **{name: getattr(GOOD, name) for name in TRIED},
        info=info | {name: value for name, value in GOOD.info.items() if name not in info},
        clock_ahead=0,
        canary="2026-01-01",
    )


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("6.2.14", [("version", REFUSE)]),
        ("5.0.7", [("version", REFUSE)]),
        ("7.0.0", []),
        ("7.0.15", []),
        ("8.2.1", []),
        ("10.0", []),
        ("", [("version", WARN)]),
        ("unstable", [("version", WARN)]),
    ],
)
def test_a_redis_that_is_too_old_is_found(version: str, wanted: list[tuple[str, Level]]) -> None:
    assert told(judge(with_info(redis_version=version), given())) == wanted


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, [("eviction", WARN)]),
        ({"maxmemory-policy": "noeviction"}, []),
        ({"maxmemory-policy": "allkeys-lfu"}, [("eviction", REFUSE)]),
    ],
)
def test_what_info_does_not_tell_is_taken_from_the_configuration(
    config: dict[str, str], wanted: list[tuple[str, Level]]
) -> None:
    quiet = {"redis_version": "7.2.4"}
    facts = Facts(
        **{n: getattr(GOOD, n) for n in ("waitaof", "lacking", "scripts")},
        info=quiet,
        config={"appendfsync": "always"} | config,
        clock_ahead=0,
        canary="2026-01-01",
    )
    assert told(judge(facts, given())) == wanted


def test_buffers_that_redis_does_not_count_are_not_counted() -> None:
    used_up = {"used_memory": 90, "maxmemory": 100}
    assert told(judge(with_info(**used_up), given())) == [("memory", WARN)]
    assert judge(with_info(**used_up, mem_not_counted_for_evict=11), given()) == []


# Keys


def with_keys(private: Any = None, public: Any = None) -> Settings:
    settings = given()
    if private:
        object.__setattr__(settings.accounts[CLIENT_ID], "private_key", private)
    if public:
        object.__setattr__(settings, "public_keys", {CLIENT_ID: {7: public}})
    return settings


def test_a_private_key_that_does_not_fit_its_public_half_is_found() -> None:
    numbers = private_key("merchant_v1").private_numbers()
    other = private_key("merchant_v2").private_numbers()
    mixed = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=other.d,
        dmp1=numbers.dmp1,
        dmq1=other.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    found = judge(GOOD, with_keys(private=mixed))
    assert told(found) == [("keys", REFUSE)]
    assert f"ALIPAY_PRIVATE_KEY of {CLIENT_ID}" in found[0].message


class Credulous:
    """A key of the gateway that believes everything."""

    key_size = 2048

    def verify(self, *_: Any) -> None:
        """As if it matched."""


class Forbidden(Credulous):
    """A key that this machine's policy does not let us use."""

    def verify(self, *_: Any) -> None:
        raise UnsupportedAlgorithm("by policy")


@pytest.mark.parametrize("key", [Credulous(), Forbidden()])
def test_a_key_of_the_gateway_that_cannot_verify_is_found(key: Any) -> None:
    found = judge(GOOD, with_keys(public=cast(Any, key)))
    assert told(found) == [("keys", REFUSE)]
    assert f"version 7 in ALIPAY_PUBLIC_KEYS of {CLIENT_ID}" in found[0].message


def test_a_path_under_which_nothing_can_be_verified_is_found() -> None:
    """Refused for its path, a sample says nothing about a key."""
    settings = given()
    object.__setattr__(settings, "notify_path", "/two\nlines")
    [finding] = judge(GOOD, settings)
    assert "ALIPAY_PRIVATE_KEY" in finding.message and "ALIPAY_PUBLIC_KEYS" in finding.message


def test_keys_are_refused_also_where_redis_is_managed() -> None:
    settings = with_keys(public=cast(Any, Credulous()))
    object.__setattr__(settings, "redis_checks", RedisChecks.WARN)
    assert told(judge(GOOD, settings)) == [("keys", REFUSE)]


# How it is told


def test_each_finding_says_what_to_do() -> None:
    bad = Facts(
        info={
            "redis_version": "6.0",
            "cluster_enabled": 1,
            "maxmemory": 1,
            "used_memory": 1,
            "maxmemory_policy": "allkeys-lru",
            "connected_slaves": 0,
        },
        config={},
        waitaof=WaitAof.OFF,
        lacking=["HSET reconciler:v1:payment"],
        scripts="no Lua",
        clock_ahead=100_000,
        canary="",
    )
    found = judge(bad, with_keys(public=cast(Any, Credulous())))
    everything = [probe.__name__.removeprefix("probe_") for probe in probes.PROBES]
    assert [finding.what for finding in found] == [w for w in everything if w != "replicas"]
    assert all(len(finding.remedy) > 10 for finding in found)
    assert all("\n" not in str(finding) for finding in found)

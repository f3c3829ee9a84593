"""Behind Sentinel: a failover is a pause, and nothing that was acknowledged is lost in it."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import EventDict

from tests.failover import campaign, cut_off, missing, posts, streaming
from tests.sentinels import NAME, Cluster, cluster
from tests.servers import certificate, end, environ, free_port, receiving, until, wait_until
from worker import connect, probes
from worker.admission import refuse
from worker.connect import Unsafe, client, confirmation, pool
from worker.embedded import find_server
from worker.facts import ask
from worker.keys import Keys
from worker.rights import Role
from worker.scripts import Confirm, NotDurable
from worker.sentinel import (
    NoPrimary,
    PrimaryConnection,
    PrimaryTlsConnection,
    Sentinels,
)
from worker.settings import load
from worker.store import Store
from worker.values import Durability, Persistence, SentinelUrl, durability, redis_url, sentinel_url

pytestmark = pytest.mark.once  # what is under test is not Python

URL = "redis+sentinel://ann:pw@h1:26380,[::1],h3/main/2"
ON_ONE_REPLICA = confirmation(durability("replica:1"))


# The URL


def test_a_url_names_the_sentinels_and_the_primary() -> None:
    found = sentinel_url(URL)
    assert found and found.sentinels == (("h1", 26380), ("::1", 26379), ("h3", 26379))
    assert (found.name, found.url) == ("main", "redis://ann:pw@primary/2?")
    assert redis_url(URL) == URL


def test_the_sentinels_password_is_not_the_primarys() -> None:
    found = sentinel_url("redis+sentinel://:pw@h/main?sentinel_username=u&sentinel_password=s%26p")
    assert found and (found.username, found.password) == ("u", "s&p")
    assert found.url == "redis://:pw@primary/?"
    for secret in ("pw", "s&p"):
        assert secret not in repr(found)


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h", "unix:///r.sock", "http://h/main"])
def test_no_other_url_is_taken_for_one(url: str) -> None:
    assert sentinel_url(url) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel:/h/main", "give redis+sentinel://host:port,host:port/name/db"),
        ("redis+sentinel:///main", "give redis+sentinel://host:port,host:port/name/db"),
        ("redis+sentinel://h/main/0/1", "give redis+sentinel://host:port,host:port/name/db"),
        ("redis+sentinel://h/0#main", "give redis+sentinel://host:port,host:port/name/db"),
        ("redis+sentinel://a@b@h/main", "give redis+sentinel://host:port,host:port/name/db"),
        ("redis+sentinel://h1,h2", "the primary's name, by which the sentinels know it"),
        ("redis+sentinel://h1,h2/", "the primary's name, by which the sentinels know it"),
        ("redis+sentinel://h/ma%20in", "a primary's name has A-Z a-z 0-9 . _ -"),
        ("redis+sentinel://h/main/one", "a database is a number"),
        ("redis+sentinel://h1,,h2/main", "give every sentinel as host or host:port"),
        ("redis+sentinel://h1:0/main", "give every sentinel as host or host:port"),
        ("redis+sentinel://h1:65536/main", "give every sentinel as host or host:port"),
        ("redis+sentinel://h1:x/main", "give every sentinel as host or host:port"),
        ("redis+sentinel://h1,h1:26379/main", "name each sentinel once"),
        ("rediss+sentinel://h/main?ssl_cert_reqs=none", "leave out ssl_cert_reqs"),
        ("sentinel://h/main", "redis+sentinel://host,host/name/db"),
    ],
)
def test_a_malformed_url_is_refused_with_what_to_write(url: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        redis_url(url)
    assert message in str(refused.value)
    assert "red-secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_timeouts_and_keepalive_are_those_of_a_plain_url(scheme: str) -> None:
    plain = pool(f"{scheme}://ann:pw@h:1/2", tries=3).connection_kwargs
    ours = pool(f"{scheme}+sentinel://ann:pw@h/main/2", tries=3).connection_kwargs
    same = {name: value for name, value in ours.items() if name not in ("sentinels", "retry")}
    assert same == {n: v for n, v in plain.items() if n != "retry"} | {"host": "", "port": 0}
    assert ours["retry"]._retries == plain["retry"]._retries == 3
    assert ours["sentinels"]._options["socket_timeout"] < ours["socket_timeout"]


def test_by_tls_the_primary_and_the_sentinels_must_prove_their_names() -> None:
    made = pool("rediss+sentinel://h/main?ssl_ca_certs=/ca.pem", tries=1)
    connection = made.make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(connection, PrimaryTlsConnection)
    options = connection._sentinels._options
    sentinel = Redis(**options).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    for one in (connection, sentinel):
        assert one.ssl_context.check_hostname
        assert one.ssl_context.cert_reqs is ssl.CERT_REQUIRED
        assert one.ssl_context.ca_certs == "/ca.pem"
    plain = pool("redis+sentinel://h/main", tries=1).make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(plain, PrimaryConnection) and not isinstance(plain, PrimaryTlsConnection)


def debian() -> Path:
    """Debian's server, that other sentinel, which speaks TLS as well."""
    found = shutil.which("redis-server")
    if not found:
        pytest.skip("no redis-server here: apt install redis-server redis-sentinel")
    return Path(found)


async def test_primary_and_sentinel_are_reached_by_tls_under_their_own_names(
    tmp_path: Path,
) -> None:
    tls = certificate(tmp_path)
    with cluster(nodes=1, binary=debian(), tls=tls) as servers:
        url = servers.url.replace("redis+", "rediss+") + f"?ssl_ca_certs={tls[0]}"
        good, bad = client(url), client(url.replace("127.0.0.1", "localhost"), tries=0)
        assert await good.set("a", "b")
        assert isinstance(await good.connection_pool.get_connection(), PrimaryTlsConnection)
        with pytest.raises(RedisError, match="no sentinel of main answers: .*CERTIFICATE_VERIFY"):
            await bad.ping()
        await good.aclose()
        await bad.aclose()


# Finding the primary


@pytest.fixture(scope="module")
def calm() -> Iterator[Cluster]:
    """A primary, a replica and a sentinel that fail over only when a test has them."""
    with cluster(down_after_ms=5000) as servers:
        yield servers


@pytest.fixture
async def behind(calm: Cluster) -> AsyncIterator[Redis]:
    redis = client(calm.url)
    yield redis
    await redis.aclose()


async def test_the_primary_is_found(calm: Cluster, behind: Redis) -> None:
    assert await behind.set("a", "b")
    assert calm.primary.ask("GET", "a") == "b"


async def test_an_unknown_name_is_said_clearly_and_waited_for(
    calm: Cluster, log_lines: list[EventDict]
) -> None:
    redis = client(calm.url.replace(f"/{NAME}", "/mian"), tries=0)
    with pytest.raises(RedisError, match="the sentinels know no primary named mian: see REDIS_URL"):
        await redis.ping()
    waiting = asyncio.ensure_future(connect.wait_for(redis))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await end(waiting)
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"]
    assert "named mian" in log_lines[0]["fault"]
    await redis.aclose()


async def test_sentinels_that_do_not_answer_are_named() -> None:
    port = free_port()
    redis = client(f"redis+sentinel://127.0.0.1:{port}/main", tries=0)
    with pytest.raises(RedisError, match=f"no sentinel of main answers: .*{port}"):
        await redis.ping()
    await redis.aclose()


async def test_one_sentinel_that_answers_is_enough(calm: Cluster) -> None:
    dead = free_port()
    redis = client(calm.url.replace("//", f"//127.0.0.1:{dead},"))
    assert await redis.ping()
    await redis.aclose()


async def test_a_sentinel_that_hangs_is_not_waited_for_when_most_have_answered(
    calm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "SENTINEL_SECONDS", 60)
    server = await asyncio.start_server(_listen_only, "127.0.0.1", 0)
    hangs, port = server.sockets[0].getsockname()[1], calm.sentinels[0].port
    redis = client(f"redis+sentinel://127.0.0.1:{hangs},127.0.0.1:{port},localhost:{port}/{NAME}")
    async with asyncio.timeout(20):
        assert await redis.ping()
    await redis.aclose()
    server.close()


async def _listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_a_primary_that_takes_a_connection_and_says_nothing_is_soon_given_up(
    calm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that froze: its kernel still takes connections."""
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(connect, "SOCKET_SECONDS", 60)
    redis, primary = client(calm.url, tries=0), calm.primary
    primary.freeze()
    try:
        async with asyncio.timeout(4):
            with pytest.raises(RedisError, match="Timeout connecting"):
                await redis.ping()
    finally:
        primary.thaw()
    assert await redis.ping()
    await redis.aclose()


async def test_no_connection_to_a_sentinel_is_left_open(calm: Cluster) -> None:
    sentinel = calm.sentinels[0]
    before = sentinel.ask("INFO", "clients")["connected_clients"]
    redis = client(calm.url)
    await asyncio.gather(*(redis.ping() for _ in range(20)))
    wait_until(lambda: sentinel.ask("INFO", "clients")["connected_clients"] <= before)
    await redis.aclose()


async def test_those_who_look_at_the_same_time_share_one_look(calm: Cluster) -> None:
    def looks() -> int:
        return int(calm.sentinels[0].ask("INFO", "stats")["total_connections_received"])

    before, redis = looks(), client(calm.url)
    await asyncio.gather(*(redis.ping() for _ in range(30)))
    assert len(await redis.client_list(_type="normal")) > 10
    assert looks() - before < 5  # that of the test itself among them
    await redis.aclose()


@pytest.mark.parametrize(
    ("states", "port"),
    [
        ([{"config-epoch": "7", "port": 1}, {"config-epoch": "8", "port": 2}], 2),
        ([{"config-epoch": "10", "port": 1}, {"config-epoch": "9", "port": 2}], 1),
        ([{"config-epoch": "8", "port": 1, "is_sdown": True}, {"config-epoch": "7", "port": 2}], 2),
    ],
)
def test_of_several_answers_the_newest_holds(states: list[dict[str, Any]], port: int) -> None:
    """A sentinel that was cut off still names the primary of before."""
    up = {"ip": "h", "is_sdown": False, "is_odown": False}
    where = SentinelUrl((("h", 1),), "main", "")
    assert Sentinels(where, {})._best([up | state for state in states], []) == ("h", port)


def test_a_primary_that_is_down_is_not_named() -> None:
    down = {"ip": "h", "port": 1, "config-epoch": "1", "is_sdown": True, "is_odown": False}
    with pytest.raises(NoPrimary, match="the sentinels say that their primary main is down"):
        Sentinels(SentinelUrl((("h", 1),), "main", ""), {})._best([down], [])


async def test_a_server_that_may_only_be_greeted_is_believed(calm: Cluster) -> None:
    """The rights of a receiver: it may not ask for the role."""
    calm.primary.ask(
        "ACL", "SETUSER", "rx", "on", ">pw", "~*", "-@all", "+ping", "+client|setinfo", "+set"
    )
    redis = client(calm.url.replace("//", "//rx:pw@"), tries=0)
    assert await redis.set("a", "b")
    await redis.aclose()


# What a demoted primary says


async def test_a_primary_that_was_demoted_is_left_and_looked_for_again(
    calm: Cluster, behind: Redis
) -> None:
    old, new = calm.primary, calm.replicas[0]
    before = await behind.client_id()
    await behind.set("a", "b")
    old.ask("REPLICAOF", "127.0.0.1", new.port)
    try:
        with pytest.raises(RedisError, match="is a replica: a failover is under way"):
            await behind.set("a", "c")
    finally:
        old.ask("REPLICAOF", "NO", "ONE")
    assert await behind.set("a", "d")
    assert await behind.client_id() != before
    wait_until(lambda: new.follows(old))


async def test_a_script_finds_the_new_primary_as_well(calm: Cluster, behind: Redis) -> None:
    """A planned failover: the old primary lives on as a replica, the new one knows no script."""
    store = Store(behind, Keys("p"), confirm=ON_ONE_REPLICA)
    assert await store.receive("c:1", "{}", "digest", parks=True, quarantine=None) == "parked"
    new = await asyncio.to_thread(calm.change_over)
    await asyncio.to_thread(calm.repair)
    assert await store.receive("c:2", "{}", "digest", parks=True, quarantine=None) == "parked"
    assert new.ask("EXISTS", store.keys.inbox("c:1"), store.keys.inbox("c:2")) == 2


async def test_a_primary_without_the_replicas_it_needs_is_doubted(
    calm: Cluster, behind: Redis
) -> None:
    before = await behind.client_id()
    calm.primary.ask("CONFIG", "SET", "min-replicas-to-write", "3")
    with pytest.raises(NoPrimary, match="NOREPLICAS"):
        await Store(behind, Keys("p")).quarantine("c", "r", b"{}")
    calm.primary.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    assert await behind.client_id() != before


# What may be promised


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("fsync", Durability(Persistence.FSYNC)),
        ("replica:2", Durability(Persistence.REPLICA, 2)),
        ("fsync+replica:2", Durability(Persistence.FSYNC, 2)),
    ],
)
def test_disk_and_replicas_may_be_asked_for_together(text: str, kept: Durability) -> None:
    assert durability(text) == kept


@pytest.mark.parametrize(
    "text",
    ["replica", "fsync+replica", "fsync:1", "memory:1", "memory+replica:1", "fsync+replica:0"],
)
def test_a_half_said_promise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give fsync, replica:N or fsync"):
        durability(text)


@pytest.mark.parametrize(
    ("confirm", "answer", "holds"),
    [
        (Confirm(("WAIT",), 2), 2, True),
        (Confirm(("WAIT",), 2), 1, False),
        (Confirm(("WAITAOF",), 1), [1, 0], True),
        (Confirm(("WAITAOF",), 1), [0, 5], False),
        (Confirm(("WAITAOF",), 1, 1), [1, 1], True),
        (Confirm(("WAITAOF",), 1, 1), [1, 0], False),
        (Confirm(("WAITAOF",), 1, 1), [0, 1], False),
    ],
)
def test_every_count_is_looked_at(confirm: Confirm, answer: Any, holds: bool) -> None:
    assert confirm.holds(answer) is holds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fsync", "DURABILITY waits for no replica"),
        ("replica:2", "1 of 2 replicas are connected"),
        ("replica:1", ""),
        ("fsync+replica:1", ""),
        ("memory", ""),
    ],
)
async def test_what_a_failover_would_lose_is_said_at_the_start(
    behind: Redis, text: str, why: str
) -> None:
    assert (await looked_at(behind, text))[1] == why


async def looked_at(redis: Redis, text: str) -> tuple[Confirm | None, str]:
    """What a write must wait for, and the beginning of what is said of failovers."""
    settings = load(environ("unix:///r.sock", "p", "https://gateway.example", DURABILITY=text))
    facts = await ask(redis, settings, Role.RECEIVER)
    found = probes.judge(facts, settings)
    refuse(found)
    said = [finding.message for finding in found if finding.what == "replicas"]
    return probes.confirmation(facts, settings.durability), "".join(said).partition(":")[0]


async def test_a_plain_url_to_a_server_with_replicas_is_no_better(calm: Cluster) -> None:
    redis = client(f"redis://127.0.0.1:{calm.primary.port}")
    assert (await looked_at(redis, "fsync"))[1] == "DURABILITY waits for no replica"
    await redis.aclose()


async def test_every_replica_that_may_be_promoted_must_be_waited_for() -> None:
    """An ack of one replica says nothing of the other, and that one may become the primary."""
    with cluster(nodes=3) as servers:
        redis = client(servers.url)
        assert await looked_at(redis, "replica:1") == (
            ON_ONE_REPLICA,
            "DURABILITY waits for 1 of 2 replicas, another may be promoted",
        )
        assert (await looked_at(redis, "replica:2"))[1] == ""
        one = Store(redis, Keys("p"), confirm=ON_ONE_REPLICA)
        cut_off(servers.replicas[1])  # as after it was promoted
        assert await one.receive("c:1", "{}", "digest", parks=True, quarantine=None) == "parked"
        assert servers.replicas[1].ask("EXISTS", one.keys.inbox("c:1")) == 0
        both = Store(redis, Keys("p"), confirm=Confirm(("WAIT", 2, 200), 2))
        with pytest.raises(NotDurable, match="WAIT answered 1"):
            await both.receive("c:2", "{}", "digest", parks=True, quarantine=None)
        await redis.aclose()


async def test_disk_and_replica_together_are_confirmed_or_refused(
    calm: Cluster, behind: Redis
) -> None:
    confirm, _ = await looked_at(behind, "fsync+replica:1")
    assert confirm == Confirm(("WAITAOF", 1, 1, connect.CONFIRM_MS), 1, 1)
    store = Store(behind, Keys("p"), confirm=confirm)
    await store.quarantine("c", "r", b"{}")
    calm.replicas[0].ask("CONFIG", "SET", "appendonly", "no")
    store.confirm = Confirm(("WAITAOF", 1, 1, 300), 1, 1)
    with pytest.raises(NotDurable, match=r"WAITAOF answered \[1, 0\]"):
        await store.quarantine("c", "r", b"{}")
    calm.replicas[0].ask("CONFIG", "SET", "appendonly", "yes")


async def test_a_disk_is_not_believed_unseen_after_a_failover() -> None:
    """Before Redis 7.2 only the configuration tells, and that of the next primary is unknown."""
    with cluster(options=["--rename-command", "WAITAOF", ""]) as servers:
        redis, plain = client(servers.url), client(f"redis://127.0.0.1:{servers.primary.port}")
        for text in ("fsync", "fsync+replica:1"):
            with pytest.raises(Unsafe, match="the next primary may write to disk later"):
                await looked_at(redis, text)
        assert (await looked_at(redis, "replica:1"))[0] == ON_ONE_REPLICA
        assert (await looked_at(plain, "fsync+replica:1"))[0] == ON_ONE_REPLICA
        await redis.aclose()
        await plain.aclose()


# Failovers


@pytest.mark.parametrize("server", [find_server, debian], ids=["valkey", "redis"])
async def test_what_was_acknowledged_survives_a_replica_that_was_behind(
    server: Callable[[], Path],
) -> None:
    """With the acks that nothing confirms, for comparison: they are lost."""
    with cluster(binary=server()) as servers:
        careful, careless = client(servers.url), client(servers.url)
        safe = Store(careful, Keys("safe"), confirm=ON_ONE_REPLICA)
        unsafe = Store(careless, Keys("unsafe"))
        early, late = posts("early", 20), posts("late", 30)
        async with (
            receiving(safe) as port,
            receiving(unsafe) as careless_port,
            streaming(port) as ours,
            streaming(careless_port) as theirs,
        ):
            await asyncio.gather(ours.run(early), theirs.run(early))
            assert ours.acked == theirs.acked == set(early)
            old = servers.primary
            cut_off(servers.replicas[0])
            sending = asyncio.gather(ours.run(late), theirs.run(late))
            await asyncio.sleep(0.5)
            old.kill()
            new = await asyncio.to_thread(servers.wait_for_another, old)
            await sending
        with new.own as kept:
            assert missing(kept, ours.acked, safe.keys) == set()
            assert missing(kept, theirs.acked, unsafe.keys) == set(late) & theirs.acked != set()
        assert ours.acked == set(early)
        assert ours.answers == {200: len(early), 503: len(late)}
        await careful.aclose()
        await careless.aclose()


async def test_who_is_left_with_the_old_primary_gets_no_ack_and_comes_over() -> None:
    """A split: the old primary is cut off from everyone but us, and takes itself for the one."""
    with cluster() as servers:
        old, redis = servers.primary, client(servers.url)
        hasty = Confirm(("WAIT", 1, 300), 1)
        store = Store(redis, Keys("p"), confirm=hasty)
        assert await _received(store, "c:before") == "parked"
        # The sentinels cannot tell the old primary either, once it is back.
        old.ask("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
        old.freeze()
        new = await asyncio.to_thread(servers.wait_for_another, old)
        old.thaw()
        assert old.role() == "master"
        stuck = client(f"unix://{old.socket}")
        left = Store(stuck, Keys("p"), confirm=hasty)
        assert await _received(left, "c:stuck") == "WAIT answered 0"
        assert old.ask("EXISTS", left.keys.inbox("c:stuck")) == 1  # written, and never confirmed

        async def came_over() -> bool:
            """By the connection that it had before; the new primary has no replica yet."""
            assert await _received(store, "c:after") == "WAIT answered 0"
            return bool(new.ask("EXISTS", store.keys.inbox("c:after")))

        await until(came_over)
        old.ask("ACL", "SETUSER", "default", "+@all")
        await asyncio.to_thread(servers.repair)

        async def received() -> bool:
            return await _received(store, "c:after") in ("parked", "duplicate")

        await until(received)
        assert new.ask("EXISTS", store.keys.inbox("c:after")) == 1
        assert new.ask("EXISTS", store.keys.inbox("c:stuck")) == 0
        await redis.aclose()
        await stuck.aclose()


async def _received(store: Store, key: str) -> str:
    try:
        return await store.receive(key, "{}", "digest", parks=True, quarantine=None)
    except RedisError as fault:
        return str(fault)


async def test_failovers_under_load_lose_no_ack_and_leave_every_payment_with_its_one_end() -> None:
    figures = await campaign(rounds=2, payments=8, notifications=400)
    assert figures.right, figures
    assert figures.rounds == 2 and figures.payments == 16
    assert figures.acked > 100 and figures.refused > 10

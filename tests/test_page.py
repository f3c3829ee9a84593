"""What an operator sees on the page: how things stand in Redis, and nothing that does harm."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from jobs.model import Aftercare, Cause, Payment, Status
from jobs.payment import track as tracked
from jobs.schedule import DAY, HOUR, MINUTE, Policy
from tests.fakes import (
    CLIENT,
    CONFIRMED,
    KEY,
    NOT_YET,
    PAID,
    Bench,
    cancel_silent,
    notification,
    open_bench,
    silent,
    track,
)
from tests.pages import (
    fill,
    line,
    payment,
    settings_for,
    showing,
    to_refund,
    unresolved,
)
from tests.servers import put
from tests.test_page_markup import HOSTILE, Read
from worker import connect
from worker.embedded import EmbeddedServer
from worker.keys import Keys
from worker.replies import now_of

#: Every element there may be: none that runs, loads or embeds anything.
ELEMENTS = frozenset(
    """html head meta link title style body a header form label input button main footer div
    section h1 h2 h3 p span b strong code time ul ol li dl dt dd table caption thead tbody tr th td
    figure figcaption svg g rect details summary""".split()  # noqa: SIM905  (a list of them all)
)
INLINE = ("a", "b", "strong", "span", "time", "code")


class Shown(Read):
    """The text that a browser shows: what stands in different blocks is apart."""

    style = ""
    _in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self._in_style = tag == "style"
        self._apart(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        self._apart(tag)

    def _apart(self, tag: str) -> None:
        if tag not in INLINE:
            self.said += " "

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            super().handle_data(data)

    @property
    def text(self) -> str:
        return " ".join(self.said.split())


class Seen(Shown):
    """A page as an answer; what no page of ours may hold fails the test."""

    def __init__(self, status: int, headers: Mapping[str, str], html: str, url: str) -> None:
        super().__init__(html)
        self.status, self.headers, self.html, self.url = status, headers, html, url
        assert {name for name, _ in self.elements} <= ELEMENTS
        for name, attributes in self.elements:
            handlers = [a for a in attributes if a.startswith("on") or a == "style"]
            assert not handlers, (name, attributes)
            for target in (attributes.get("href"), attributes.get("action")):
                assert target == "data:," or self._is_ours(target or ""), (name, attributes)

    def _is_ours(self, target: str) -> bool:
        return urlsplit(urljoin(self.url, target))[:2] == urlsplit(self.url)[:2]

    @property
    def links(self) -> list[str]:
        """Where one can go to, in order."""
        found = [attributes["href"] for name, attributes in self.elements if name == "a"]
        return [urljoin(self.url, link or "") for link in found]

    def part(self, name: str) -> str:
        """The text of a section, by the id of its heading."""
        inside = self.html.split(f'id="{name}"', 1)[1].split("</section>", 1)[0]
        return Shown(f"<p {inside}").text


@dataclass
class Page:
    """The page over a Redis of its own prefix."""

    redis: Redis
    keys: Keys
    url: str
    http: ClientSession

    async def get(self, path: str = "/", **query: str) -> Seen:
        url = urljoin(self.url, path)
        async with self.http.get(url, params=query or None) as answer:
            text = await answer.text()
            return Seen(answer.status, answer.headers, text, str(answer.url))

    async def write(self, *payments: Payment) -> None:
        async with self.redis.pipeline() as pipe:
            for one in payments:
                put(pipe, self.keys, one)
            await pipe.execute()


@pytest.fixture
async def page(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Page]:
    client = connect.client(redis_url)  # as in production: it gives bytes
    async with ClientSession() as http, showing(client, settings_for(prefix)) as url:
        yield Page(client, Keys(prefix), url, http)
    await client.aclose()


@pytest.fixture
async def now(page: Page) -> int:
    """Redis time; a sweep has just come round."""
    at = await now_of(page.redis)
    await page.redis.set(page.keys.swept, at - 4000)
    return at


# The sentence on top


async def test_where_nothing_is_wrong_all_is_well(page: Page, now: int) -> None:
    seen = await page.get()
    assert seen.status == 200
    assert "All is well. No payment is open. The last sweep was 4 s ago." in seen.text


async def test_payments_on_their_way_are_no_reason_to_worry(page: Page, now: int) -> None:
    await page.write(payment("a", now, 12 * MINUTE), payment("b", now, MINUTE))
    seen = await page.get()
    assert "All is well. 2 payments are open, the oldest for 12 min." in seen.text


async def test_what_needs_a_person_is_said_first(page: Page, now: int) -> None:
    await page.write(
        payment("a", now, 12 * MINUTE),
        unresolved("b", now, "cancel_limit"),
        unresolved("c", now, "brake"),
        to_refund("d", now),
    )
    assert (
        "Somebody is needed. 3 payments need a person. 1 payment is open, since 12 min."
        in (await page.get()).text
    )


async def test_a_gateway_that_answers_about_no_payment_is_said(page: Page, now: int) -> None:
    long_ago = replace(payment("a", now, 12 * MINUTE), tried_at=now - 10 * MINUTE)
    silent = replace(payment("b", now, MINUTE), tried_at=now - 2000, unanswered=3)
    await page.write(long_ago, silent)
    assert "Somebody is needed. The gateway does not answer" in (await page.get()).text


async def test_a_gateway_that_answers_about_one_payment_is_well(page: Page, now: int) -> None:
    silent = replace(payment("a", now, 12 * MINUTE), tried_at=now - 2000, unanswered=3)
    answered = replace(payment("b", now, MINUTE), tried_at=now - 2000)
    await page.write(silent, answered)
    assert "All is well. 2 payments are open" in (await page.get()).text


async def test_payments_open_long_past_their_closing_time_are_wrong(page: Page, now: int) -> None:
    await page.write(payment("a", now, HOUR))
    assert "Something is wrong. 1 payment is still open long past" in (await page.get()).text


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (None, "No worker has swept yet: payments are not followed."),
        (12 * MINUTE, "The last sweep was 12 min ago: payments may not be followed."),
    ],
)
async def test_without_a_sweep_something_is_wrong(
    page: Page, now: int, ago: int | None, said: str
) -> None:
    await page.redis.delete(page.keys.swept)
    if ago is not None:
        await page.redis.set(page.keys.swept, now - ago)
    assert f"Something is wrong. {said}" in (await page.get()).text


async def test_a_redis_that_is_nearly_full_is_wrong(page: Page, now: int, redis: Redis) -> None:
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used * 100 // 85)
    try:
        seen = await page.get()
    finally:
        await redis.config_set("maxmemory", 0)
    assert re.search(r"Something is wrong\. Redis is \d{2,3}% full", seen.text)


async def test_a_group_that_reads_no_outcomes_is_named(page: Page, now: int) -> None:
    await page.redis.xgroup_create(page.keys.outcomes, "shop", "0", mkstream=True)
    await page.redis.xadd(page.keys.outcomes, {"type": "x"}, id=f"{now - 26 * HOUR}-0")
    seen = await page.get()
    assert "Somebody is needed. Group shop has outcomes unread for 26 h." in seen.text
    assert "shop 1, the oldest of 26 h ago" in seen.part("machinery")


# Who needs a person


async def test_a_payment_that_needs_a_person_is_listed_with_why_and_since_when(
    page: Page, now: int
) -> None:
    await page.write(unresolved("a", now, "amount_mismatch"), to_refund("b", now))
    seen = await page.get()
    said = seen.part("attention")
    assert "a unresolved The gateway speaks of another amount than your order." in said
    assert "20 min ago" in said and "USD 599" in said
    assert "b cancelled Money stays taken, and no cancel gives it back." in said
    assert f"{page.url}/payments/{CLIENT}:a" in seen.links


async def test_of_very_many_the_oldest_are_listed_and_the_others_counted(
    page: Page, now: int
) -> None:
    await page.write(
        *(unresolved(f"u{n}", now, "brake", tracked_at=now - HOUR - n) for n in range(30))
    )
    said = (await page.get()).part("attention")
    assert "u29" in said and "u10" in said and "u9 " not in said
    assert "and 10 more: reconciler pending" in said


# Open payments


async def test_open_payments_are_counted_by_age(page: Page, now: int) -> None:
    ages = (10_000, 20_000, 3 * MINUTE, 12 * MINUTE, 2 * HOUR, 3 * DAY)
    await page.write(*(payment(f"p{i}", now, age) for i, age in enumerate(ages)))
    assert "under 1 min 2 1 to 5 min 1 5 to 15 min 1 15 to 60 min 0 1 to 24 h 1 over a day 1" in (
        await page.get()
    ).part("open")


async def test_the_oldest_open_payments_are_listed_with_what_comes_next(
    page: Page, now: int
) -> None:
    cancelling = {"status": Status.CANCELLING, "cause": Cause.TIMED_OUT}
    await page.write(
        payment("young", now, MINUTE),
        payment("old", now, 16 * MINUTE, **cancelling),
        payment("late", now, 3 * MINUTE, next_at=now - 40_000, unanswered=2),
        payment("ended", now, HOUR, status=Status.FAILED, aftercare=Aftercare.WATCHING),
    )
    said = (await page.get()).part("open")
    assert re.search(r"old cancelling timed out ask the gateway in \d s .* 16 min USD 599", said)
    assert re.search(r"late pending no answer ask the gateway, due 4\d s ago", said)
    assert said.index("old canc") < said.index("late pend") < said.index("young pend")
    assert "Besides, 1 ended payment is still watched." in said


# Outcomes


async def test_outcomes_are_drawn_and_can_be_read_as_a_table(page: Page, now: int) -> None:
    for at, end in ((now - HOUR, "failed"), (now, "succeeded"), (now, "succeeded")):
        await page.redis.xadd(page.keys.outcomes, {"type": f"payment.{end}"}, id=f"{at}-*")
    seen = await page.get()
    said = seen.part("outcomes")
    assert "succeeded 2 cancelled 0 failed 1 needs a person 0 other 0" in said
    assert "Hour (UTC) succeeded failed" in said
    bars = [
        a for name, a in seen.elements if name == "rect" and (a.get("class") or "") in ("s0", "s2")
    ]
    assert [(bar["class"], bar["height"]) for bar in bars] == [("s2", "50.0"), ("s0", "100.0")]
    [drawing] = [a for name, a in seen.elements if name == "svg" and a.get("role") == "img"]
    assert drawing["aria-label"]


# One payment


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


async def follow(bench: Bench, *replies: Any) -> None:
    """The payment is tracked and followed by a real worker, to the end of what the gateway says."""
    now = await bench.now()
    assert await bench.worker.store.create(tracked(track(now), now, Policy()), [])
    bench.worker.gateway.will(*replies)
    while bench.worker.gateway.script:
        await bench.wake()


async def test_the_page_of_a_payment_tells_its_story_in_order(page: Page, bench: Bench) -> None:
    """Its notification is lost, the gateway falls silent, it is cancelled, and then it was paid."""
    await follow(bench, NOT_YET, silent, silent)
    closing = (await bench.payment()).closing_time
    await bench.pass_time(closing - await bench.now() + 1)
    bench.worker.gateway.will(NOT_YET, cancel_silent, CONFIRMED)
    while bench.worker.gateway.script:
        await bench.wake()
    bench.worker.gateway.will(PAID)
    await bench.wake()
    seen = await page.get(f"/payments/{KEY}")
    assert seen.status == 200
    said = seen.part("timeline")
    story = [
        "inquiry The gateway says: not paid yet.",
        "inquiry Our question got no answer that counts: it took too long. 2 times, until",
        "inquiry The gateway says: not paid yet.",
        "status Hope is given up, as its time was up",
        "cancel A cancel was sent.",
        "cancel The cancel got no answer that counts",
        "cancel A cancel was sent.",
        "cancel The gateway confirmed the cancel.",
        "status It ended: CANCELLED",
        "inquiry The gateway says: paid.",
    ]
    place = -1
    for part in story:
        place = said.index(part, place + 1)
    assert "It was told as cancelled, without money taken. That does not hold." in seen.text
    assert "the cancel is repeated until it is given back" in seen.part("next")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            r"The gateway is asked in \d s .*If it is not paid by its closing time, it is canc",
        ),
        ({"next_at": -120_000}, r"This was due 2 min ago\."),
        (
            {"status": Status.CANCELLING, "next_act": "cancel"},
            r"A cancel is sent in \d s .*repeated until the gateway confirms or refuses it\.",
        ),
        (
            {"status": Status.UNRESOLVED, "reason": "brake", "next_at": None},
            r"Nothing is asked any more\. It stays listed until a person decides\.",
        ),
        (
            {"status": Status.SUCCEEDED, "final_at": 0, "next_at": None},
            r"Nothing is asked any more\. The record is kept until about in 3[45] days",
        ),
        (
            {"status": Status.CANCELLED, "aftercare": Aftercare.WATCHING, "final_at": 0},
            r"The gateway is asked a few times more whether that stays so\.",
        ),
    ],
)
async def test_what_happens_next_is_said(
    page: Page, now: int, changes: dict[str, Any], said: str
) -> None:
    times = {n: now + at for n, at in changes.items() if n.endswith("_at") and at is not None}
    await page.write(payment("a", now, MINUTE, **changes | times))
    assert re.search(said, (await page.get(f"/payments/{CLIENT}:a")).part("next"))


async def test_mail_that_waits_to_be_read_is_counted_and_not_shown(
    page: Page, bench: Bench, now: int
) -> None:
    await page.write(payment("order-1", now, MINUTE))
    await bench.deliver(notification())
    seen = await page.get(f"/payments/{KEY}")
    assert "1 notification is received and not applied yet." in seen.text
    assert "notifyType" not in seen.html


async def test_an_address_that_may_hold_a_token_is_not_shown(page: Page, now: int) -> None:
    await page.write(payment("a", now, MINUTE, callback_url="https://shop.example/?token=s3"))
    assert "shop.example" not in (await page.get(f"/payments/{CLIENT}:a")).html


# Finding one


@pytest.mark.parametrize("asked", ["order-1", f"{CLIENT}:order-1", "  order-1 "])
async def test_a_payment_is_found_by_its_id(page: Page, now: int, asked: str) -> None:
    await page.write(payment("order-1", now, MINUTE))
    seen = await page.get("/payments", id=asked)
    assert (seen.status, seen.url) == (200, f"{page.url}/payments/{CLIENT}:order-1")


async def test_where_two_accounts_have_one_both_are_offered(page: Page, now: int) -> None:
    await page.write(payment("C:x", now, MINUTE), payment("x", now, MINUTE, client_id="C"))
    seen = await page.get("/payments", id="C:x")
    assert seen.status == 200
    assert seen.links[-2:] == [f"{page.url}/payments/{CLIENT}:C:x", f"{page.url}/payments/C:x"]


async def test_with_several_accounts_it_is_said_whose_a_payment_is_and_either_is_found(
    page: Page, prefix: str, now: int
) -> None:
    both, settings = (CLIENT, "OTHER"), settings_for(prefix)
    settings = replace(settings, client_id="", own=dict.fromkeys(both, {}))
    await page.write(*(payment("a", now, MINUTE, client_id=client_id) for client_id in both))
    async with showing(page.redis, settings) as url:
        several = Page(page.redis, page.keys, url, page.http)
        seen = await several.get()
        assert f"{CLIENT}:a" in seen.text and "OTHER:a" in seen.text
        found = await several.get("/payments", id="a")
        assert "Several accounts have one of this name" in found.text
        assert [link for link in found.links if link.endswith(f"{CLIENT}:a")]
        one = await several.get("/payments", id="OTHER:a")
        assert (one.status, "Payment of OTHER" in one.text) == (200, True)


@pytest.mark.parametrize(
    "path", ["/payments/x:y", "/payments/no-colon", "/payments?id=x", "/payments"]
)
async def test_what_is_not_tracked_is_said_to_be_so(page: Page, path: str) -> None:
    seen = await page.get(path)
    assert seen.status == 404
    assert "No payment of this name is tracked" in seen.text


# Hostile data


def hostile(now: int, **changes: Any) -> list[Payment]:
    return [
        unresolved(
            name, now, name, reference=name, marks=(name,), payment_id=name, result_code=name
        )
        for name in (*HOSTILE, "a/b?c=d#e f", "..", "%2e%2e%2f", "ü\u202e\x00", "x-" * 150)
    ]


async def test_names_from_outside_are_text_and_lead_to_their_payment(page: Page, now: int) -> None:
    """`Seen` fails on any element or attribute that is not ours."""
    await page.write(*hostile(now))
    seen = await page.get()
    links = [link for link in seen.links if f"/payments/{CLIENT}" in link]
    assert len(links) == len(hostile(now))
    for link in links:
        assert (await page.get(link)).status == 200, link
    assert "<script>alert(1)</script>" in seen.text
    assert "alert(1)</script>" not in seen.html


@pytest.mark.parametrize("said", HOSTILE)
async def test_a_timeline_from_outside_is_text(page: Page, now: int, said: str) -> None:
    await page.write(payment("a", now, MINUTE))
    entries: list[Any] = [line(now, said, said, said, count=said, until=said), said]
    entries[0]["at"] = said
    async with page.redis.pipeline() as pipe:
        put(pipe, page.keys, payment("a", now, MINUTE), *entries)
        pipe.rpush(page.keys.timeline(f"{CLIENT}:a"), b"\xff" + said.encode())
        await pipe.execute()
    assert " ".join(said.split()) in (await page.get(f"/payments/{CLIENT}:a")).part("timeline")


@pytest.mark.parametrize("said", HOSTILE)
async def test_what_was_asked_for_is_text(page: Page, said: str) -> None:
    for path in (f"/payments?id={quote(said)}", f"/payments/{quote(said, safe='')}"):
        seen = await page.get(path)
        assert (seen.status, seen.text.count(" ".join(said.split()))) == (404, 1), path
    [field] = [a for name, a in seen.elements if name == "input"]
    assert field["name"] == "id"


async def test_names_of_groups_and_fields_are_text(page: Page, now: int) -> None:
    for name in HOSTILE:
        await page.redis.xgroup_create(page.keys.outcomes, name, "0", mkstream=True)
    await page.write(payment("a", now, MINUTE))
    await page.redis.hset(page.keys.payment(f"{CLIENT}:a"), "<b>", "<i>")  # type: ignore[misc]
    assert "<!--" in (await page.get()).part("machinery")
    assert "<b> <i>" in (await page.get(f"/payments/{CLIENT}:a")).text


# What is not as it should be


async def test_damaged_records_are_listed_and_shown_as_such(page: Page, now: int) -> None:
    await page.write(
        payment("a", now, MINUTE), payment("b", now, MINUTE), payment("c", now, MINUTE)
    )
    await page.redis.hset(page.keys.payment(f"{CLIENT}:a"), "status", "<odd>")  # type: ignore[misc]
    await page.redis.hset(page.keys.payment(f"{CLIENT}:b"), "schema", "9")  # type: ignore[misc]
    await page.redis.set(page.keys.payment(f"{CLIENT}:d"), "x")
    await page.redis.zadd(page.keys.open, {f"{CLIENT}:d": 1})
    seen = await page.get()
    assert "3 records cannot be read." in seen.text
    assert seen.part("attention").count("unreadable") == 3
    for name, why in (
        ("a", "field status cannot be read"),
        ("b", "schema '9'"),
        ("d", "WRONGTYPE"),
    ):
        seen = await page.get(f"/payments/{CLIENT}:{name}")
        assert seen.status == 200
        assert "unreadable Its record cannot be read" in seen.text and why in seen.text


@pytest.mark.parametrize("changes", [{"trackedAt": "9" * 15}, {"nextInquiryAt": "9" * 15}])
async def test_a_time_out_of_all_bounds_is_shown_as_none(
    page: Page, now: int, changes: dict[str, str]
) -> None:
    await page.write(payment("a", now, MINUTE))
    await page.redis.hset(page.keys.payment(f"{CLIENT}:a"), mapping=changes)  # type: ignore[misc]
    for path in ("/", f"/payments/{CLIENT}:a"):
        assert (await page.get(path)).status == 200


@pytest.mark.parametrize(
    ("key", "said"), [("open", "The open payments cannot be read."), ("outcomes", "WRONGTYPE")]
)
async def test_a_key_of_another_type_hides_no_other_part(
    page: Page, now: int, key: str, said: str
) -> None:
    await page.redis.set(getattr(page.keys, key), "x")
    seen = await page.get()
    assert seen.status == 200
    assert said in seen.text and "Last sweep 4 s ago" in seen.text


async def test_without_redis_the_page_says_so_and_comes_back_with_it(
    tmp_path: Path, prefix: str
) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    client = connect.client(server.url, tries=0)
    try:
        async with (
            ClientSession() as http,
            showing(client, settings_for(prefix)) as url,
        ):
            page = Page(client, Keys(prefix), url, http)
            assert (await page.get()).status == 200
            server.kill()
            await asyncio.sleep(0)
            for path in (f"/payments/{KEY}", "/payments?id=x"):
                seen = await page.get(path)
                assert (seen.status, seen.headers["Retry-After"]) == (503, "5")
                assert "Redis does not answer" in seen.text
                assert "Traceback" not in seen.html
            server.start()
            assert (await page.get()).status == 200
    finally:
        await client.aclose()
        server.stop()


# The page itself


async def test_only_its_own_style_is_allowed_and_nothing_else(page: Page, now: int) -> None:
    for path in ("/", f"/payments/{KEY}"):
        seen = await page.get(path)
        policy = seen.headers["Content-Security-Policy"]
        digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert "url(" not in seen.style and "@import" not in seen.style
        assert seen.headers["Cache-Control"] == "no-store"
        assert seen.headers["X-Content-Type-Options"] == "nosniff"
        assert seen.headers["Referrer-Policy"] == "no-referrer"


async def test_it_refreshes_only_when_asked_to_and_can_be_stopped(page: Page, now: int) -> None:
    def refreshes(seen: Seen) -> bool:
        return any(a.get("http-equiv") == "refresh" for _, a in seen.elements)

    still = await page.get()
    assert not refreshes(still)
    moving = await page.get(next(link for link in still.links if "refresh" in link))
    assert refreshes(moving)
    assert "Stop refreshing" in moving.text
    assert not refreshes(await page.get(f"{page.url}/"))


async def test_many_who_look_at_once_cost_as_much_as_one(page: Page, now: int) -> None:
    await page.write(*(payment(f"p{i}", now, MINUTE) for i in range(3)))
    before = await page.redis.info("commandstats")
    pages = await asyncio.gather(*(page.get() for _ in range(40)))
    after = await page.redis.info("commandstats")
    assert {seen.status for seen in pages} == {200}
    assert (
        after["cmdstat_evalsha"]["calls"] - before.get("cmdstat_evalsha", {"calls": 0})["calls"]
        <= 4
    )


async def test_to_look_changes_nothing(page: Page, redis: Redis, now: int) -> None:
    await fill(page.redis, page.keys)

    async def everything() -> dict[str, Any]:
        return {
            name: await page.redis.dump(name)
            async for name in redis.scan_iter(f"{page.keys.prefix}*")
        }

    before = await everything()
    assert "Somebody is needed" in (seen := await page.get()).text or "wrong" in seen.text
    await page.get(f"/payments/{CLIENT}:refund-me")
    await page.get("/payments", id="refund-me")
    assert await everything() == before

"""The recipes of docs/operate.md do what they say: jq on real lines, LogQL by names that exist."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.log_events import ROOT
from tests.servers import (
    Asked,
    environ,
    notification,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    send,
)
from worker.client import track
from worker.events import EVENTS, FIELDS
from worker.settings import SETTINGS

PAGES = (ROOT / "docs/operate.md",)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What stands on every line, and what Loki's own words are.
ALWAYS = {"timestamp", "level", "event", "app"}
NUMBERS = {"count", "percent", "seconds", "attempt", "http_status", "key_version", "bytes", "woken"}


def blocks(language: str) -> Iterator[str]:
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text("utf-8")):
            if found[1] == language:
                yield found[2]


def jq_recipes() -> list[str]:
    """Each command behind `$ ... | jq`, from `jq` on; it may go on over several lines."""
    commands = [c for block in blocks("console") for c in re.split(r"^\$ ", block, flags=re.M)]
    return [command[command.index("jq ") :].strip() for command in commands if "| jq " in command]


def logql_recipes() -> list[str]:
    """Each expression; one that goes on is indented."""
    return [
        expression.strip()
        for block in blocks("logql")
        for expression in re.split(r"\n(?=\S)", block)
        if expression.strip()
    ]


# Names


def events_in(recipe: str) -> set[str]:
    """The events, and patterns of events, that a recipe asks for."""
    asked = re.findall(r'(?:event|condensed) ?(?:==|=~|!=|=) ?"([^"]+)"', recipe)
    return {name for alternatives in asked for name in alternatives.split("|")}


def fields_in_jq(recipe: str) -> set[str]:
    named = set(re.findall(r"(?<!\w)\.([a-z_0-9]+)", re.sub(r'"[^"]*"', "", recipe)))
    taken = re.findall(r"\{([a-z_0-9, ]+)\}", recipe)  # {timestamp, event}
    named |= {name.strip() for names in taken for name in names.split(",")}
    return named - {"key", "value"}  # of to_entries


def fields_in_logql(recipe: str) -> set[str]:
    named = set(re.findall(r"\| *(?:unwrap )?([a-z_0-9]+) *(?:=~|!=|=|$|\[|\)|>| \[)", recipe))
    named |= set(re.findall(r"\{\{\.([a-z_0-9]+)\}\}", recipe))
    named |= set(re.findall(r"\{([a-z_0-9]+)=", recipe))
    grouped = re.findall(r"by \(([a-z_0-9, ]+)\)", recipe)
    named |= {name.strip() for names in grouped for name in names.split(",")}
    return named - {"json"}


def unknown_fields(named: set[str]) -> set[str]:
    return named - set(FIELDS) - ALWAYS


def unknown_events(recipe: str) -> set[str]:
    asked = events_in(recipe)
    return {name for name in asked if not any(re.fullmatch(name, event) for event in EVENTS)}


# Lines


async def _answer(asked: Asked) -> Any:
    """The gateway knows `order-4711` as paid; of any other it says nothing that counts."""
    name = json.loads(asked.body)["paymentRequestId"]
    return await says("SUCCESS" if name == "order-4711" else "?")(asked)


@pytest.fixture(scope="module")
def log_file(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a receiver and a worker wrote; one line of every event, and one count of each."""
    folder = tmp_path_factory.mktemp("recipes")
    lines = asyncio.run(_real_lines(redis_url, folder))
    assert {line["event"] for line in lines} >= REAL
    lines += [_sample(event) for event in EVENTS]
    repeat = (name for name, entry in EVENTS.items() if entry.burst)
    lines += [_sample("log.condensed") | {"condensed": name} for name in repeat]
    file = folder / "lines.log"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return file


#: Lines that the run must have brought forth.
REAL = {
    "payment.tracked",
    "payment.final",
    "inquiry.completed",
    "inquiry.unanswered",
    "notification.accepted",
    "notification.applied",
    "notification.rejected",
    "command.rejected",
}


async def _real_lines(redis_url: str, folder: Path) -> list[dict[str, Any]]:
    prefix = "recipes"
    redis = Redis.from_url(redis_url)
    async with scripted_gateway() as gateway:
        gateway.answer = _answer
        given = environ(redis_url, prefix, gateway.url)
        with (
            process(folder, given, *reconciler("worker")) as worker,
            process(folder, given, *reconciler("receiver")) as receiver,
        ):
            started = await asyncio.to_thread(receiver.wait_for, "receiver.started")
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            genuine = notification(paid("order-4712"))
            await send(port, genuine.having(Signature="none").wire())
            for value in (599, 598):
                for name in ("order-4711", "order-4712"):
                    await track(redis, name, "USD", value, expires_in=600, prefix=prefix)
            for event in ("inquiry.unanswered", "command.rejected"):
                await asyncio.to_thread(worker.wait_for, event)
            await asyncio.to_thread(worker.wait_for, "payment.final")
            await send(port, genuine.wire())
            await asyncio.to_thread(worker.wait_for, "notification.applied")
            lines = [*worker.lines, *receiver.lines]
    async for key in redis.scan_iter(f"*{prefix}*"):
        await redis.delete(key)
    await redis.aclose()
    return lines


def _sample(event: str) -> dict[str, Any]:
    """A line of this event with a value for each of its fields."""
    entry = EVENTS[event]
    about = {name: _value(name) for name in entry.fields.split()}
    level = entry.level or "warning"
    return {"timestamp": "2026-11-24T12:00:00.000Z", "level": level, "event": event, **about}


def _value(field: str) -> Any:
    if field.endswith("_ms") or field == "ms" or field in NUMBERS:
        return 100_000
    return {
        "condensed": "inquiry.unanswered",
        "reasons": {"timeout": 3},
        "example": {"payment_request_id": "order-4711"},
        "marks": ["late"],
    }.get(field, f"some {field}")


# The promises


def test_there_are_recipes() -> None:
    assert jq_recipes()


@pytest.mark.parametrize("recipe", jq_recipes())
def test_a_jq_recipe_asks_for_what_there_is(recipe: str) -> None:
    assert unknown_events(recipe) == set()
    assert unknown_fields(fields_in_jq(recipe)) == set()


@pytest.mark.once
@pytest.mark.parametrize("recipe", jq_recipes())
def test_a_jq_recipe_finds_something_in_a_real_log(recipe: str, log_file: Path) -> None:
    if not shutil.which("jq"):
        pytest.skip("needs jq: apt-get install jq")
    bash = ["bash", "-o", "pipefail", "-c", recipe]
    with log_file.open("rb") as lines:
        found = subprocess.run(bash, stdin=lines, capture_output=True, text=True, timeout=20)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip() not in ("", "null", "[]")


@pytest.mark.parametrize("recipe", logql_recipes())
def test_a_logql_recipe_asks_for_what_there_is(recipe: str) -> None:
    assert events_in(recipe) or "level=" in recipe or "payment_request_id=" in recipe
    assert unknown_events(recipe) == set()
    assert unknown_fields(fields_in_logql(recipe)) == set()


@pytest.mark.parametrize(
    "recipe",
    [
        "jq 'select(.event==\"payment.lost\")'",
        "jq 'select(.colour==1)'",
        "jq '{timestamp, colour}'",
        "jq 'select(.event==\"payment.final\").colour'",
    ],
)
def test_a_wrong_name_in_a_jq_recipe_is_seen(recipe: str) -> None:
    assert unknown_events(recipe) | unknown_fields(fields_in_jq(recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        '{app="x"} | json | event="payment.lost"',
        '{app="x"} | json | event=~"payment.final|payment.lost"',
        '{app="x"} | json | colour="red"',
        '{app="x"} | json | event="payment.final" | unwrap colour [5m]',
        'sum by (status, colour) (count_over_time({app="x"} | json | event="payment.final" [5m]))',
        '{app="x"} | json | line_format "{{.colour}}"',
        '{colour="x"} | json',
    ],
)
def test_a_wrong_name_in_a_logql_recipe_is_seen(recipe: str) -> None:
    assert unknown_events(recipe) | unknown_fields(fields_in_logql(recipe))


def test_every_setting_that_the_page_names_exists() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"`(LOG_[A-Z_]+)(?:=\w+)?`", text))
    assert named <= {setting.name for setting in SETTINGS}

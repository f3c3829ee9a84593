"""Data is never run: nothing of ours loads code from it, and arq is nowhere left to its pickle."""

import ast
import asyncio
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money, Payment
from tests.keys import CLIENT_ID
from tests.servers import ROOT, environ, process, put, reconciler, until
from worker import client
from worker.keys import Keys

FILES = sorted([*(ROOT / "jobs").rglob("*.py"), *(ROOT / "worker").rglob("*.py")])

#: What makes code of data, or loads what does.
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dbm", "dill", "cloudpickle"}
MODULES |= {"jsonpickle", "joblib", "yaml", "code", "codeop", "runpy", "imp", "pydoc", "xmlrpc"}
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "breakpoint", "input"}
#: arq's own ways to a pool, and redis-py's EVAL: a script's text is ours, its data are arguments.
POOLS = {"ArqRedis", "Worker", "create_pool", "create_worker", "Job"}


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each import and each call by name in a module, as (line, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").partition(".")[0]
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            yield node.lineno, called(node)


def called(node: ast.Call) -> str:
    given = node.func
    if isinstance(given, ast.Attribute) and ast.unparse(given.value) == "re":
        return "re"  # re.compile makes no code
    name = given.attr if isinstance(given, ast.Attribute) else ast.unparse(given)
    return name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_of_ours_makes_code_of_data(file: Path) -> None:
    for line, name in uses(ast.parse(file.read_text("utf-8"))):
        assert name not in MODULES | CALLS, f"{file}:{line} uses {name}"


def test_these_names_would_be_found() -> None:
    text = "import pickle\nfrom yaml import load\neval('1')\nx.exec()\nre.compile('')\ncompile('')"
    found = {name for _, name in uses(ast.parse(text)) if name in MODULES | CALLS}
    assert found == {"pickle", "yaml", "eval", "exec", "compile"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_pool_and_worker_of_arq_is_given_our_serializers(file: Path) -> None:
    """Left out, both are pickle's."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and called(node) in POOLS:
            text = ast.unparse(node)
            given = {word.arg for word in node.keywords}
            given |= (
                {"job_serializer", "job_deserializer"} if "**worker_settings(" in text else set()
            )
            assert given >= {"job_serializer", "job_deserializer"}, text


async def test_what_a_worker_is_made_of_never_reaches_pickle() -> None:
    from arq.worker import Worker

    from worker import queue
    from worker.main import worker_settings
    from worker.settings import load

    made = worker_settings(load(environ("redis://127.0.0.1:1", "p", "http://127.0.0.1:9")))
    worker = Worker(**made, handle_signals=False)
    for user in (worker, worker.pool):
        assert user.job_serializer is queue.serialize
        assert user.job_deserializer is queue.deserialize


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


async def plant_pickles(redis: Any, keys: Keys, sprung: Path) -> None:
    """Wherever arq or a reader of ours might look."""
    trap = pickle.dumps(Trap(sprung))
    await redis.set(keys.canary, "a worker was here")
    key = f"{CLIENT_ID}:order-1"
    for name in (keys.job(key), "order-1", "follow_payment"):
        for kind in ("job", "result", "in-progress", "retry"):
            await redis.set(f"arq:{kind}:{name}", trap)
    await redis.set(f"{keys.queue}:health-check", trap)
    await redis.zadd(keys.queue, {keys.job(key): 1})
    await redis.rpush(keys.timeline(key), trap)
    await redis.rpush(keys.inbox(key), trap)
    await redis.xadd(keys.commands, {"type": trap, "data": trap})


async def test_a_pickle_planted_in_redis_is_run_by_no_client_of_ours(
    redis_url: str, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    keys, sprung = Keys(prefix), tmp_path / "sprung"
    payment = Payment(
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("USD", 599),
        tracked_at=1_790_000_000_000,
        closing_time=1_790_000_840_000,
    )
    raw = Redis.from_url(redis_url)
    async with raw.pipeline() as pipe:
        put(pipe, keys, payment)
        await pipe.execute()
    await plant_pickles(raw, keys, sprung)
    assert await client.track(raw, "order-2", "USD", 599, prefix=prefix)
    await raw.aclose()
    given = environ(redis_url, prefix, "http://127.0.0.1:9")
    track = ("track", "order-3", "--amount", "USD:5", "--json")
    for words in (("status", "order-1"), ("pending",), track):
        with process(tmp_path, given, *reconciler(*words)) as ran:
            code = await asyncio.to_thread(ran.ended)
            assert (code, ran.said) == (0, "")
    assert not sprung.exists()


async def test_a_pickle_planted_in_redis_is_run_by_no_worker(
    redis_url: str, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    keys, sprung = Keys(prefix), tmp_path / "sprung"
    raw = Redis.from_url(redis_url)
    await plant_pickles(raw, keys, sprung)
    given = environ(redis_url, prefix, "http://127.0.0.1:9")
    with process(tmp_path, given, *reconciler("worker")) as worker:

        async def refused() -> bool:
            return bool(await raw.xlen(keys.dead) == 1)

        await until(refused)
        assert worker.running
    await raw.aclose()
    assert not sprung.exists()


def test_the_trap_springs_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()
    assert "pickle" in sys.modules

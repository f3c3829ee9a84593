"""Signatures made by threads are those that are made here, each given to who asked for it."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.keys import private_key
from worker import signer
from worker.signature import sign
from worker.signer import CHUNK, Signer, cores, sign_here, threads_for

KEY = private_key("merchant_v1")


@pytest.fixture(params=[0, 1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[Signer]:
    made = Signer(request.param)
    yield made
    made.close()


async def test_each_gets_the_signature_of_what_he_asked_for(threads: Signer) -> None:
    asked = [f"question {n}".encode() for n in range(2 * CHUNK + 3)]
    signed = await asyncio.gather(*(threads.sign(KEY, content) for content in asked))
    assert signed == [sign(KEY, content) for content in asked]
    assert await sign_here(KEY, asked[0]) == signed[0]


async def test_what_is_asked_in_one_moment_is_handed_over_together_and_not_signed_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    sign_all = signer._sign_all

    def counted(asked: list[tuple[RSAPrivateKey, bytes]]) -> list[bytes]:
        assert threading.current_thread() is not threading.main_thread()
        sizes.append(len(asked))
        return sign_all(asked)

    monkeypatch.setattr(signer, "_sign_all", counted)
    threads = Signer(1)
    await asyncio.gather(*(threads.sign(KEY, b"x") for _ in range(CHUNK + 1)))
    assert sizes == [CHUNK, 1]
    threads.close()


async def test_who_is_cancelled_costs_the_others_of_his_chunk_nothing(threads: Signer) -> None:
    waiting = [asyncio.ensure_future(threads.sign(KEY, b"x")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert answers[1:] == [sign(KEY, b"x")] * 2


async def test_a_fault_is_told_to_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ValueError("a bug")

    monkeypatch.setattr(signer, "sign", broken)
    threads = Signer(1)
    calls = (threads.sign(KEY, b"x") for _ in range(3))
    faults = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(fault) for fault in faults] == ["a bug"] * 3
    threads.close()


@pytest.mark.parametrize(("has", "threads"), [(1, 0), (2, 1), (3, 2), (64, 2)])
def test_one_core_is_left_to_the_loop(has: int, threads: int) -> None:
    assert threads_for(has) == threads


def test_only_the_cores_that_this_process_may_use_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1

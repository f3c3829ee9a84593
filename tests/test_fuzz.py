"""The short version of `make fuzz`, and the proof that it and the corpus would see a hole."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from redis.asyncio import Redis
from structlog.typing import EventDict

import tests.test_hostile as corpus
from tests.fuzz import oracle, parsers
from tests.fuzz.mutations import mutation, stock
from tests.fuzz.runner import Report, campaign, target
from tests.hostile import CASES
from tests.keys import CLIENT_ID
from worker import http_server, receiver, signature
from worker.receiver import MAX_BODY_BYTES
from worker.signature import Signed, Untrusted
from worker.store import Store

# The campaign


async def fuzzed(redis_url: str, prefix: str, count: int, seed: int = 1) -> Report:
    async with target(redis_url, prefix) as at:
        return await campaign(at, seed, count, connections=16)


@pytest.mark.once
async def test_of_1500_mutations_none_is_believed_that_nobody_signed(
    redis_url: str, redis: Redis, prefix: str
) -> None:
    report = await fuzzed(redis_url, prefix, 1500)
    assert report.violations == []
    assert report.count == 1500
    assert {status for status, _ in report.answers} <= {200, 400, 401, 404, 405, 408, 413, 415}
    assert report.answers[200, "believed"] > 150  # those that are as they were, among them
    assert report.answers[401, "sig_mismatch"] > 150
    assert report.lines >= sum(report.answers.values())


def test_of_4000_bodies_each_is_understood_or_unreadable() -> None:
    fates, violations = parsers.fuzz(1, 4000)
    assert violations == []
    assert all(fates[f"{name}: understood"] > 500 for name in parsers.PARSERS)


def test_an_input_follows_from_its_seed_and_its_number() -> None:
    assert mutation(7, 11) == mutation(7, 11) != mutation(7, 12)
    assert parsers.input_of(7, 11) == parsers.input_of(7, 11)


def test_the_judge_knows_a_genuine_message_and_no_other() -> None:
    for post in stock():
        [request] = oracle.requests_in(post.wire())
        assert oracle.genuine(request)
        assert not oracle.genuine(replace(request, body=request.body + b" "))
        assert not oracle.genuine(replace(request, target="/elsewhere"))


# Planted faults: each is a hole that a receiver like ours could have


Plant = Callable[[pytest.MonkeyPatch], None]


def base64_without_validation(patch: pytest.MonkeyPatch) -> None:
    def unwrap(value: str) -> bytes:
        return base64.b64decode(unquote_to_bytes(value) + b"==")

    patch.setattr(signature, "_unwrap", unwrap)


def unquote_plus_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signature, "unquote_to_bytes", lambda text: unquote_plus(text).encode())


def algorithm_not_compared(patch: pytest.MonkeyPatch) -> None:
    parse = signature.parse_signature
    any_is = re.compile("algorithm=[^,]*")
    patch.setattr(
        signature, "parse_signature", lambda header: parse(any_is.sub("algorithm=RSA256", header))
    )


def checked_by(accepts: Callable[[Signed, str, Mapping[int, Any]], bool]) -> Plant:
    """What our verifier refuses goes through if this one accepts it."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        strict = signature.verify

        def lenient(message: Signed, header: str, *, client_id: str, keys: Any) -> None:
            try:
                strict(message, header, client_id=client_id, keys=keys)
            except Untrusted:
                if not accepts(message, header, keys):
                    raise

        patch.setattr(receiver, "verify", lenient)

    return plant


def _verifies(key: Any, raw: bytes, content: bytes, hash_: hashes.HashAlgorithm) -> bool:
    try:
        key.verify(raw, content, padding.PKCS1v15(), hash_)
    except InvalidSignature:
        return False
    return True


def _any_hash(message: Signed, header: str, keys: Mapping[int, Any]) -> bool:
    version, raw = signature.parse_signature(header)
    tried = (hashes.SHA1(), hashes.MD5(), hashes.SHA512())
    return any(_verifies(keys[version], raw, message.content(), hash_) for hash_ in tried)


def _any_key(message: Signed, header: str, keys: Mapping[int, Any]) -> bool:
    _, raw = signature.parse_signature(header)
    return any(_verifies(k, raw, message.content(), hashes.SHA256()) for k in keys.values())


def _any_split(message: Signed, header: str, keys: Mapping[int, Any]) -> bool:
    version, raw = signature.parse_signature(header)
    return _verifies(keys[version], raw, message.content(), hashes.SHA256())


class AnyClient(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        return corpus.TRUST.keys[CLIENT_ID]


def client_id_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(corpus, "TRUST", replace(corpus.TRUST, keys=AnyClient()))


def path_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiver, "_without_origin", lambda _: "/notify")


def body_limit_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiver, "MAX_BODY_BYTES", MAX_BODY_BYTES * 100)


def repeated_headers_taken(patch: pytest.MonkeyPatch) -> None:
    def one(request: web.Request, name: str) -> str:
        return request.headers[name]

    patch.setattr(receiver, "_one", one)


def banner_back(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    patch.setattr(receiver, "_without_banner", nothing)


def error_page_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(http_server.Connection, "handle_error", web.RequestHandler.handle_error)


def ack_before_write(patch: pytest.MonkeyPatch) -> None:
    async def later(*_: object) -> str:
        return "accepted"

    patch.setattr(receiver, "_keep", later)


def quarantined_each_time(patch: pytest.MonkeyPatch) -> None:
    turns = iter(range(1000))

    async def again(self: Store, client_id: str, reason: str, body: bytes) -> None:
        digest = hashlib.sha256(str(next(turns)).encode()).hexdigest()
        await self.receive(f"{client_id}:", "", digest, parks=False, quarantine=(reason, body))

    patch.setattr(Store, "quarantine", again)


#: The fault, and a case of the corpus that must see it.
PLANTED: dict[str, tuple[Plant, str]] = {
    "base64 without validation": (
        base64_without_validation,
        "signature: other bits at the end of the base64",
    ),
    "unquote_plus": (unquote_plus_used, "genuine: raw base64 with a plus"),
    "algorithm not compared": (algorithm_not_compared, "signature: algorithm none"),
    "hash taken from the signature": (
        checked_by(_any_hash),
        "signature: SHA-1 under the name of RSA256",
    ),
    "key version ignored": (
        checked_by(_any_key),
        "signature: the key of version 2 under version 1",
    ),
    "content split moved": (checked_by(_any_split), "signature: the dot moved into the body"),
    "client id not compared": (client_id_not_compared, "headers: another client's message"),
    "path not compared": (path_not_compared, "framing: path '/'"),
    "body limit off": (body_limit_off, "boundaries: a body of 65,537 bytes, that is signed"),
    "repeated headers taken": (repeated_headers_taken, "headers: another's Client-Id second"),
    "banner back": (banner_back, "genuine: as the gateway sends it"),
    "error page back": (error_page_back, "headers: a NUL in a value"),
    "ack before write": (ack_before_write, "genuine: as the gateway sends it"),
    "quarantined each time": (
        quarantined_each_time,
        "replay: one that nobody can read, again",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
async def test_the_corpus_sees_a_receiver_with_a_hole(
    redis_url: str,
    redis: Redis,
    prefix: str,
    fault: str,
    log_lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant, name = PLANTED[fault]
    case = dict(CASES)[name]
    async with corpus.world_of(redis_url, prefix) as world:
        await corpus.play(world, case, log_lines)
    plant(monkeypatch)
    async with corpus.world_of(redis_url, prefix) as world:
        with pytest.raises(AssertionError):
            await corpus.play(world, case, log_lines)


#: Seen by mutations alone, without a case that was thought of.
FOUND = (
    "base64 without validation",
    "unquote_plus",
    "algorithm not compared",
    "key version ignored",
    "content split moved",
    "path not compared",
    "repeated headers taken",
    "ack before write",
)


@pytest.mark.once
@pytest.mark.parametrize("fault", FOUND)
async def test_mutations_find_a_receiver_with_a_hole(
    redis_url: str, redis: Redis, prefix: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLANTED[fault][0](monkeypatch)
    report = await fuzzed(redis_url, prefix, 400, seed=2)
    assert report.violations


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.05)
    yield

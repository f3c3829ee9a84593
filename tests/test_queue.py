"""Jobs lie in arq's queue as JSON of a known version, and arq itself can read them."""

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_job
from hypothesis import given
from hypothesis import strategies as st

from worker.queue import VERSION, deserialize, serialize

TEXT_OR_NUMBER = st.text() | st.integers() | st.booleans() | st.none()


@given(st.lists(TEXT_OR_NUMBER), st.dictionaries(st.text(), TEXT_OR_NUMBER))
def test_arq_reads_back_what_it_wrote(args: list[Any], kwargs: dict[str, Any]) -> None:
    raw = serialize_job("track_payment", tuple(args), kwargs, 3, 1_790, serializer=serialize)
    job = deserialize_job_raw(raw, deserializer=deserialize)
    assert list(job) == ["track_payment", args, kwargs, 3, 1_790]


def test_a_job_says_its_version() -> None:
    assert json.loads(serialize({"f": "x"})) == {"v": VERSION, "f": "x"}


def test_a_job_without_a_version_is_one_of_ours() -> None:
    """A merchant may enqueue with any JSON serializer."""
    assert deserialize(b'{"f":"track_payment"}') == {"f": "track_payment"}


class Trap:
    """Unpickled, it would set `sprung`."""

    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps(Trap()),
        b'{"v":2,"f":"follow_payment"}',
        b'{"v":"1"}',
        b"[]",
        b'"text"',
        b"null",
        b"",
        b"\xff",
    ],
)
def test_what_is_no_job_of_this_version_is_refused_and_not_run(raw: bytes) -> None:
    with pytest.raises(ValueError):
        deserialize(raw)
    with pytest.raises(DeserializationError):
        deserialize_job_raw(raw, deserializer=deserialize)
    assert not Trap.sprung


def test_what_json_does_not_know_becomes_text() -> None:
    at = datetime(2026, 9, 21, tzinfo=UTC)
    assert deserialize(serialize({"r": at}))["r"] == "2026-09-21 00:00:00+00:00"

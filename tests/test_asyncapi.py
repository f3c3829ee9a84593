"""docs/asyncapi.yaml describes what is really taken and told: the code is held against its schemas.

The file itself follows asyncapi.com/docs/reference/specification/v3.0.0; schemas are JSON Schema
draft 7, as there.
"""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, ValidationError
from jsonschema.validators import extend

from jobs.model import Cause, Event, Ms, OnTimeout, Payment, Rejected, Status, Via
from jobs.news import Ask, Track
from jobs.outcome import outcome, rejection
from tests import vocabulary
from tests.keys import CLIENT_ID
from tests.servers import ROOT
from tests.test_commands import ACCOUNTS, AMOUNT, MALFORMED, NOW, ORDER, TRACK
from tests.test_records import FULL
from worker import arq_jobs, commands
from worker.commands import BadCommand, read_command
from worker.envelope import NoEnvelope, unwrap
from worker.keys import Keys

pytestmark = pytest.mark.once

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
COMPONENTS = DOCUMENT["components"]
SCHEMAS = COMPONENTS["schemas"]
MESSAGES = {message["name"]: message for message in COMPONENTS["messages"].values()}
COMMAND_TYPES = SCHEMAS["CommandFields"]["properties"]["type"]["enum"]
WRITTEN = [type_ for type_ in COMMAND_TYPES if type_ in commands._FIELDS]


def _pattern(_: Any, pattern: str, instance: object, __: Any) -> Iterator[ValidationError]:
    """As ECMA 262 has it: `$` is the end, not before a last line feed, as Python takes it."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


Validator: type[Draft7Validator] = extend(  # type: ignore[no-untyped-call]
    Draft7Validator, {"pattern": _pattern}
)


@cache
def schema(name: str) -> Draft7Validator:
    """One of the file's schemas; what it refers to is found in the file."""
    return Validator({"$ref": f"#/components/schemas/{name}", "components": COMPONENTS})


def payload_of(type_: str) -> Draft7Validator:
    return schema(MESSAGES[type_]["payload"]["$ref"].rpartition("/")[2])


def faults(validator: Draft7Validator, instance: object) -> list[str]:
    return [f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(instance)]


# The file itself


def nodes(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object in a document with its path."""
    if isinstance(value, dict):
        yield path, value
        for name, item in value.items():
            yield from nodes(item, *path, str(name))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from nodes(item, *path, str(at))


REFERENCES = [(path, node["$ref"]) for path, node in nodes(DOCUMENT) if "$ref" in node]

#: What each object of the specification needs and may have, of what is used here.
PARTS: dict[str, tuple[set[str], set[str]]] = {
    "": (
        {"asyncapi", "info", "channels", "operations", "components"},
        {"defaultContentType", "servers"},
    ),
    "info": ({"title", "version"}, {"description", "license"}),
    "servers": ({"host", "protocol"}, {"description"}),
    "channels": ({"address", "messages"}, {"title", "description", "servers"}),
    "operations": ({"action", "channel"}, {"summary", "bindings"}),
    "messages": ({"name", "title", "payload"}, {"headers", "contentType", "examples"}),
}


def objects(part: str) -> list[dict[str, Any]]:
    if part in ("", "info"):
        return [DOCUMENT["info"] if part else DOCUMENT]
    return list((COMPONENTS if part == "messages" else DOCUMENT)[part].values())


@pytest.mark.parametrize("part", PARTS)
def test_each_object_of_the_file_has_what_the_specification_wants(part: str) -> None:
    needed, more = PARTS[part]
    assert objects(part)
    for found in objects(part):
        assert needed <= found.keys() <= needed | more


def test_it_is_of_version_3_and_its_operations_have_a_direction() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {operation["action"] for operation in objects("operations")} == {"send", "receive"}


def target(reference: str) -> Any:
    assert reference.startswith("#/"), "a reference leads out of the file"
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_every_reference_leads_somewhere() -> None:
    assert len(REFERENCES) > 100
    for _, reference in REFERENCES:
        assert target(reference)


def test_whatever_is_described_is_used() -> None:
    described = {f"#/components/{part}/{name}" for part in COMPONENTS for name in COMPONENTS[part]}
    described |= {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    assert described - {reference for _, reference in REFERENCES} == set()


#: JSON Schema passes over a word that it does not know: a misspelt one would allow everything.
KEYWORDS = {
    "$ref", "type", "enum", "const", "pattern", "minimum", "maximum", "maxLength", "minLength",
    "maxItems", "minItems", "items", "uniqueItems", "properties", "required", "dependencies",
    "additionalProperties", "maxProperties", "oneOf", "anyOf", "allOf", "not", "if", "then", "else",
    "description", "default", "format", "examples",
}  # fmt: skip
_NAMED = {"properties", "dependencies"}  #: what stands beneath is named by us


def test_schemas_hold_no_word_that_json_schema_does_not_know() -> None:
    for name, one in SCHEMAS.items():
        Draft7Validator.check_schema(one)
        for path, node in nodes(one, name):
            if path[-1] not in _NAMED:
                assert node.keys() <= KEYWORDS, path


def test_streams_and_jobs_have_the_names_of_the_code() -> None:
    keys, channels = Keys(), DOCUMENT["channels"]
    for name, key in [
        ("commands", keys.commands),
        ("jobs", keys.queue),
        ("deadCommands", keys.dead),
        ("outcomes", keys.outcomes),
    ]:
        assert channels[name]["address"] == key
    for job in arq_jobs.COMMAND_JOBS:
        assert job in channels["jobs"]["description"]


# Words


def enum(name: str) -> set[str]:
    words = SCHEMAS[name]["enum"]
    assert len(words) == len(set(words))
    return set(words)


def known(name: str) -> set[str]:
    """The code's words for one of the file's lists."""
    return {
        "Status": lambda: set(map(str, Status)),
        "Cause": lambda: {"", *map(str, Cause)},
        "Via": lambda: {"", *map(str, Via)},
        "OnTimeout": lambda: set(map(str, OnTimeout)),
        "EventType": lambda: {"command.rejected", *vocabulary.events()},
        "Kind": vocabulary.kinds,
        "UnresolvedReason": vocabulary.reasons,
        "RejectReason": vocabulary.rejections,
        "Advice": vocabulary.advice,
        "Mark": vocabulary.marks,
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["Status", "Cause", "Via", "OnTimeout", "EventType", "Kind", "UnresolvedReason"]
    + ["RejectReason", "Advice", "Mark"],
)
def test_each_list_of_words_is_the_code_s(name: str) -> None:
    assert enum(name) == known(name)


def test_what_would_have_been_done_is_the_code_s() -> None:
    assert set(SCHEMAS["PaymentData"]["properties"]["would"]["enum"]) == vocabulary.would()


def test_every_type_has_its_message_in_its_channel() -> None:
    channels = DOCUMENT["channels"]
    for channel, names in [
        ("jobs", set(COMMAND_TYPES)),
        ("commands", {*COMMAND_TYPES, "commandEvent"}),
        ("outcomes", enum("EventType")),
    ]:
        messages = [target(message["$ref"]) for message in channels[channel]["messages"].values()]
        assert {message["name"] for message in messages} == names
    assert SCHEMAS["CommandEvent"]["properties"]["type"]["enum"] == COMMAND_TYPES
    every_event = [one["$ref"] for one in SCHEMAS["Event"]["oneOf"]]
    told = [target(message["$ref"]) for message in channels["outcomes"]["messages"].values()]
    assert every_event == [message["payload"]["$ref"] for message in told]


# Events


def published(payment: Payment, event: Event | Rejected, now: Ms) -> dict[str, Any]:
    """As it is written into the stream."""
    if isinstance(event, Rejected):
        return rejection(event, now)
    return outcome(payment, event, now)


def all_events() -> Iterator[dict[str, Any]]:
    """Every event that the table of cells leads to."""
    for scene, decision in vocabulary.decisions():
        for event in decision.events:
            yield published(decision.payment, event, scene.now)


EVENTS = {json.dumps(event): event for event in all_events()}
ONE_EACH = {event["type"]: event for event in EVENTS.values()}


def test_every_event_that_can_be_told_is_described() -> None:
    assert len(EVENTS) > 50
    for event in EVENTS.values():
        assert faults(payload_of(event["type"]), event) == []


def test_an_event_is_of_one_type_alone() -> None:
    for event in ONE_EACH.values():
        assert faults(schema("Event"), event) == []


def test_an_event_that_says_all_there_is_to_say_is_described() -> None:
    attentions = {e.kind: e for e in vocabulary.told() if isinstance(e, Event) and e.kind}
    for event in attentions.values():
        said = published(FULL, event, NOW)
        assert faults(payload_of("payment.attention"), said) == []


def test_the_answer_to_a_command_that_cannot_be_read_is_described() -> None:
    for said, _ in MALFORMED:
        with pytest.raises(BadCommand) as caught:
            read("payment.track", said)
        answer = rejection(commands.rejection_of(caught.value, "payment.track", "1-0"), NOW)
        assert faults(payload_of("command.rejected"), answer) == []


@pytest.mark.parametrize("type_", ONE_EACH)
def test_an_event_is_refused_with_a_field_less_or_more(type_: str) -> None:
    event = ONE_EACH[type_]
    for name in event:
        assert faults(payload_of(type_), {n: v for n, v in event.items() if n != name})
    for name in event["data"]:
        data = {n: v for n, v in event["data"].items() if n != name}
        assert faults(payload_of(type_), event | {"data": data})
    assert faults(payload_of(type_), event | {"extra": ""})
    for name in {"extra", "redirectUrl", "cancelWindowEnd"} - event["data"].keys():
        assert faults(payload_of(type_), event | {"data": event["data"] | {name: ""}})


WRONG: list[tuple[str, Any]] = [
    ("schema", 2), ("seq", 0), ("seq", "1"), ("seq", 1.5), ("status", "paid"), ("cause", "timeout"),
    ("via", "poll"), ("advice", "wait"), ("would", "pay"), ("marks", ["late", "late"]),
    ("marks", ["tardy"]), ("paymentRequestId", "order 1"), ("paymentRequestId", "order-1\n"),
    ("paymentAmount", {"currency": "USD", "value": 599}), ("paymentAmount", {"currency": "USD"}),
    ("paymentAmount", {"currency": "USD", "value": "0599"}), ("attempts", -1),
    ("closingTime", "2026-01-02T03:04:05Z"), ("closingTime", "2026-01-02T03:04:05.000+08:00"),
    ("closingTime", ""), ("trackedAt", "2026-13-02T03:04:05.000Z"), ("finalAt", "never"),
    ("sandbox", "true"), ("kind", "odd"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_event_is_refused_with_a_wrong_value(name: str, value: Any) -> None:
    event = ONE_EACH["payment.succeeded"]
    assert faults(payload_of(event["type"]), event | {"data": event["data"] | {name: value}})


# Commands


def read(type_: str, said: object) -> Any:
    data = said if isinstance(said, str) else json.dumps(said)
    return read_command(type_, data, "1-1", NOW, ACCOUNTS)


def taken(type_: str, said: object) -> bool:
    try:
        return bool(read(type_, said))
    except BadCommand:
        return False


@pytest.mark.parametrize("type_", commands._FIELDS)
def test_a_command_has_the_fields_of_the_code(type_: str) -> None:
    described = target(MESSAGES[type_]["payload"]["$ref"])
    assert set(described["properties"]) == set(commands._FIELDS[type_])
    assert described["additionalProperties"] is False


def test_no_command_is_described_that_there_will_never_be() -> None:
    assert set(COMMAND_TYPES) == commands._FIELDS.keys()
    assert {*Ask} < set(COMMAND_TYPES)


#: What a schema cannot say, so that it is refused by the worker alone.
BEYOND_A_SCHEMA = ("2027-02-30", "more than 30 days ahead", "支")


@pytest.mark.parametrize(("said", "message"), [m for m in MALFORMED if isinstance(m[0], dict)])
def test_what_the_worker_refuses_the_schema_refuses_or_cannot_know(
    said: dict[str, Any], message: str
) -> None:
    if not faults(payload_of("payment.track"), said):
        hosts = "callbackUrl" in said  # which ones are allowed is a setting
        assert hosts or any(word in f"{said} {message}" for word in BEYOND_A_SCHEMA)


def of(**changed: str) -> dict[str, Any]:
    return {"paymentAmount": AMOUNT | changed}


#: Just within the limits of each field, and just beyond.
LIMITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"paymentRequestId": "aZ09_.:-" * 8}, {"paymentRequestId": "x" * 65}),
    ({"paymentRequestId": "x"}, {"paymentRequestId": "x\n"}),
    (of(value="9" * 16), of(value="9" * 17)),
    (of(value="1"), of(value="0")),
    (of(currency="JPY"), of(currency="jpy")),
    ({"clientId": CLIENT_ID}, {"clientId": "a-b"}),
    ({"clientId": None}, {"clientId": ""}),
    ({"expiresIn": 1}, {"expiresIn": 0}),
    ({"expiresIn": 2_592_000}, {"expiresIn": 2_592_001}),
    ({"expiresIn": "600"}, {"expiresIn": "0600"}),
    ({"paymentExpiryTime": "2027-01-15T16:00:01+0800"}, {"paymentExpiryTime": "2027-01-15T16:00"}),
    ({"paymentExpireTime": "2027-01-15T16:00:01.123456789Z"}, {"paymentExpireTime": "2027-01-15"}),
    ({"paymentExpiryTime": "1800000001000"}, {"paymentExpiryTime": 1_800_000_001_000}),
    ({"expiresIn": 60}, {"expiresIn": 60, "paymentExpiryTime": "2027-01-15T16:00:01Z"}),
    ({"paymentId": "!" * 64}, {"paymentId": "!" * 65}),
    ({"paymentId": ""}, {"paymentId": None}),
    ({"onTimeout": "report"}, {"onTimeout": "Report"}),
    ({"reference": "支" * 85}, {"reference": "x" * 257}),
    ({"callbackUrl": ""}, {"callbackUrl": "shop"}),
]  # fmt: skip


@pytest.mark.parametrize(("within", "beyond"), LIMITS)
def test_worker_and_schema_have_the_same_limits(
    within: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert taken("payment.track", TRACK | within)
    assert faults(payload_of("payment.track"), TRACK | within) == []
    assert not taken("payment.track", TRACK | beyond)
    assert faults(payload_of("payment.track"), TRACK | beyond)


@pytest.mark.parametrize("type_", Ask)
def test_a_reason_has_the_same_limit_for_both(type_: str) -> None:
    for length, right in [(256, True), (257, False)]:
        said = ORDER | {"reason": "x" * length}
        assert taken(type_, said) is (faults(payload_of(type_), said) == []) is right


#: For each field some values that are taken, some just beyond, and some of another kind.
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, "", " ", [], {}, "\n", "é", "x" * 3000]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "paymentRequestId": st.text("aZ9_.:- /é\n", min_size=0, max_size=65),
    "clientId": st.sampled_from([CLIENT_ID, None, "other", "a b", ""]),
    "paymentAmount": st.fixed_dictionaries(
        {},
        optional={
            "currency": st.sampled_from(["USD", "JPY", "usd", "US", "USDX", "USD\n", 7, None]),
            "value": st.text("0159.-", max_size=17) | st.integers(0, 10),
            "more": st.none(),
        },
    ),
    "paymentExpiryTime": st.sampled_from(
        ["2027-01-15T16:00:01+08:00", "2027-01-15T16:00:01+0800", "2027-01-15T16:00:01.5Z"]
        + ["1800000001000", "2027-01-15T16:00:01", "2027-01-15", "2027-01-15T24:00:00Z"]
        + ["2027-01-15T16:00:01Z\n", "01800000001000", 1_800_000_001_000]
    ),
    "expiresIn": st.integers(-1, 2_592_001) | st.text("0159 -.e", max_size=8),
    "paymentId": st.text("aZ~! é", max_size=65),
    "onTimeout": st.sampled_from(["cancel", "report", "Cancel", "wait"]),
    "reference": st.text("xé支", max_size=260),
    "reason": st.text("xé支", max_size=260),
    "callbackUrl": st.sampled_from(["", "https://shop.example/hook", "x"]),
    "expiresin": st.just(60),
}
VALUES["paymentExpireTime"] = VALUES["paymentExpiryTime"]
SUBMIT = next(each for each in MESSAGES["payment.submit"]["examples"])["payload"]
RIGHT = {"payment.track": TRACK, "payment.submit": SUBMIT}

#: Somewhere in the order of a `payment.submit`.
LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    ["", "5812", "581", "5812\n", "x" * 64, "x" * 65, "x" * 256, "x" * 257, "x\x00", "Tea & 茶"]
    + ["https://shop.example/", "ftp://shop.example/", "USD", "usd", "EntryCode", "ENTRY_CODE"]
    + [{"currency": "USD", "value": "599"}, {"currency": "USD"}, {"settlementCurrency": "EUR"}]
    + [{"inStorePaymentScenario": "EntryCode"}, {"paymentMethodType": "WALLET"}]
)  # fmt: skip
SITES = ["order", "store", "merchant", "env", "storeMcc", "orderAmount", "paymentNotifyUrl"] + [
    "settlementStrategy", "productCode", "paymentFactor", "paymentMethod", "extra"
]  # fmt: skip


@st.composite
def attempts(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A command that is right but for a few fields, which may be right as well."""
    type_ = draw(st.sampled_from(WRITTEN))
    said = copy.deepcopy(RIGHT.get(type_, ORDER))
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3)):
        odd = ODD if name != "callbackUrl" else st.just("")
        said[name] = draw(VALUES[name] | odd)
    if type_ == "payment.submit":
        _, site = draw(st.sampled_from([*nodes(said)]))
        site[draw(st.sampled_from([*site, *SITES]))] = draw(LEAVES | ODD)
    left_out = draw(st.sampled_from([None] * 8 + [*said]))
    return type_, {name: value for name, value in said.items() if name != left_out}


@given(attempts())
def test_what_the_worker_takes_the_schema_takes(attempt: tuple[str, dict[str, Any]]) -> None:
    """So what the schema refuses the worker refuses."""
    type_, said = attempt
    if taken(type_, said):
        assert faults(payload_of(type_), said) == []


def test_the_examples_in_the_file_are_taken() -> None:
    shown = [
        (name, each)
        for name, message in MESSAGES.items()
        for each in message.get("examples", [])
        if name in WRITTEN
    ]
    assert len(shown) >= 2
    for name, each in shown:
        assert each["headers"]["type"] == name
        assert faults(payload_of(name), each["payload"]) == []
        command = read(name, each["payload"])
        assert command.payment_request_id == "order-4711"
    assert isinstance(read("payment.track", shown[0][1]["payload"]), Track)


def test_a_command_as_a_cloudevent_is_opened_and_taken() -> None:
    """The example as it stands; not with another version, or the data of another type."""
    [shown] = [each["payload"] for each in MESSAGES["commandEvent"]["examples"]]
    type_, data = unwrap({"data": json.dumps(shown)})
    assert isinstance(read(type_, data), Track)
    assert faults(schema("CommandEvent"), shown) == []
    for wrong in [{"specversion": "0.3"}, {"data_base64": "e30="}, {"data": []}]:
        assert faults(schema("CommandEvent"), shown | wrong)
        with pytest.raises(NoEnvelope):
            unwrap({"data": json.dumps(shown | wrong)})
    for other in [{"type": "payment.cancel"}, {"data": {}}]:
        assert faults(schema("CommandEvent"), shown | other)
        assert not taken(*unwrap({"data": json.dumps(shown | other)}))

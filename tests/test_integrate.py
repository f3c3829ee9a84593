"""docs/integrate.md names every word that a merchant can meet, and no other."""

import re
from collections.abc import Callable
from functools import cache

import pytest

from jobs.model import Cause, Status, Via
from jobs.news import Submit, Track
from tests import vocabulary
from tests.servers import ROOT
from tests.test_asyncapi import DOCUMENT, SCHEMAS
from worker import arq_jobs, commands

pytestmark = pytest.mark.once

TEXT = (ROOT / "docs" / "integrate.md").read_text()


@cache
def table(head: str) -> dict[str, list[str]]:
    """The rows of the table whose head begins so, by the words in backticks of the first column."""
    lines = iter(TEXT.splitlines())
    next(line for line in lines if f"{line}\n".startswith(f"| {head}"))
    next(lines)
    found: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            return found
        first, *more = (cell.strip() for cell in line.strip("|").split(" | "))
        for word in re.findall("`([^`]+)`", first):
            assert word not in found, f"{word} stands there twice"
            found[word] = more
    return found


def fields_of_data() -> set[str]:
    return set(SCHEMAS["PaymentData"]["properties"])


TABLES: dict[str, Callable[[], set[str]]] = {
    "`type` | `data`": lambda: set(commands._FIELDS),
    "`data.reason` | it means": vocabulary.rejections,
    "`type` | `id` ends in": lambda: {"command.rejected", *vocabulary.events()},
    "`data.kind` of an attention": vocabulary.kinds,
    "`data.reason` of an unresolved": vocabulary.reasons,
    "`data.advice`": vocabulary.advice,
    "`data.marks`": vocabulary.marks,
    "field of `data`": fields_of_data,
}


@pytest.mark.parametrize("head", TABLES)
def test_a_table_has_a_row_for_each_word_and_for_no_other(head: str) -> None:
    assert set(table(head)) == TABLES[head]()


@pytest.mark.parametrize(
    "head",
    ["`type` | `id` ends in", "`data.kind` of an attention", "`data.reason` of an unresolved"]
    + ["`data.reason` | it means", "`data.advice`"],
)
def test_each_word_comes_with_what_to_do(head: str) -> None:
    for word, cells in table(head).items():
        assert cells[-1] and cells[-1] != "-", word


@pytest.mark.parametrize("type_", [type_ for type_ in commands._FIELDS])
def test_each_field_of_a_command_is_in_the_tables(type_: str) -> None:
    row = " ".join(table("`type` | `data`")[type_])
    shapes = {**table("field | shape | default"), **table("field | shape |\n")}
    shaped = {word.split(".")[0] for word in shapes} | {"paymentExpireTime"}
    for name in commands._FIELDS[type_]:
        assert name in shaped, name
        of_track = type_ == "payment.submit" and name in commands._FIELDS["payment.track"]
        assert of_track or name in ("paymentRequestId", "paymentExpireTime") or f"`{name}`" in row


def test_the_words_of_a_field_are_listed_beside_it() -> None:
    rows = table("field of `data`")
    for name, words in [("status", Status), ("cause", Cause), ("via", Via)]:
        assert set(words) <= set(re.findall("`([^`]+)`", " ".join(rows[name])))


def test_streams_jobs_and_links_have_the_names_that_there_are() -> None:
    for channel in DOCUMENT["channels"].values():
        assert channel["address"] is None or channel["address"] in TEXT
    for job in arq_jobs.COMMAND_JOBS:
        assert f"`{job}`" in TEXT
    for heading in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert heading in headings(), heading


def headings() -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", TEXT, re.M)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in found}


def test_each_command_that_is_shown_is_read_as_one() -> None:
    shown = re.findall(
        r"XADD reconciler:v1:commands '\*' type (\S+) (?:\\\n *)?data '([^']*)'", TEXT
    )
    read = [
        commands.read_command(type_, data, "1-0", 1_790_000_000_000, ("5X",))
        for type_, data in shown
    ]
    assert [type(command) for command in read] == [Track, Submit]

"""Amounts are in the smallest unit of a currency that there is."""

import pytest

from jobs.model import Money
from worker.currencies import DECIMALS, fault_of


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 2), ("JPY", 0), ("KRW", 0), ("VND", 0), ("CLP", 0), ("IDR", 2), ("TND", 3)],
)
def test_a_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    assert DECIMALS[currency] == decimals


def test_every_currency_stands_in_one_list_under_three_letters() -> None:
    assert len(DECIMALS) == 155
    assert all(len(code) == 3 and code.isupper() and code.isascii() for code in DECIMALS)


#: The gateway's own list (docs.antom.com/ac/ref/cc), with the decimals that it gives.
GATEWAY = {
    0: "CLP JPY KRW VND",
    2: "AUD BDT BRL CAD CNY EUR GBP HKD IDR MXN MYR NZD PEN PHP PKR PLN SGD THB TWD USD",
}


@pytest.mark.parametrize("decimals", GATEWAY)
def test_what_the_gateway_takes_is_in_it_with_the_same_decimals(decimals: int) -> None:
    assert {DECIMALS[code] for code in GATEWAY[decimals].split()} == {decimals}


@pytest.mark.parametrize("money", [Money("USD", 1), Money("JPY", 599), Money("IDR", 100)])
def test_an_amount_that_can_be_paid_has_no_fault(money: Money) -> None:
    assert fault_of(money) == ""


@pytest.mark.parametrize("currency", ["XXX", "XAU", "ZZZ", "DEM", "UDS"])
def test_what_nobody_pays_with_is_refused(currency: str) -> None:
    assert fault_of(Money(currency, 599)) == f"{currency} is no currency of ISO 4217"


@pytest.mark.parametrize(("value", "words"), [(599, "5.99"), (5, "0.05"), (12_345, "123.45")])
def test_an_amount_that_is_not_round_enough_is_said_in_whole_units(value: int, words: str) -> None:
    assert fault_of(Money("IDR", value)) == (
        f'IDR is paid in multiples of 100 of its smallest unit: "{value}" is IDR {words}'
    )

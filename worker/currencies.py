"""ISO 4217: how many decimals a currency has, hence what its smallest unit is.

Source: the maintenance agency's list one (currencies in circulation; no funds, metals or tests).
"""

from jobs.model import Money

_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_TWO_DECIMALS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR
MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG
SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES
WST XCD XCG YER ZAR ZMW ZWG
"""

#: The decimals of each currency.
DECIMALS = {
    code: decimals
    for decimals, codes in ((0, _NO_DECIMALS), (2, _TWO_DECIMALS), (3, _THREE_DECIMALS))
    for code in codes.split()
}

#: What the gateway takes only in round amounts, in the smallest unit (docs.antom.com/ac/ref/cc).
_MULTIPLES = {"IDR": 100}


def fault_of(money: Money) -> str:
    """Why no payment can be of this amount, in words for who wrote it; empty if one can."""
    if money.currency not in DECIMALS:
        return f"{money.currency} is no currency of ISO 4217"
    multiple = _MULTIPLES.get(money.currency, 1)
    if money.value % multiple:
        return (
            f"{money.currency} is paid in multiples of {multiple} of its smallest unit:"
            f" {_in_words(money)}"
        )
    return ""


def _in_words(money: Money) -> str:
    """`"599" is USD 5.99`"""
    decimals = DECIMALS[money.currency]
    digits = str(money.value).rjust(decimals + 1, "0")
    point = len(digits) - decimals
    major = digits[:point] + (f".{digits[point:]}" if decimals else "")
    return f'"{money.value}" is {money.currency} {major}'

"""A message is taken if and only if the gateway's key signed it, for us, as it stands."""

import base64
import dataclasses
import re
import traceback
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.keys import CLIENT_ID, key_text, private_key, public_key, signed, vector, vectors
from worker.signature import (
    MAX_HEADER_CHARS,
    BadKey,
    Reason,
    Signed,
    Untrusted,
    load_private_key,
    load_public_key,
    parse_signature,
    private_text,
    public_text,
    signature_header,
    verify,
)

GENUINE = signed(vector("N01"))
HEADER = vector("N01")["signature_header"]
VALUE = HEADER.removeprefix("algorithm=RSA256,keyVersion=1,signature=")
ALIPAY = {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}


def accept(message: Signed, header: str) -> None:
    verify(message, header, client_id=CLIENT_ID, keys=ALIPAY)


def refusal(message: Signed, header: str) -> Reason:
    with pytest.raises(Untrusted) as untrusted:
        accept(message, header)
    assert str(untrusted.value) == untrusted.value.reason
    return untrusted.value.reason


def header_of(raw: bytes, version: int = 1) -> str:
    value = quote(base64.b64encode(raw), safe="")
    return f"algorithm=RSA256,keyVersion={version},signature={value}"


def alipay_signed(message: Signed) -> str:
    return signature_header(message, private_key("alipay_v1"), 1)


def changed(**changes: object) -> Signed:
    return dataclasses.replace(GENUINE, **changes)  # type: ignore[arg-type]


# The vectors


@pytest.mark.parametrize("message", vectors("valid"), ids=lambda message: message["id"])
def test_signs_byte_for_byte_like_the_official_sdk(message: dict[str, Any]) -> None:
    header = signature_header(
        signed(message), private_key(message["key"]), int(message["key_version"])
    )
    assert header == message["signature_header"]


@pytest.mark.parametrize(
    "message", vectors("valid") + vectors("quirks"), ids=lambda message: message["id"]
)
def test_accepts_every_genuine_vector(message: dict[str, Any]) -> None:
    keys = {int(message["key_version"]): public_key(message["key"])}
    verify(signed(message), message["signature_header"], client_id=CLIENT_ID, keys=keys)


REFUSALS = {
    "I01": Reason.SIG_MISMATCH,  # amount changed
    "I02": Reason.SIG_MISMATCH,  # F changed to S
    "I03": Reason.SIG_MISMATCH,  # another path
    "I06": Reason.CLIENT_ID,  # another client id
    "I07": Reason.SIG_MISMATCH,  # another time
    "I09": Reason.SIG_MISMATCH,  # another signature
    "I10": Reason.SIG_SYNTAX,  # signature cut short
    "I11": Reason.SIG_MISMATCH,  # signed by an attacker
    "I12": Reason.SIG_MISMATCH,  # signed with the other key version's key
    "I14": Reason.SIG_MISMATCH,  # whitespace changed
    "I18": Reason.SIG_SYNTAX,  # empty signature
    "I19": Reason.SIG_SYNTAX,  # no signature
    "I24": Reason.SIG_MISMATCH,  # SHA-1, which the official SDK accepts
}


@pytest.mark.parametrize("message", vectors("invalid"), ids=lambda message: message["id"])
def test_refuses_every_tampered_vector_for_its_reason(message: dict[str, Any]) -> None:
    keys = {int(message["key_version"]): public_key(message["verify_key"])}
    with pytest.raises(Untrusted) as untrusted:
        verify(signed(message), message["signature_header"], client_id=CLIENT_ID, keys=keys)
    assert untrusted.value.reason is REFUSALS[message["id"]]


# The header


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        re.sub("%..", lambda escape: escape[0].lower(), HEADER),
        unquote(HEADER),
        HEADER.replace(",", ", "),
        HEADER.replace("keyVersion", "  keyVersion"),
    ],
    ids=["%2F", "%2f", "plain base64", "one blank after the commas", "two blanks"],
)
def test_accepts_each_way_the_gateway_writes_the_header(header: str) -> None:
    accept(GENUINE, header)


def test_a_plus_is_a_plus_and_never_a_blank() -> None:
    plain = vector("Q01")["signature_header"]
    assert "+" in plain
    with pytest.raises(Untrusted):
        parse_signature(plain.replace("+", " "))


@pytest.mark.parametrize("version", [0, 1, 42, 999_999_999])
def test_reads_the_key_version_and_the_raw_signature(version: int) -> None:
    assert parse_signature(header_of(b"\x00raw\xff", version)) == (version, b"\x00raw\xff")


SYNTAX = {
    "empty": "",
    "no parts": "signature",
    "value alone": VALUE,
    "no key version": f"algorithm=RSA256,signature={VALUE}",
    "no algorithm": f"keyVersion=1,signature={VALUE}",
    "empty key version": f"algorithm=RSA256,keyVersion=,signature={VALUE}",
    "negative key version": f"algorithm=RSA256,keyVersion=-1,signature={VALUE}",
    "signed key version": f"algorithm=RSA256,keyVersion=+1,signature={VALUE}",
    "key version 01": f"algorithm=RSA256,keyVersion=01,signature={VALUE}",
    "key version of ten digits": f"algorithm=RSA256,keyVersion=1000000000,signature={VALUE}",
    "key version in Arabic digits": f"algorithm=RSA256,keyVersion=\u0661,signature={VALUE}",
    "key version in words": f"algorithm=RSA256,keyVersion=one,signature={VALUE}",
    "another order": f"keyVersion=1,algorithm=RSA256,signature={VALUE}",
    "name in capitals": f"Algorithm=RSA256,keyVersion=1,signature={VALUE}",
    "a part more": f"{HEADER},foo=bar",
    "a comma more": f"{HEADER},",
    "two signatures": f"{HEADER},signature={VALUE}",
    "blank before a comma": f"algorithm=RSA256,keyVersion=1 ,signature={VALUE}",
    "blank at the end": f"{HEADER} ",
    "line feed at the end": f"{HEADER}\n",
    "quoted value": f'algorithm=RSA256,keyVersion=1,signature="{VALUE}"',
    "empty value": "algorithm=RSA256,keyVersion=1,signature=",
    "bad escape": f"algorithm=RSA256,keyVersion=1,signature=%zz{VALUE}",
    "cut escape": f"algorithm=RSA256,keyVersion=1,signature={VALUE}%3",
    "escape of no base64": f"algorithm=RSA256,keyVersion=1,signature=%00{VALUE}",
    "encoded twice": f"algorithm=RSA256,keyVersion=1,signature={quote(VALUE)}",
    "url-safe base64": f"algorithm=RSA256,keyVersion=1,signature={VALUE.replace('%2F', '_')}",
    "junk inside base64": f"algorithm=RSA256,keyVersion=1,signature={VALUE[:8]}!*{VALUE[8:]}",
    "line feed inside base64": f"algorithm=RSA256,keyVersion=1,signature={VALUE[:8]}%0A{VALUE[8:]}",
    "no padding": HEADER.removesuffix("%3D%3D"),
    "half the padding": HEADER.removesuffix("%3D"),
    "padding too much": f"{HEADER}%3D",
    "padding alone": "algorithm=RSA256,keyVersion=1,signature=====",
    "stray bits in the last digit": "algorithm=RSA256,keyVersion=1,signature=QR==",
    "too long": header_of(bytes(MAX_HEADER_CHARS)),
}


@pytest.mark.parametrize("header", SYNTAX.values(), ids=SYNTAX)
def test_refuses_a_header_that_is_not_exactly_the_grammar(header: str) -> None:
    with pytest.raises(Untrusted) as untrusted:
        parse_signature(header)
    assert untrusted.value.reason is Reason.SIG_SYNTAX


@pytest.mark.parametrize("algorithm", ["", "none", "NONE", "rsa256", "RSA", "HMAC256", "RSA512"])
def test_takes_no_algorithm_but_rsa256(algorithm: str) -> None:
    assert refusal(GENUINE, HEADER.replace("RSA256", algorithm)) is Reason.SIG_ALGORITHM


@pytest.mark.parametrize("longer", [0, 1])
def test_a_header_has_its_greatest_length(longer: int) -> None:
    blanks = " " * (MAX_HEADER_CHARS - len(HEADER) + longer)
    header = HEADER.replace(",", f",{blanks}", 1)
    if longer:
        assert refusal(GENUINE, header) is Reason.SIG_SYNTAX
    else:
        accept(GENUINE, header)


def test_has_room_for_the_longest_key_percent_encoded() -> None:
    raw = bytes(range(256)) * 4
    assert parse_signature(header_of(raw, 999_999_999)) == (999_999_999, raw)


# The message


def test_refuses_a_signature_made_for_another_client_though_the_key_is_the_same() -> None:
    foreign = changed(client_id="SANDBOX_5X00000000000001")
    assert refusal(foreign, alipay_signed(foreign)) is Reason.CLIENT_ID


@pytest.mark.parametrize("version", [0, 3, 999])
def test_refuses_a_key_version_it_does_not_know(version: int) -> None:
    header = signature_header(GENUINE, private_key("alipay_v1"), version)
    assert refusal(GENUINE, header) is Reason.KEY_VERSION


def test_refuses_one_keys_signature_under_the_other_keys_version() -> None:
    header = signature_header(GENUINE, private_key("alipay_v2"), 1)
    assert refusal(GENUINE, header) is Reason.SIG_MISMATCH


def test_a_dot_cannot_move_between_client_id_and_time() -> None:
    moved = changed(client_id=f"{CLIENT_ID}.2019-07-12T12:08:56+05:30", time="0.0000000000")
    shifted = changed(time=f"2019-07-12T12:08:56+05:30.{moved.time}")
    assert moved.content() == shifted.content()
    assert refusal(moved, alipay_signed(shifted)) is Reason.CLIENT_ID


def test_a_dot_cannot_move_between_time_and_body() -> None:
    moved = changed(time=GENUINE.time[:19], body=b"253+05:30." + GENUINE.body)
    whole = changed(time=f"{GENUINE.time[:19]}.253+05:30")
    assert moved.content() == whole.content()
    accept(whole, alipay_signed(whole))
    assert refusal(moved, alipay_signed(whole)) is Reason.NOT_OBJECT


def test_a_line_feed_cannot_move_between_path_and_client_id() -> None:
    path = f"/merchant/notify\n{CLIENT_ID}.1685599933880.{{}}"
    assert refusal(changed(path=path), HEADER) is Reason.PATH


@pytest.mark.parametrize("path", ["/notify\r", "/notify\0", "/notify\x1b[31m", "/notify\udc80"])
def test_a_path_is_one_line_of_text(path: str) -> None:
    assert refusal(changed(path=path), HEADER) is Reason.PATH


def test_a_path_outside_ascii_is_signed_as_utf_8() -> None:
    message = changed(path="/通知")
    accept(message, alipay_signed(message))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"{}"', b" {}", b"\xef\xbb\xbf{}"])
def test_a_body_begins_with_a_brace(body: bytes) -> None:
    message = changed(body=body)
    assert refusal(message, alipay_signed(message)) is Reason.NOT_OBJECT


@pytest.mark.parametrize(
    "time",
    ["", "123456789", "1" * 41, "2019-07-12 12:08:56", '2019-07-12T12:08:56"', "2019-07-12t12:08"],
)
def test_a_time_is_10_to_40_characters_of_a_time(time: str) -> None:
    message = changed(time=time)
    assert refusal(message, alipay_signed(message)) is Reason.TIME_CHARSET


@pytest.mark.parametrize("time", ["1" * 10, "1" * 40, "2019-07-12T12:08:56.2531234Z", "T-:+.Z0000"])
def test_a_time_is_not_read_in_order_to_verify(time: str) -> None:
    message = changed(time=time)
    accept(message, alipay_signed(message))


@pytest.mark.parametrize(
    "message, header",
    [
        (changed(client_id="\u0661\u0662\u0663"), HEADER),
        (changed(client_id=f"{CLIENT_ID}\udc80"), HEADER),
        (changed(time="\u0661\u0662\u0663\u0664-07-12T12:08:56Z"), HEADER),
        (changed(time="2019-07-12T12:08:56Z\n"), HEADER),
        (GENUINE, f"{HEADER}\0"),
        (GENUINE, f"{HEADER}é"),
        (GENUINE, f"{HEADER}\t"),
    ],
)
def test_headers_are_plain_ascii(message: Signed, header: str) -> None:
    assert refusal(message, header) is Reason.HEADER_CHARSET


@pytest.mark.parametrize("delta", [-1, 1])
def test_a_signature_is_exactly_as_long_as_the_key(delta: int) -> None:
    _, raw = parse_signature(HEADER)
    longer_or_shorter = raw[1:] if delta < 0 else b"\0" + raw
    assert refusal(GENUINE, header_of(longer_or_shorter)) is Reason.SIG_SYNTAX


def test_a_key_need_not_have_whole_bytes() -> None:
    key = rsa.generate_private_key(65537, 2049)
    keys = {1: key.public_key()}
    verify(GENUINE, signature_header(GENUINE, key, 1), client_id=CLIENT_ID, keys=keys)


def _number(number: int) -> str:
    return header_of(number.to_bytes(256, "big"))


MODULUS = ALIPAY[1].public_numbers().n


@pytest.mark.parametrize(
    "header",
    [_number(0), _number(1), _number(MODULUS - 1), _number(MODULUS), _number(2**2048 - 1)],
    ids=["0", "1", "modulus - 1", "modulus", "all ones"],
)
def test_no_number_is_a_signature_by_itself(header: str) -> None:
    assert refusal(GENUINE, header) is Reason.SIG_MISMATCH


@pytest.mark.parametrize(
    "hash_, pad",
    [
        (hashes.MD5(), padding.PKCS1v15()),
        (hashes.SHA1(), padding.PKCS1v15()),
        (hashes.SHA512(), padding.PKCS1v15()),
        (hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
    ],
    ids=["MD5", "SHA-1", "SHA-512", "PSS"],
)
def test_the_genuine_key_does_not_help_another_hash_or_padding(
    hash_: hashes.HashAlgorithm, pad: AsymmetricPadding
) -> None:
    raw = private_key("alipay_v1").sign(GENUINE.content(), pad, hash_)
    assert refusal(GENUINE, header_of(raw)) is Reason.SIG_MISMATCH


def test_the_reasons_are_a_closed_list() -> None:
    """They are the words of log lines and counters: whoever watches those relies on them."""
    assert " ".join(Reason) == (
        "method path media_type encoding encrypted too_large body_timeout body_cut"
        " header_missing header_repeated header_charset time_charset not_object"
        " sig_syntax sig_algorithm client_id key_version sig_mismatch"
    )


# For all messages

bodies = st.binary(max_size=200).map(lambda rest: b"{" + rest)
any_text = st.text(st.characters(exclude_categories=()), max_size=60)
near_headers = st.from_regex(
    r"(algorithm=)?(RSA256|none)?, ?keyVersion=[0-9]{0,3},signature=[A-Za-z0-9+/=%]{0,400}"
)


@settings(deadline=None)
@given(body=bodies, version=st.sampled_from([1, 2]))
def test_what_is_signed_is_accepted_whatever_the_body(body: bytes, version: int) -> None:
    message = changed(body=body)
    header = signature_header(message, private_key(f"alipay_v{version}"), version)
    accept(message, header)


def _flip(data: bytes, bit: int) -> bytes:
    bit %= len(data) * 8
    return bytes(byte ^ (1 << bit % 8) * (at == bit // 8) for at, byte in enumerate(data))


@settings(deadline=None)
@given(
    field=st.sampled_from(["path", "client_id", "time", "body", "signature"]), bit=st.integers(0)
)
def test_one_bit_changed_anywhere_is_refused(field: str, bit: int) -> None:
    if field == "signature":
        _, raw = parse_signature(HEADER)
        assert refusal(GENUINE, header_of(_flip(raw, bit))) is Reason.SIG_MISMATCH
    elif field == "body":
        refusal(changed(body=_flip(GENUINE.body, bit)), HEADER)
    else:
        text = _flip(getattr(GENUINE, field).encode(), bit).decode("latin-1")
        refusal(changed(**{field: text}), HEADER)


@settings(deadline=None)
@given(
    message=st.builds(
        Signed,
        path=any_text,
        client_id=st.just(CLIENT_ID) | any_text,
        time=st.just("1685599933880") | any_text,
        body=bodies | st.binary(max_size=20),
    ),
    header=st.just(HEADER) | near_headers | any_text,
)
def test_whatever_arrives_is_refused_and_never_crashes(message: Signed, header: str) -> None:
    refusal(message, header)


@settings(deadline=None)
@given(header=near_headers | any_text)
def test_whatever_the_header_it_is_read_or_refused(header: str) -> None:
    try:
        version, raw = parse_signature(header)
    except Untrusted:
        return
    assert parse_signature(header_of(raw, version)) == (version, raw)


# Keys


def _pem(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat, password: str = "") -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def _public_pem(key: rsa.RSAPublicKey, form: serialization.PublicFormat) -> str:
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


PRIVATE = private_key("merchant_v1")
PUBLIC = public_key("merchant_v1")
PKCS8 = key_text("merchant_v1", "private_pkcs8_b64")
X509 = key_text("merchant_v1", "public_x509_b64")
PKCS1_PUBLIC = base64.b64encode(
    PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
).decode()


@pytest.mark.parametrize(
    "text",
    [
        PKCS8,
        key_text("merchant_v1", "private_pkcs1_b64"),
        f"\n {PKCS8[:64]}\n{PKCS8[64:]}\r\n",
        _pem(PRIVATE, serialization.PrivateFormat.PKCS8),
        _pem(PRIVATE, serialization.PrivateFormat.TraditionalOpenSSL),
        _pem(PRIVATE, serialization.PrivateFormat.PKCS8).replace("\n", "\\n"),
        "\n " + _pem(PRIVATE, serialization.PrivateFormat.PKCS8),
    ],
    ids=[
        *("PKCS#8", "PKCS#1", "wrapped", "PEM PKCS#8", "PEM PKCS#1", "PEM on one line"),
        "PEM after blanks",
    ],
)
def test_a_private_key_is_read_in_every_form_it_is_handed_out(text: str) -> None:
    assert load_private_key(text).private_numbers() == PRIVATE.private_numbers()


@pytest.mark.parametrize(
    "text",
    [
        X509,
        PKCS1_PUBLIC,
        f"\n {X509[:64]}\n{X509[64:]}\r\n",
        _public_pem(PUBLIC, serialization.PublicFormat.SubjectPublicKeyInfo),
        _public_pem(PUBLIC, serialization.PublicFormat.PKCS1),
        _public_pem(PUBLIC, serialization.PublicFormat.PKCS1).replace("\n", "\\n"),
    ],
    ids=["X.509", "PKCS#1", "wrapped", "PEM X.509", "PEM PKCS#1", "PEM on one line"],
)
def test_a_public_key_is_read_in_every_form_it_is_handed_out(text: str) -> None:
    assert load_public_key(text).public_numbers() == PUBLIC.public_numbers()


def test_keys_are_written_as_the_dashboard_takes_them() -> None:
    assert private_text(PRIVATE) == PKCS8
    assert public_text(PUBLIC) == X509


def _ec_private() -> str:
    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(der).decode()


def _ec_public() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return _public_pem(key, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[arg-type]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    length = digits if size < 128 else bytes([0x80 | len(digits)]) + digits
    return bytes([tag]) + length + content


def _public_numbers(modulus: int, exponent: int) -> str:
    """A PKCS#1 public key that no library would make."""
    numbers = b"".join(
        _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))
        for number in (modulus, exponent)
    )
    return base64.b64encode(_der(0x30, numbers)).decode()


MODULUS_OF_2048 = PUBLIC.public_numbers().n
ARMOUR = "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----"

NO_PRIVATE = "not a private key: expected RSA, PKCS#8 or PKCS#1, base64 or PEM"
NO_PRIVATE_BASE64 = "the private key is neither base64 nor PEM: copy it again, whole"

BAD_PRIVATE = {
    "empty": ("", NO_PRIVATE),
    "no base64": ("key!", NO_PRIVATE_BASE64),
    "cut": (PKCS8[:-1], NO_PRIVATE_BASE64),
    "not ASCII": ("\ud800é", NO_PRIVATE_BASE64),
    "junk inside": (f"{PKCS8[:8]}!*{PKCS8[8:]}", NO_PRIVATE_BASE64),
    "base64 of something": ("AAAA", NO_PRIVATE),
    "armour of something": (ARMOUR.format("AAAA"), NO_PRIVATE),
    "armour of half a character": ("-----BEGIN \ud800", NO_PRIVATE),
    "public": (X509, NO_PRIVATE),
    "encrypted": (
        _pem(PRIVATE, serialization.PrivateFormat.PKCS8, "secret"),
        "the private key is encrypted: store it without a passphrase",
    ),
    "elliptic curve": (
        _ec_private(),
        "the private key is not an RSA key: make an RSA key of 2048 bits",
    ),
    "1024 bits": (
        private_text(rsa.generate_private_key(65537, 1024)),
        "the private key has 1024 bits: use one of 2048 to 8192 bits",
    ),
}


@pytest.mark.parametrize("text, why", BAD_PRIVATE.values(), ids=BAD_PRIVATE)
def test_a_private_key_that_cannot_be_used_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadKey) as bad:
        load_private_key(text)
    assert str(bad.value) == why


NO_PUBLIC = "not a public key: copy the gateway's from its dashboard, whole"
NO_PUBLIC_BASE64 = "the public key is neither base64 nor PEM: copy it again, whole"

BAD_PUBLIC = {
    "empty": ("", NO_PUBLIC),
    "no base64": ("key!", NO_PUBLIC_BASE64),
    "junk inside": (f"{X509[:8]}!*{X509[8:]}", NO_PUBLIC_BASE64),
    "base64 of something": ("AAAA", NO_PUBLIC),
    "private": (PKCS8, NO_PUBLIC),
    "private PEM": (_pem(PRIVATE, serialization.PrivateFormat.PKCS8), NO_PUBLIC),
    "elliptic curve": (
        _ec_public(),
        "the public key is not an RSA key: copy the gateway's from its dashboard",
    ),
    "2047 bits": (
        _public_numbers(2**2046 + 1, 65537),
        "the public key has 2047 bits: use one of 2048 to 8192 bits",
    ),
    "8193 bits": (
        _public_numbers(2**8192 + 1, 65537),
        "the public key has 8193 bits: use one of 2048 to 8192 bits",
    ),
    "exponent 1": (_public_numbers(MODULUS_OF_2048, 1), NO_PUBLIC),
    "exponent 2": (_public_numbers(MODULUS_OF_2048, 2), NO_PUBLIC),
    "exponent 3": (
        _public_numbers(MODULUS_OF_2048, 3),
        "the public key has the exponent 3: use a key with 65537, as the gateway's are",
    ),
    "exponent 65536": (_public_numbers(MODULUS_OF_2048, 65536), NO_PUBLIC),
}


@pytest.mark.parametrize("text, why", BAD_PUBLIC.values(), ids=BAD_PUBLIC)
def test_a_public_key_that_cannot_be_used_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadKey) as bad:
        load_public_key(text)
    assert str(bad.value) == why


@pytest.mark.parametrize("bits", [2048, 8192])
def test_keys_at_the_limits_are_taken(bits: int) -> None:
    assert load_public_key(_public_numbers(2 ** (bits - 1) + 1, 65537)).key_size == bits


@pytest.mark.parametrize("name", ["cut", "public", "encrypted", "elliptic curve", "1024 bits"])
def test_a_refused_key_is_not_repeated_in_the_message(name: str) -> None:
    text, _ = BAD_PRIVATE[name]
    with pytest.raises(BadKey) as bad:
        load_private_key(text)
    shown = "".join(traceback.format_exception_only(bad.value))
    assert not any(text[at : at + 12] in shown for at in range(0, len(text) - 12))
    assert bad.value.__context__ is None or bad.value.__suppress_context__


@settings(deadline=None)
@given(text=any_text | st.binary(max_size=60).map(lambda der: base64.b64encode(der).decode()))
def test_whatever_the_text_it_is_a_key_or_a_bad_key(text: str) -> None:
    for load in (load_private_key, load_public_key):
        with pytest.raises(BadKey):
            load(text)

"""The examples of the document this project implements: "Accept payments", Entry Code Payment.

The header strings are the document's own, character by character. Its JSON bodies are cut (braces,
commas and most of the failed one are missing, comments stand inside); they are restored here to
valid JSON, and what was restored is marked RESTORED.
"""

import base64
import json

import pytest

from jobs.model import Money
from jobs.news import Notification, NotifyKind
from tests.keys import private_key, public_key
from worker.messages import ACK, parse_notification
from worker.requests import PayRequest, pay_body
from worker.signature import (
    Reason,
    Signed,
    Untrusted,
    parse_signature,
    signature_header,
    verify,
)
from worker.strict_json import Unreadable, parse_object
from worker.times import parse_time

# The header of a notification, as printed.
CLIENT_ID = "T_111222333"
REQUEST_TIME = "2019-07-12T12:08:56.253+05:30"
SIGNATURE = (
    "algorithm=RSA256,keyVersion=1,signature=jTOHqknjk%2fnDjEn8lfg%2beNODdoh2eHGJV%2blvrKaDwP782W"
    "xJ7ro49giqUu23MUM8sFVVNvhg32qHS3sd4O6uf5kAVLqztqNOPJFZcjw141EVi1vrs%2bIB4vU0%2fK%2f8z2GyWUBy"
    "h2lHOWFsp%2b5QKCclXp%2bjacYqWYUur5IVbuebR1LoD5IiJ7u7J9qYriFxodkxmIAJYJyJs7mks2FWHh2YePLj3K%2"
    "f4B65idy7RBKqY1NN1XcvqnbQmlfCH8CIv75bg%2fr9sGmPE5a%2bYgL8N9Q41buGwMSq1IcNsbceMbyPhw5Z5HnJ7tP"
    "z12fvdSi0cEicPikDthQ2EQFmtpntXcAc%2fHA%3d%3d"
)
# The header of the acknowledgement, as printed: the same client id and signature, and
RESPONSE_TIME = "2019-07-12T12:08:56+05:30"

# RESTORED: the opening brace, the comma after paymentAmount's brace, both closing braces.
SUCCESS_AS_PRINTED = """
    "notifyType": "PAYMENT_RESULT",
    "result": {
        "resultCode": "SUCCESS",
        "resultStatus": "S",
        "resultMessage": "success"
    "paymentRequestId": "pay_test_1106_0002", //The unique ID that is assigned by a merchant
    "paymentId": "20200101234567890132",
"""
SUCCESS = b"""{
    "notifyType": "PAYMENT_RESULT",
    "result": {
        "resultCode": "SUCCESS",
        "resultStatus": "S",
        "resultMessage": "success"
    },
    "paymentRequestId": "pay_test_1106_0002",
    "paymentId": "20200101234567890132",
    "paymentAmount": {
        "value": "8000",
        "currency": "EUR"
    },
    "paymentCreateTime": "2020-01-01T12:01:00+08:30",
    "paymentTime": "2020-01-01T12:01:01+08:30"
}"""

# RESTORED: all but `result` and its `resultMessage`, which are all that the document shows.
FAILURE = b"""{
 "notifyType": "PAYMENT_RESULT",
 "result": {
    "resultCode":"USER_BALANCE_NOT_ENOUGH",
    "resultStatus":"F",
    "resultMessage":"user balance not enough"
 },
 "paymentRequestId": "pay_test_1106_0002",
 "paymentId": "20200101234567890132",
 "paymentAmount": {
    "value": "8000",
    "currency": "EUR"
 },
 "paymentCreateTime": "2020-01-01T12:01:00+08:30"
}"""

# RESTORED: the braces; paymentNotifyUrl and referenceMerchantId, which are printed empty;
# referenceOrderId, which is missing though required; storeMCC, which is printed storeMcc.
PAY = {
    "productCode": "IN_STORE_PAYMENT",
    "paymentNotifyUrl": "https://merchant.example/merchant/notify",
    "paymentRequestId": "102775745075669",
    "paymentFactor": {"inStorePaymentScenario": "EntryCode"},
    "order": {
        "referenceOrderId": "ORDER_102775745075669",
        "orderDescription": (
            "Mi Band 3 Wrist Strap Metal Screwless Stainless Steel For Xiaomi Mi Band 3 "
        ),
        "orderAmount": {"currency": "USD", "value": "10"},
        "merchant": {
            "referenceMerchantId": "M0000000001",
            "merchantName": "cup Hu",
            "merchantMCC": "1234",
            "store": {
                "referenceStoreId": "S0000000001",
                "storeName": "UGG-2",
                "storeMCC": "1405",
            },
        },
        "env": {
            "userAgent": (
                "Mozilla/5.0 (Linux; Android 9; LYA-AL00 Build/HUAWEILYA-AL00L; wv)  "
                "AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0  Chrome/70.0.3538.110  "
                "Mobile Safari/537.36 NebulaSDK/1.8.100112 Nebula  "
                "AlipayDefined(nt:WIFI,ws:360|0|3.0) AliApp(APHK/  AlipayClientHK/ "
                "Language/zh-HK useStatusBar/true isConcaveScreen/true AlipayClient/ Alipay "
                "Language/zh-Hans"
            )
        },
    },
    "paymentAmount": {"currency": "USD", "value": "10"},
    "paymentMethod": {"paymentMethodType": "CONNECT_WALLET"},
}


def notification(body: bytes) -> Signed:
    return Signed("/merchant/notify", CLIENT_ID, REQUEST_TIME, body)


def test_the_signature_header_is_read_with_its_lower_case_escapes() -> None:
    version, raw = parse_signature(SIGNATURE)
    assert version == 1
    assert len(raw) == 256  # an RSA-2048 signature
    assert base64.b64encode(raw).startswith(b"jTOHqknjk/nDjEn8lfg+eNODdoh2eHGJV+lvrKaDwP782WxJ7ro")
    assert base64.b64encode(raw).endswith(b"XcAc/HA==")


@pytest.mark.parametrize(
    "text, ms", [(REQUEST_TIME, 1_562_913_536_253), (RESPONSE_TIME, 1_562_913_536_000)]
)
def test_the_times_of_the_headers_are_read(text: str, ms: int) -> None:
    assert parse_time(text) == ms


def test_the_content_to_be_verified_is_path_client_id_time_and_body() -> None:
    assert notification(SUCCESS).content() == (
        b"POST /merchant/notify\nT_111222333.2019-07-12T12:08:56.253+05:30." + SUCCESS
    )


@pytest.mark.parametrize("body", [SUCCESS, FAILURE], ids=["success", "failure"])
def test_the_notifications_are_verified_as_the_document_describes(body: bytes) -> None:
    """The document's key is not published: its signature is refused as another key's, no sooner."""
    keys = {1: public_key("alipay_v1")}
    genuine = signature_header(notification(body), private_key("alipay_v1"), 1)
    verify(notification(body), genuine, client_id=CLIENT_ID, keys=keys)
    with pytest.raises(Untrusted) as untrusted:
        verify(notification(body), SIGNATURE, client_id=CLIENT_ID, keys=keys)
    assert untrusted.value.reason is Reason.SIG_MISMATCH


def test_the_notification_of_a_successful_payment_is_read() -> None:
    assert parse_notification(SUCCESS, 1, 2, CLIENT_ID) == Notification(
        kind=NotifyKind.RESULT,
        client_id="T_111222333",
        payment_request_id="pay_test_1106_0002",
        status="S",
        code="SUCCESS",
        payment_id="20200101234567890132",
        amount=Money("EUR", 8000),
        created_at=1_577_849_460_000,
        paid_at=1_577_849_461_000,
        sent_at=1,
        received_at=2,
    )


def test_the_notification_of_a_failed_payment_is_read() -> None:
    said = parse_notification(FAILURE, 1, 2, CLIENT_ID)
    assert isinstance(said, Notification)
    assert (said.status, said.code, said.paid_at) == ("F", "USER_BALANCE_NOT_ENOUGH", None)


def test_a_body_with_the_documents_comments_is_no_json() -> None:
    with pytest.raises(Unreadable, match="json"):
        parse_object(b"{" + SUCCESS_AS_PRINTED.encode() + b"}")


def test_the_acknowledgement_is_the_documents() -> None:
    """RESTORED: all but `result`; the values are fixed, and it need not be signed."""
    assert json.loads(ACK) == {
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
    }


def test_the_pay_body_is_the_documents() -> None:
    order = PAY["order"]
    assert isinstance(order, dict)
    made = pay_body(
        PayRequest(
            payment_request_id="102775745075669",
            amount=Money("USD", 10),
            reference_order_id="ORDER_102775745075669",
            order_description=order["orderDescription"],
            reference_merchant_id="M0000000001",
            merchant_name="cup Hu",
            merchant_mcc="1234",
            reference_store_id="S0000000001",
            store_name="UGG-2",
            store_mcc="1405",
            user_agent=order["env"]["userAgent"],
            notify_url="https://merchant.example/merchant/notify",
        )
    )
    assert json.loads(made) == PAY

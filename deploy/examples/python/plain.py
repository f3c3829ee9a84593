"""A merchant beside the reconciler, in Python with the package `redis` and nothing of ours.

python plain.py track order-4711 USD 599    have a payment of USD 5.99 followed
python plain.py outcomes [shop-1]           hear how payments end, for ever
"""

import json
import os
import re
import sqlite3
import sys

import redis

COMMANDS, OUTCOMES, GROUP = "reconciler:v1:commands", "reconciler:v1:outcomes", "shop"


def stop(why):
    print(why, file=sys.stderr)
    sys.exit(2)


URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
if not re.fullmatch(r"rediss?://[^/?#]+(/[0-9]*)?(\?[^#]*)?", URL):  # the package would ignore it
    stop("REDIS_URL: write redis://user:password@host:6379/0, or rediss:// for TLS")
server = redis.Redis.from_url(URL, decode_responses=True)


def track(payment_request_id, currency, value):
    """Write before or right after you call pay; to write it twice is safe."""
    amount = {"currency": currency, "value": value}
    data = {"paymentRequestId": payment_request_id, "paymentAmount": amount, "expiresIn": 600}
    print(server.xadd(COMMANDS, {"type": "payment.track", "data": json.dumps(data)}))


def outcomes(me="shop-1"):
    """What you read is yours until you acknowledge it: after a restart under the same name it comes
    first. What another reader left lying for a minute is taken over."""
    try:
        server.xgroup_create(OUTCOMES, GROUP, "0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):  # BUSYGROUP: it is there
            raise
    while True:
        server.xautoclaim(OUTCOMES, GROUP, me, 60_000, "0", justid=True)
        [[_, entries]] = server.xreadgroup(GROUP, me, {OUTCOMES: "0"}, count=100)
        if not entries:
            new = server.xreadgroup(GROUP, me, {OUTCOMES: ">"}, count=100, block=5000)
            entries = new[0][1] if new else []
        for entry_id, fields in entries:
            if fields:  # none: trimmed meanwhile
                once(json.loads(fields["data"]))
            server.xack(OUTCOMES, GROUP, entry_id)


# Events come at least once. Your database keeps their ids and seqs, and writes them in the very
# transaction that changes the order.
database = sqlite3.connect(os.environ.get("BOOK", "outcomes.sqlite"), isolation_level=None)
database.execute("CREATE TABLE IF NOT EXISTS told (id PRIMARY KEY, payment, seq)")
OUTDATED = "SELECT 1 FROM told WHERE id = :id OR (payment = :payment AND seq >= :seq)"


def once(event):
    said = event["data"]
    payment = f"{said['clientId']}:{said['paymentRequestId']}"
    told = {"id": event["id"], "payment": payment, "seq": said.get("seq")}  # a rejection has no seq
    with database:
        database.execute("BEGIN IMMEDIATE")
        if database.execute(OUTDATED, told).fetchone():
            return
        database.execute("INSERT INTO told VALUES (:id, :payment, :seq)", told)
        handle(event["type"], said)


def handle(type_, said):
    match type_:
        case "payment.succeeded":
            what = "deliver"
        case "payment.failed" | "payment.cancelled":
            what = "do not deliver"
        case "payment.cancelling":
            what = "do not deliver, the final word follows"
        case "payment.submitted":
            what = f"send the buyer to {said['redirectUrl']}"
        case "payment.unresolved":
            what = f"a person must look: {said['reason']}"
        case "payment.attention":
            what = f"a person must look: {said['kind']}"
        case "command.rejected":
            what = f"mend the program: {said['reason']}, {said['message']}"
        case _:
            what = "nothing to do"
    print(f"{type_} {said['paymentRequestId']}: {what}", flush=True)


match sys.argv[1:]:
    case ["track", payment_request_id, currency, value] if value.isdecimal():
        track(payment_request_id, currency, value)
    case ["outcomes"]:
        outcomes()
    case ["outcomes", me]:
        outcomes(me)
    case _:
        stop(__doc__)

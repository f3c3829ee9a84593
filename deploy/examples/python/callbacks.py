"""Takes callbacks and verifies who sent them, in Python, with nothing to install.

CALLBACK_SECRETS=whsec_... PORT=8000 python callbacks.py

In production the package `standardwebhooks` verifies the same; HTTPS is your proxy's.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def keys(secrets: str) -> list[bytes]:
    """While a secret is changed there are two, separated by a comma: one that fits will do."""
    found = [base64.b64decode(one.strip().removeprefix("whsec_")) for one in secrets.split(",")]
    if min(map(len, found)) < 24:
        raise ValueError("anybody can sign with an empty one")
    return found


try:
    SECRETS = keys(os.environ.get("CALLBACK_SECRETS", ""))
except ValueError:
    hint = "CALLBACK_SECRETS: write whsec_ and base64 of 24 to 64 bytes, as the reconciler has it"
    print(hint, file=sys.stderr)
    sys.exit(2)


def verified(headers, body: bytes) -> bool:
    """Whether `body`, as the bytes that came, was signed with one of our secrets just now."""
    id_, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{id_}.{timestamp}.".encode() + body
    ours = [hmac.digest(secret, signed, hashlib.sha256) for secret in SECRETS]
    return any(
        hmac.compare_digest(b"v1," + base64.b64encode(one), given.encode())
        for given in headers.get("webhook-signature", "").split(" ")
        for one in ours
    )


class Callbacks(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not verified(self.headers, body):
            return self._answer(401)
        event = json.loads(body)
        # Comes at least once: keep ids and seqs as plain.py does. Answer once it is safe with you.
        print(f"{event['type']} {event['data']['paymentRequestId']}", flush=True)
        return self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Callbacks)
print("listening", flush=True)
server.serve_forever()

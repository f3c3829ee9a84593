"""Our receiver with the official SDK's verifier in place of ours; all else is the same.

The SDK reads the key anew for each message and verifies in pure Python, by the `rsa` package.
"""

import sys
from collections.abc import Mapping

from com.alipay.ams.api.tools.signature_tool import verify as sdk_verify
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from worker import cli, receiver
from worker.signature import Reason, Signed, Untrusted, public_text

_texts: dict[int, str] = {}  #: by key version: one account only


def verify(
    signed: Signed, header: str, *, client_id: str, keys: Mapping[int, RSAPublicKey]
) -> None:
    parts = dict(part.split("=", 1) for part in header.replace(" ", "").split(","))
    version = int(parts["keyVersion"])
    text = _texts.get(version) or _texts.setdefault(version, public_text(keys[version]))
    body, value = signed.body.decode(), parts["signature"]
    try:
        sdk_verify("POST", signed.path, client_id, signed.time, body, value, text)
    except Exception:
        raise Untrusted(Reason.SIG_MISMATCH) from None


if __name__ == "__main__":
    vars(receiver)["verify"] = verify
    sys.exit(cli.main())

"""What must not be told, whoever tells it: this process's secrets by their value, others by look.

The last line of defence, behind code that tells none: it stands where text leaves the process, in
log lines, faults of settings, the command line's errors and last words. Like logging itself there
is one for the process.
"""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

REDACTED = "[redacted]"

MIN_LENGTH = 8  #: a shorter one would take everyday words out of every line
LONG = 100  #: a piece of base64 of this length is no id of a payment
HEAD = 12  #: characters by which a secret is known: what is told is often cut off

#: A login in a URL. Only the last @ before the path ends it: a password may hold one. In Redis'
#: URLs, where no path has an @, also one with a / that should have been quoted.
_LOGIN = re.compile(r"(?<=redis://|ediss://)\S*(?=@)|(?<=://)[^/\s]*(?=@)")
#: An RSA key, as PEM or base64 of DER; a Signature header's end; a secret that signs callbacks; or
#: another long piece of base64.
_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|MI[A-Za-z0-9+/]{2,8}(?:IBA|ANBgkqhki)[A-Za-z0-9+/=]*"
    r"|(?<=signature=)[^\s,;\"'\\]+"
    r"|(?<=whsec_)[A-Za-z0-9+/=%]+"
    rf"|[A-Za-z0-9+/=%]{{{LONG},}}",
    re.DOTALL,
)
_SIGNS = ("IBA", "ANBgkqhki", "=", "-----", "whsec_")  #: of these in a short text
_ARMOUR = re.compile(r"-----(?:BEGIN|END) [A-Z ]*-----")

_heads: dict[str, re.Pattern[str]] = {}


def learn(setting: str) -> None:
    """From now on no line tells this secret: a password, a token, a key, or a URL with a login."""
    for secret in _secrets_in(setting):
        for form in _forms(secret):
            if len(form) >= MIN_LENGTH:
                head = form[:HEAD]
                _heads[head] = re.compile(re.escape(head) + r"[^\s\"'\\@,;&<>()]*")


def mask(text: str) -> str:
    """The text without anything that is, or looks like, a secret."""
    return mask_known(mask_looks(text))


def mask_looks(text: str) -> str:
    """Most of what is logged is short: that is looked at no further."""
    if len(text) < HEAD:
        return text
    if "@" in text and "://" in text:
        text = _LOGIN.sub(REDACTED, text)
    if len(text) >= LONG or any(sign in text for sign in _SIGNS):
        text = _KEY.sub(REDACTED, text)
    return text


def mask_known(text: str) -> str:
    for head, pattern in tuple(_heads.items()):
        if head in text:
            text = pattern.sub(REDACTED, text)
    return text


def _secrets_in(setting: str) -> Iterator[str]:
    """The lines of a key; of a URL its passwords alone: a host and a port are none."""
    if "://" in setting:
        login = _LOGIN.search(setting)
        yield from [login[0].partition(":")[2]] if login else []
        yield from re.findall(r"[?&]password=([^&#]*)", setting)
    else:
        yield from _ARMOUR.sub(" ", setting.replace("\\n", "\n")).split()


def _forms(secret: str) -> Iterator[str]:
    """The secret as it may stand in text: as it is, quoted, escaped, encoded."""
    for plain in {secret, unquote(secret)}:
        yield plain
        yield quote(plain, safe="")
        yield repr(plain)[1:-1]
        yield json.dumps(plain)[1:-1]
        yield base64.b64encode(plain.encode(errors="replace")).decode().rstrip("=")

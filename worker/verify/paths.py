"""Which path may have been signed in the place of the one that was captured."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, unquote, urlencode

from worker.requests import Endpoint, api_path
from worker.verify.message import Case

ENDPOINTS: tuple[Endpoint, ...] = ("pay", "inquiryPayment", "cancel")
#: What stands before a notify path in most shops: tried, and named only where it verifies.
WORDS = (
    *("api", "v1", "pay", "payment", "payments", "alipay", "antom", "merchant", "shop", "app"),
    *("webhook", "webhooks", "callback", "notify", "public", "gateway", "index.php", "api/v1"),
    *("payNotify", "alipay/notify", "api/notify", "api/payments", "payment/notify"),
)


def candidates(case: Case, path: str) -> Iterator[tuple[str, str]]:
    """The mistake, and the path under which it would verify."""
    yield from _query(path)
    bare, mark, query = path.partition("?")
    for mistake, other in (*_slashes(bare), *_api(case, bare), *_letters(bare), *_prefixes(bare)):
        yield mistake, other + mark + query
        if mark:
            yield mistake, other
    yield from _urls(case, path)
    for other in (*case.paths, *case.configured):
        yield _named(path, other), other


def _named(path: str, other: str) -> str:
    """What it would mean that the settings' path was signed, and not this one."""
    bare, known = path.partition("?")[0], other.partition("?")[0]
    if bare == known:
        return "path.query_lost" if "?" in other else "path.query_added"
    if known.endswith(bare):
        return "path.prefix_lost"
    return "path.prefix_added" if bare.endswith(known) else "path.configured"


def _query(path: str) -> Iterator[tuple[str, str]]:
    bare, mark, query = path.partition("?")
    if not mark:
        yield "path.query_lost", f"{path}?"
        return
    yield "path.query_added", bare
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=64) if _short(query) else []
    for order in (pairs, sorted(pairs), pairs[::-1]):
        yield "path.query_changed", f"{bare}?{urlencode(order)}"
        yield "path.query_changed", f"{bare}?{urlencode(order, quote_via=quote)}"
        yield "path.query_changed", f"{bare}?" + "&".join(f"{k}={v}" for k, v in order)
    yield "path.query_changed", f"{bare}?{unquote(query)}"
    for piece in (query[: found.start()] for found in re.finditer("&", query)):
        yield "path.query_changed", f"{bare}?{piece}"


def _short(query: str) -> bool:
    return query.count("&") < 32


def _slashes(path: str) -> Iterator[tuple[str, str]]:
    if path.endswith("/"):
        yield "path.slash_added", path.rstrip("/")
    yield "path.slash_lost", f"{path}/"
    yield "path.slash_doubled", re.sub("/+", "/", path)
    yield "path.slash_merged", f"/{path}"
    for found in re.finditer("/", path[1:]):
        yield "path.slash_merged", f"{path[: found.end()]}/{path[found.end() :]}"
    yield "path.relative", path.lstrip("/")


def _api(case: Case, path: str) -> Iterator[tuple[str, str]]:
    if "/ams/sandbox/api/" in path:
        yield "path.sandbox", path.replace("/ams/sandbox/api/", "/ams/api/", 1)
    elif "/ams/api/" in path:
        yield "path.sandbox", path.replace("/ams/api/", "/ams/sandbox/api/", 1)
    if "/ams/" in path:
        for endpoint in ENDPOINTS:
            yield "path.endpoint", api_path(case.client_id, endpoint)


def _letters(path: str) -> Iterator[tuple[str, str]]:
    yield "path.case", path.lower()
    yield "path.case", path.upper()
    yield "path.decoded", unquote(path)
    yield "path.decoded", quote(path, safe="/%", errors="surrogateescape")
    yield "path.decoded", quote(path, safe="/", errors="surrogateescape")
    yield "path.decoded", re.sub("%..", lambda found: found[0].lower(), path)
    yield "path.decoded", re.sub("%..", lambda found: found[0].upper(), path)


def _prefixes(path: str) -> Iterator[tuple[str, str]]:
    for found in list(re.finditer("/", path[1:]))[:16]:
        yield "path.prefix_added", path[found.start() + 1 :]
    for word in WORDS:
        yield "path.prefix_lost", f"/{word}{path}"
        yield "path.prefix_lost", f"/{word}{path}".rstrip("/")


def _urls(case: Case, path: str) -> Iterator[tuple[str, str]]:
    host = case.capture.first("host")
    if host:
        for start in (f"https://{host}", f"http://{host}", host):
            yield "path.full_url", start + path
    if "://" in path:
        yield "path.full_url", "/" + path.split("/", 3)[-1]

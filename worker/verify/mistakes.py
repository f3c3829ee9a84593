"""Every mistake that can be named: what happened, and how to mend it.

A mistake is named only where the signature verifies once it is undone, or where the message itself
shows it: see `worker.verify.search` and `worker.verify.facts`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Mistake(NamedTuple):
    what: str
    fix: str
    ours: str = ""  #: how to mend it where the message is a request of ours, if otherwise


RAW_BODY = (
    "keep the body's bytes as they arrive and verify those, before anything parses them (Express:"
    " express.raw({type: '*/*'}), or the verify option of express.json(); Flask: get_data();"
    " Django: request.body; Spring: @RequestBody byte[]; PHP: file_get_contents('php://input'))"
)
RAW_LOG = "capture the bytes themselves (tcpdump -w, tee), not a log's way of writing them"
SEND_WHAT_YOU_SIGN = (
    "make the body once, as bytes; sign these bytes and send these bytes: no library may make it"
    " again (Python: data=, not json=; axios: a text, not an object)"
)
STRING = (
    "sign POST, one blank, the path, one line feed, then client id, time and body joined by dots"
)
PROXY = "let the proxy hand the path on as it is"

MISTAKES: Mapping[str, Mistake] = {
    # The body's text
    "body.spacing": Mistake(
        "The body was parsed and written again: its blanks and line feeds are not those signed.",
        RAW_BODY,
        SEND_WHAT_YOU_SIGN,
    ),
    "body.unicode_escapes": Mistake(
        "The body was written again: letters outside ASCII and \\uXXXX changed places.",
        RAW_BODY + ". PHP's json_encode and Python's json.dumps write \\uXXXX by default",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.slash_escapes": Mistake(
        "The body was written again: / and \\/ changed places, as PHP's json_encode does it.",
        RAW_BODY + ". If you sign yourself: JSON_UNESCAPED_SLASHES both times, or never",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.html_escapes": Mistake(
        "The body was written again: < > & = ' and their \\u00XX escapes changed places, as Go's"
        " encoding/json, Gson and .NET do it.",
        RAW_BODY + ". Go: SetEscapeHTML(false); Gson: disableHtmlEscaping()",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.key_order": Mistake(
        "The body was written again: its members stand in another order, as after a sorted map.",
        RAW_BODY + ". Go's maps and Java's TreeMap sort, Java's HashMap shuffles",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.numbers": Mistake(
        'The body was written again: a number has another form, as in 5.0 and 5, or "5" and 5.',
        RAW_BODY + ". Amounts are strings and stay strings",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.nulls": Mistake(
        "The body was written again: members that are null are there, but were not signed.",
        SEND_WHAT_YOU_SIGN,
    ),
    "body.newline_added": Mistake(
        "The body has a line feed or blanks at its end that were not signed.",
        "write the body down without a line feed (printf %s, not echo), and send it with"
        " curl --data-binary @file",
    ),
    "body.newline_lost": Mistake(
        "The signed string has a line feed at its end, and the body has none: something trimmed"
        " the body, or the string was made with one.",
        "do not trim the body (curl --data does, --data-binary does not); where the string is made,"
        " printf %s, not echo",
    ),
    "body.crlf_added": Mistake(
        "The body's line feeds became CR LF.",
        "copy files in binary mode; an editor, git (core.autocrlf) or FTP changes line ends",
    ),
    "body.crlf_lost": Mistake(
        "The body's CR LF became line feeds.",
        "keep the bytes as they are: curl --data and many editors turn CR LF into LF",
    ),
    "body.bom_added": Mistake(
        "A byte order mark stands before the body, that was not signed.",
        "save as UTF-8 without BOM",
    ),
    "body.bom_lost": Mistake(
        "The body was signed with a byte order mark before it.", "sign UTF-8 without BOM"
    ),
    "body.blanks_around": Mistake(
        "Blanks or line feeds stand around the body, that were not signed.",
        "keep the body's bytes as they arrive; templates and log lines add blanks",
    ),
    "body.gzip": Mistake(
        "The body is compressed; the signature is over the text before that.",
        "let the proxy not compress bodies (nginx: gunzip on, or no Accept-Encoding), or"
        " decompress before verifying",
    ),
    "body.chunked": Mistake(
        "The body still has the sizes of HTTP chunks in it.",
        "decode Transfer-Encoding: chunked before verifying; every HTTP library does",
    ),
    "body.base64": Mistake(
        "The body is base64 of the signed one, as AWS API Gateway and Lambda hand it on.",
        "decode it where isBase64Encoded is true, then verify",
    ),
    "body.quoted": Mistake(
        "The body is a JSON string that holds the signed body: it was written as JSON twice.",
        "do not call JSON.stringify on what is text already",
    ),
    "body.log_escaped": Mistake(
        'The body is as a log wrote it: \\x22 or \\" for a quote.',
        RAW_LOG + '. nginx writes \\x22, with escape=json \\"',
    ),
    "body.url_encoded": Mistake(
        "The body is percent-encoded, as a form would send it.",
        "send and read it as application/json, not as a form",
    ),
    "body.html_entities": Mistake(
        "The body has &quot; and the like in it: something escaped it for HTML.",
        "take the body before any filter for input (htmlspecialchars, XSS filters)",
    ),
    "body.charset": Mistake(
        "The body's letters were read in one character set and written in another.",
        "handle it as bytes, or as UTF-8 from end to end (Java: getBytes(UTF_8), not"
        " getBytes(); set the servlet's or the page's encoding to UTF-8)",
    ),
    # The path
    "path.prefix_lost": Mistake(
        "A proxy stripped the beginning of the path; the signature is over the whole one.",
        PROXY + " (nginx: proxy_pass without a URI behind the host), or name the signed one in"
        " ALIPAY_NOTIFY_SIGNED_PATH",
    ),
    "path.prefix_added": Mistake(
        "A proxy put something before the path; the signature is over the path without it.",
        PROXY + ", or name the signed one in ALIPAY_NOTIFY_SIGNED_PATH",
    ),
    "path.configured": Mistake(
        "The signature is over another path, one that the settings name.",
        PROXY + ", or name the signed one in ALIPAY_NOTIFY_SIGNED_PATH",
    ),
    "path.query_added": Mistake(
        "The path has a query that was not signed.",
        "verify the path alone, and register notify URLs without a query",
    ),
    "path.query_lost": Mistake(
        "The query was signed with the path, and is gone.",
        "verify path and query as the gateway called them (nginx: $request_uri, not $uri;"
        " servlets: getRequestURI() has no query), or register a URL without a query",
    ),
    "path.query_changed": Mistake(
        "The query was written again: in another order, or encoded otherwise.",
        "verify the raw query; better, register a notify URL without one",
    ),
    "path.slash_added": Mistake(
        "The path has a slash at its end that was not signed.",
        "let no router or redirect add the slash (Django: APPEND_SLASH)",
    ),
    "path.slash_lost": Mistake(
        "The path was signed with a slash at its end, which is gone.",
        "let no router or proxy cut the slash, or register the URL without it",
    ),
    "path.slash_doubled": Mistake(
        "The path has a double slash that was not signed.",
        "join base and path with one slash (nginx: proxy_pass http://host/ and location /x)",
    ),
    "path.slash_merged": Mistake(
        "The path was signed with a double slash, and a proxy merged it into one.",
        "register the URL with one slash (or nginx: merge_slashes off)",
    ),
    "path.case": Mistake(
        "The path was signed in other letters, capital or small.",
        "write it as registered; let no server fold it",
    ),
    "path.decoded": Mistake(
        "The path was percent-decoded, or encoded again, on its way.",
        "verify the raw path (nginx: $request_uri; Java: getRequestURI(), not getServletPath())",
    ),
    "path.full_url": Mistake(
        "The signature is over the whole URL, or host and path.",
        "sign the path (and query) alone, without scheme and host",
    ),
    "path.relative": Mistake(
        "The signature is over the path without its first slash.", "sign it with the slash"
    ),
    "path.sandbox": Mistake(
        "The sandbox's path and that of production were exchanged.",
        "call and sign /ams/sandbox/api/... where the client id begins with SANDBOX_, else"
        " /ams/api/...",
    ),
    "path.endpoint": Mistake(
        "The signature is over the path of another call.",
        "an answer is signed with the path of its own request: give that",
    ),
    # Client id and time
    "client.case": Mistake(
        "The client id was signed in other letters, capital or small.",
        "write it exactly as the dashboard shows it, in header and string",
    ),
    "client.trimmed": Mistake(
        "The client id has blanks or quotes around it that were not signed.",
        "trim it where it is read from a file or a variable",
    ),
    "client.sandbox": Mistake(
        "The client id was signed with SANDBOX_ in front, and is without it here, or the reverse.",
        "use the one client id of the dashboard everywhere",
    ),
    "client.configured": Mistake(
        "The signature is over the configured client id, and the header names another.",
        "send in the header what you sign",
    ),
    "client.empty": Mistake(
        "The client id was empty when the string was signed.", "sign the client id of the header"
    ),
    "client.other": Mistake(
        "The message is genuine, but addressed to another client id.",
        "sandbox and production have different ones: give the right ALIPAY_CLIENT_ID, or send"
        " each account's notifications to its own URL",
    ),
    "time.seconds": Mistake(
        "The time was signed in seconds and is in milliseconds here, or the reverse.",
        "write the time once, in milliseconds; sign that text and send that text",
    ),
    "time.format": Mistake(
        "The time was signed in another format: the same moment, other characters.",
        "take the time header as text: never parse and print it again",
    ),
    "time.other_header": Mistake(
        "The signature is over the time of another header.",
        "requests and notifications: Request-Time; answers: Response-Time",
    ),
    "time.plus": Mistake(
        "The + of the time became a blank: something decoded it as of a form.",
        "take the time header as text, without decoding",
    ),
    "time.trimmed": Mistake(
        "The time has blanks or quotes around it that were not signed.",
        "trim it, or do not add any",
    ),
    "time.made_twice": Mistake(
        "The time was read from the clock twice: once for the string, once for the header.",
        "read the clock once; sign that text and send that text",
    ),
    "time.empty": Mistake(
        "The time was empty when the string was signed.", "sign the time of the header"
    ),
    # The string
    "string.method": Mistake(
        "The signature is over another method than POST, or over small letters.",
        "sign POST in capitals: the gateway has no other method",
    ),
    "string.line_feed": Mistake(
        "The path and the client id were not joined by one line feed.",
        STRING + ". In shells and PHP's single quotes \\n is a backslash and an n",
    ),
    "string.first_line": Mistake("The first line, method and path, is missing or cut.", STRING),
    "string.dots": Mistake("Client id, time and body were not joined by dots.", STRING),
    "string.order": Mistake("Time and client id changed places.", STRING),
    "string.no_body": Mistake(
        "The signature is over a string without the body.",
        STRING + ". A body that a stream has read once is empty the second time",
    ),
    "string.body_alone": Mistake("The signature is over the body alone.", STRING),
    "string.body_digest": Mistake(
        "The signature is over a digest of the body in the body's place.", STRING
    ),
    "string.hashed_twice": Mistake(
        "The string was hashed before it was given to a function that hashes it itself.",
        "give the string itself to SHA256withRSA (openssl dgst -sha256 -sign)",
    ),
    # The Signature header
    "signature.encoded_twice": Mistake(
        "The signature is percent-encoded twice (%252F).",
        "encode it once; let no proxy do it again",
    ),
    "signature.plus": Mistake(
        "The + of the signature became blanks: it was decoded as of a form, or twice.",
        "decode with unquote, not unquote_plus (Java: URLDecoder turns + into a blank), and once",
    ),
    "signature.base64url": Mistake(
        "The signature is in base64url, with - and _.",
        "use the standard base64 alphabet, then percent-encode",
    ),
    "signature.padding": Mistake(
        "The = at the signature's end are missing or too many.",
        "cut the header at the first = of each part, not the last; keep the padding",
    ),
    "signature.broken_lines": Mistake(
        "Blanks or line feeds stand inside the signature.",
        "encode without line breaks (base64 -w0; Java: getEncoder(), not getMimeEncoder())",
    ),
    "signature.quoted": Mistake(
        "Quotes or blanks stand around the header or the signature.", "write it without"
    ),
    "signature.escaped": Mistake(
        "The header has JSON's or HTML's escapes in it (\\/, \\u003d, &#61;).", RAW_LOG
    ),
    "signature.form": Mistake(
        "The header's parts are not algorithm=...,keyVersion=...,signature=... in this order.",
        "write it exactly like this: others read it by position",
    ),
    "signature.value_alone": Mistake(
        "The header holds the signature alone.",
        "write algorithm=RSA256,keyVersion=1,signature=<signature>",
    ),
    "signature.algorithm": Mistake(
        "The header names another algorithm, though the signature is RSA with SHA-256.",
        "write algorithm=RSA256",
    ),
    "signature.hex": Mistake(
        "The signature is in hexadecimal.", "encode it with base64, then percent-encode"
    ),
    "signature.base64_twice": Mistake(
        "The signature is base64 of base64.", "the library's sign() may return base64 already"
    ),
    "signature.repeated": Mistake(
        "The Signature header is there more than once; one of them is right.",
        "send it once: a proxy or a second signer adds one",
    ),
    "signature.empty": Mistake(
        "The Signature header holds no signature.", "look for the error where it was to be made"
    ),
    "signature.cut": Mistake(
        "The signature is shorter than the key: its end is missing.",
        "look for a limit on the length of headers, columns or log lines",
    ),
    "signature.length": Mistake(
        "The signature's length is that of no key known here.",
        "the signer has a key of another size: compare with the dashboard, sandbox and production",
    ),
    "signature.sha1": Mistake(
        "The signature is over SHA-1, as older Alipay interfaces have it (sign_type RSA).",
        "sign with SHA256withRSA; the header's word alone changes nothing",
    ),
    "signature.hash": Mistake(
        "The signature is over another hash than SHA-256.", "sign with SHA256withRSA"
    ),
    "signature.pss": Mistake(
        "The signature has PSS padding.", "sign with PKCS #1 v1.5: SHA256withRSA, not RSASSA-PSS"
    ),
    # Keys
    "key.version": Mistake(
        "The signature was made with another version of the signer's key than the header says.",
        "give each key the version that the dashboard shows: VERSION=KEY in ALIPAY_PUBLIC_KEYS,"
        " ALIPAY_KEY_VERSION for your own",
    ),
    "key.version_unknown": Mistake(
        "The header names a key version that is not known here.",
        "copy the gateway's new public key from its dashboard to ALIPAY_PUBLIC_KEYS, beside the"
        " old one",
    ),
    "key.wrong_side": Mistake(
        "The key of the wrong side made the signature.",
        "the gateway's messages are verified with the gateway's public key, ours with our own:"
        " look which message this is (--as), and which key is given",
    ),
    "key.other_account": Mistake(
        "The signature was made with a key that belongs to another account.",
        "look which account this message is for, and whether the keys are exchanged",
    ),
    "key.ours_for_gateways": Mistake(
        "What is given as the gateway's public key is the public half of your own private key.",
        "copy the gateway's key from its dashboard to ALIPAY_PUBLIC_KEYS; yours goes to the"
        " dashboard",
    ),
    "key.unknown": Mistake(
        "No key known here made this signature: another key did, or the signature was altered.",
        "compare the key with the dashboard's: sandbox and production, each account and each"
        " version have their own",
    ),
    # What cannot be verified at all
    "header.missing": Mistake(
        "A header that is needed is missing.",
        "let proxies hand on Signature, Client-Id and Request-Time; capture the request as it"
        " arrived",
    ),
    "header.repeated": Mistake(
        "A header is there more than once.", "send each header once; look which proxy adds one"
    ),
    "answer.refusal": Mistake(
        "The gateway refused our own request, and signed nothing: it could not verify us.",
        "verify the request that this answers (--as request); compare our public key and its"
        " version with the dashboard",
    ),
    "message.encrypted": Mistake(
        "The message is encrypted; nothing says how the gateway does that.",
        "switch encryption off for your client id, in the dashboard or by its support",
    ),
    "body.empty": Mistake(
        "There is no body: something read it before.",
        RAW_BODY + ". A stream can be read once",
    ),
    "body.cut": Mistake(
        "The body is shorter than Content-Length says, and breaks off: its end is missing.",
        "look for a limit in the log or the capture (tcpdump -s0)",
    ),
    "body.length": Mistake(
        "The body's length is not the one that Content-Length says, and it is not just cut off: the"
        " body was altered, on its way or in the capture, or the header is another message's.",
        "take headers and body from one message, as they arrive. If they are, something between the"
        " signer and you altered the body",
    ),
    "message.refused": Mistake(
        "The signature fits these bytes, but the message breaks a rule named above.",
        "mend what the failed step says",
    ),
}

#: What is left to try where no mistake of the list explains it.
TRY_NEXT = (
    "Capture the bytes once more, as near to the network as you can (tcpdump -w, not -A, which"
    " prints dots for letters outside ASCII; or tee before the application), and verify that file.",
    "Give the path that the gateway called, with its query: --path.",
    "Compare the public key with the gateway's dashboard: sandbox or production, which account,"
    " which version.",
    "Write the signed string to a file (--string FILE) and compare it, byte by byte, with the one"
    " that the signer made: size and SHA-256 first.",
    "If all that agrees, somebody altered the message: do not trust it.",
)

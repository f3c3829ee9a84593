"""Every line that the log can hold: what it says, what its fields mean, and what to do.

Whoever logs something new adds it here; `docs/log-events.md` is printed from this list.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.values import LogLevel

DEBUG, INFO, WARNING, ERROR = LogLevel

FEW = 50  #: lines of one event and reason, in one window, that are written one by one


@dataclass(frozen=True, slots=True)
class Entry:
    level: LogLevel | None  #: None: that of what it tells of
    meaning: str  #: what happened
    remedy: str = ""  #: what a person must do; empty where nothing
    fields: str = ""  #: their names, each explained in `FIELDS`
    #: For lines that repeat, per attempt or per stranger's request: how many pass in one window of
    #: `worker.condense`, for each value of `reason`; the others are counted. 0: every line passes.
    burst: int = 0
    reason: str = ""  #: the field that tells repeats of one kind from those of another
    only: tuple[str, str] | None = None  #: a field and its value in the lines that repeat


PAYMENT = "client_id payment_request_id"
COMMAND = f"command command_id {PAYMENT}"
REQUEST = f"peer ms {PAYMENT} kind result reason bytes body_sha256 key_version age_ms"
DELIVERY = f"delivery {PAYMENT} delivery_id host attempt ms"
DUPLICATES = ("result", "duplicate")  #: who has caught one may send it for ever

#: Added to any line that is written in their reach.
CONTEXT = "role request_id command_id wake_id trace_id span_id exception"

FIELDS: Mapping[str, str] = {
    # Whom and what a line is about
    "client_id": "the merchant account at the gateway",
    "payment_request_id": "the merchant's id of the payment",
    "payment_id": "the gateway's id of the payment",
    "payments": "the first ten of them, as `<client-id>:<paymentRequestId>`",
    "accounts": "the accounts that the process has settings for",
    "accounts_added": "accounts that were not there before",
    "accounts_changed": "accounts of which something else than a key has changed",
    "keys_added": "keys used or believed from here on: whose, and their version",
    "keys_removed": "keys neither used nor believed any more",
    "need_restart": "settings that have changed, too, and that only a restart takes",
    "faults": "all that is wrong, one sentence each",
    "key": "a key in Redis",
    # What belongs together
    "role": "the process, or the part of it, that writes the line: worker or receiver",
    "request_id": "the same in all lines of one HTTP request to the receiver",
    "command_id": "the command it is, or that caused it: its id in the stream, or arq's job id",
    "wake_id": "the same in all lines of one wake-up of a payment",
    "body_sha256": "a notification's id: the first 16 hex digits of the SHA-256 of its body,"
    " in the receiver's line and in the worker's",
    "trace_id": "of OpenTelemetry, where the process has a span",
    "span_id": "of OpenTelemetry, where the process has a span",
    # Payments
    "status": "the payment's status from here on",
    "cause": "why it was cancelled: failed, timed_out, requested",
    "via": "how the end was learned: notification, inquiry, pay, cancel, operator; null: by a"
    " command",
    "marks": "what was special about the end: late, blind, refunded, not_found, ...",
    "amount": "currency and smallest units, as in `USD 599`",
    "result_code": "the gateway's last code",
    "notifications": "how many were heard of it, of any kind and worth",
    "inquiries": "how many left for the gateway",
    "unanswered": "how many of the last calls in a row had no answer",
    "cancels": "how many left for the gateway",
    "cancel_state": "what became of the cancel: none, open, refused, confirmed",
    "submit_state": "what became of our pay: none, open, created, refused",
    "pay_attempts": "how many pays left for the gateway",
    "cancel_attempts": "how many cancels left for the gateway",
    "attempts": "how many inquiries left for the gateway",
    "tracked_at": "when it was tracked",
    "closing_time": "when it should have ended: from here on it is cancelled if it is not paid",
    "followed_ms": "from tracked to ended",
    "past_closing_ms": "how long it ended, or is open, after its closing time",
    "closes_in_ms": "from now to its closing time",
    "late_ms": "how much later than planned it was taken up",
    "asked_at": "when the last inquiry left",
    "next_act": "what comes next: inquire, pay or cancel",
    "next_inquiry_at": "when that is planned",
    "schema": "the version of the record's layout",
    "history": "the last lines of its timeline, one sentence each",
    "alarm": "what a person must know, in a few words",
    "who": "the person who decided",
    "statement": "how that person knows",
    "forced": "whether it was to stand against the gateway's word, or without it",
    # Calls of the gateway, and what they bring
    "endpoint": "what the gateway was asked: inquiryPayment, pay or cancel",
    "ms": "milliseconds that it took",
    "heard": "what the message is worth: paid, failed, closed, confirming, not_yet, not_exist,"
    " hint, known, order_created, pay_refused, cancel_confirmed, cancel_refused,"
    " amount_mismatch, ...",
    "code": "the gateway's code in it, or the value that does not match",
    "why": "the cause in a word: timeout, not_connected, http_503, untrusted_..., a mark, ...",
    "calls_per_second": "how many may leave for the gateway from now on, by all processes",
    "waiting": "how many of the account's payments wait in line for a call",
    "in_a_row": "how many had no answer by now",
    "attempt": "the number of this pay or cancel, or of this try to deliver",
    # Requests to the receiver
    "peer": "the address that the connection comes from",
    "kind": "the notification's notifyType; empty where it has none that can be read",
    "result": "accepted: for a payment that is tracked; parked: for one that may be tracked later;"
    " duplicate: heard before; untracked: of no payment of ours",
    "reason": "why, in one word of a closed list",
    "http_status": "what was answered",
    "bytes": "the size of the body",
    "key_version": "the gateway's key that signed it",
    "age_ms": "from its Request-Time to its arrival; null where that is no time",
    "error": "the kind of the exception",
    "open": "connections",
    "ended": "connections that were closed",
    # Outcomes and commands
    "type": "the outcome's type",
    "name": "the last part of the outcome's id",
    "seq": "the outcome's number: it rises for each payment",
    "command": "its type, as the merchant writes it",
    "message": "a sentence for people",
    # Deliveries
    "delivery": "what is delivered: callback, or forward (a notification that is passed on)",
    "delivery_id": "the event's id, or the SHA-256 of the notification's body",
    "host": "host and port of the callback's URL",
    "again_ms": "how long until the next try",
    "lane": "where it lay in Redis",
    # The process and its surroundings
    "pid": "the process",
    "version": "of uvloop",
    "addresses": "where it listens",
    "address": "where it should listen",
    "task": "what it was doing",
    "fault": "what went wrong, in the words of who found it",
    "away_ms": "for how long Redis has not answered this task",
    "seconds": "how long it lasted",
    "probe": "what was looked at",
    "remedy": "what to do",
    "server": "name and version of the server",
    "clock_ahead_ms": "how far Redis' clock is ahead of ours",
    "since": "when a worker first wrote to the database that is gone",
    "percent": "the share of its memory that Redis uses",
    "count": "how many",
    "woken": "how many",
    "silent_ms": "since when nothing was heard of it; null: never",
    "logger": "the library",
    # The log itself
    "condensed": "the event whose lines were counted",
    "reasons": "how many of them for each reason",
    "example": "whom the last of them was about",
    "unregistered": "the name that is not on this list",
    "exception": "the traceback",
}

#: Every line there is: dotted facts in the past tense.
EVENTS: Mapping[str, Entry] = {
    # The worker
    "worker.started": Entry(
        INFO, "The worker follows payments from here on.", fields="accounts pid"
    ),
    "process.on_uvloop": Entry(
        INFO, "The process runs on uvloop, which is installed.", fields="version"
    ),
    "worker.stopped": Entry(INFO, "The worker finished what it was doing and ended.", fields="pid"),
    "worker.failed": Entry(ERROR, "The worker broke and ended.", "Report the traceback."),
    "worker.redis_waiting": Entry(
        WARNING,
        "Redis does not answer, or refuses. Whoever says so tries again.",
        "Nothing yet: `redis.away` says when it lasts.",
        fields="task fault away_ms",
        burst=FEW,
        reason="task",
    ),
    "worker.redis_back": Entry(INFO, "Redis answers this task again.", fields="task away_ms"),
    "redis.away": Entry(
        ERROR,
        "Redis has been away for five minutes or longer; said again every five minutes.",
        "Bring it back. Payments are not followed, and the gateway sends its notifications again"
        " for a day only.",
        fields="task fault away_ms",
    ),
    "redis.nearly_full": Entry(
        WARNING,
        "Redis uses most of its memory; when it is full it takes no writes.",
        "Give it more memory.",
        fields="percent",
    ),
    # Payments
    "payment.tracked": Entry(
        INFO,
        "A payment is followed from here on.",
        fields=f"{PAYMENT} amount closing_time closes_in_ms command_id",
    ),
    "payment.woken": Entry(
        DEBUG,
        "A worker has taken up a payment that is due.",
        fields=f"{PAYMENT} late_ms",
        burst=FEW,
    ),
    "payment.changed": Entry(INFO, "A payment has another status.", fields=f"{PAYMENT} status why"),
    "payment.final": Entry(
        INFO,
        "A payment ended; the line tells its whole story.",
        fields=f"{PAYMENT} payment_id status via cause marks amount result_code notifications"
        " inquiries unanswered cancels cancel_state tracked_at closing_time followed_ms"
        " past_closing_ms",
    ),
    "payment.resolved": Entry(
        WARNING,
        "A person decided about a payment that needed one.",
        fields=f"{PAYMENT} status who statement heard forced",
    ),
    "payment.alarmed": Entry(
        ERROR,
        "A payment needs a person.",
        "Look at its story: `reconciler status ID`.",
        fields=f"{PAYMENT} alarm status",
        burst=FEW,
        reason="alarm",
    ),
    "payment.stuck": Entry(
        ERROR,
        "A payment is open ten minutes after its closing time; said once.",
        "Its history tells why. If the gateway or Redis was away, it ends by itself.",
        fields=f"{PAYMENT} status cause past_closing_ms history payment_id result_code attempts"
        " unanswered submit_state pay_attempts cancel_state cancel_attempts asked_at"
        " closing_time next_act next_inquiry_at schema",
    ),
    "account.unknown": Entry(
        ERROR,
        "A payment's client id has no settings here.",
        "Add its account.",
        fields=PAYMENT,
        burst=FEW,
        reason="client_id",
    ),
    # Asking the gateway
    "inquiry.completed": Entry(
        INFO,
        "The gateway answered an inquiry.",
        fields=f"{PAYMENT} endpoint ms heard code",
        burst=FEW,
        reason="heard",
    ),
    "inquiry.unanswered": Entry(
        WARNING,
        "An inquiry got no answer that counts; it is repeated.",
        "If there are many, ask whether the gateway can be reached and knows our key.",
        fields=f"{PAYMENT} endpoint ms why in_a_row",
        burst=FEW,
        reason="why",
    ),
    "pay.sent": Entry(
        INFO,
        "A pay that the merchant submitted is about to leave.",
        fields=f"{PAYMENT} attempt",
        burst=FEW,
    ),
    "pay.completed": Entry(
        INFO,
        "The gateway answered a pay: the order exists, or is refused. Nobody has paid by that.",
        fields=f"{PAYMENT} endpoint ms heard code",
        burst=FEW,
        reason="heard",
    ),
    "pay.unanswered": Entry(
        WARNING,
        "A pay got no answer that counts; the same request is repeated.",
        "If there are many, ask whether the gateway can be reached and knows our key.",
        fields=f"{PAYMENT} endpoint ms why in_a_row",
        burst=FEW,
        reason="why",
    ),
    "cancel.sent": Entry(
        INFO,
        "A cancel is about to leave.",
        fields=f"{PAYMENT} attempt command_id",
        burst=FEW,
    ),
    "cancel.completed": Entry(
        INFO,
        "The gateway answered a cancel.",
        fields=f"{PAYMENT} endpoint ms heard code",
        burst=FEW,
        reason="heard",
    ),
    "cancel.unanswered": Entry(
        WARNING,
        "A cancel got no answer that counts; it is repeated.",
        "If there are many, ask whether the gateway can be reached and knows our key.",
        fields=f"{PAYMENT} endpoint ms why in_a_row",
        burst=FEW,
        reason="why",
    ),
    # Notifications
    "notification.accepted": Entry(
        INFO,
        "A genuine notification is kept and acknowledged.",
        fields=REQUEST,
        burst=FEW,
        only=DUPLICATES,
    ),
    "notification.rejected": Entry(
        WARNING,
        "A message that nothing proves genuine was refused.",
        "If the gateway's own come here: `reason` says what does not fit. Strangers' need nothing.",
        fields=f"{REQUEST} http_status",
        burst=FEW,
        reason="reason",
    ),
    "notification.encrypted": Entry(
        ERROR,
        "An encrypted message was refused.",
        "If it was the gateway's: ask it not to encrypt notifications.",
        fields=f"{REQUEST} http_status",
        burst=FEW,
    ),
    "notification.ignored": Entry(
        WARNING,
        "A genuine notification of a kind that is not ours was acknowledged.",
        fields=REQUEST,
        burst=FEW,
        reason="kind",
    ),
    "notification.quarantined": Entry(
        WARNING,
        "A genuine notification could not be understood, and is kept.",
        "Look at it in `reconciler:v1:quarantine`, and report it.",
        fields=REQUEST,
        burst=FEW,
        only=DUPLICATES,
    ),
    "notification.never_tracked": Entry(
        ERROR,
        "Notifications of payments that nobody tracked went to quarantine after 72 h.",
        "Find out why your system did not track them.",
        fields="count",
    ),
    "notification.applied": Entry(
        INFO,
        "A payment's record has taken in a notification.",
        fields=f"{PAYMENT} body_sha256 heard code",
    ),
    # Outcomes and commands
    "outcome.published": Entry(
        INFO, "The merchant was told something about a payment.", fields=f"{PAYMENT} type name seq"
    ),
    "command.accepted": Entry(INFO, "A command was carried out.", fields=COMMAND),
    "command.rejected": Entry(
        WARNING,
        "A command was not carried out; the merchant was told why.",
        "Mend what sends it.",
        fields=f"{COMMAND} reason message",
    ),
    "command.dead": Entry(
        WARNING,
        "A command cannot be understood, and is kept.",
        "Look at it in `reconciler:v1:commands:dead`, and mend what sends it.",
        fields=f"{COMMAND} reason message",
    ),
    "commands.failed": Entry(ERROR, "Reading commands broke; it goes on.", "Report the traceback."),
    # What is sent over HTTP
    "delivery.completed": Entry(
        INFO,
        "A callback, or a notification that is passed on, was taken.",
        fields=f"{DELIVERY} http_status",
        burst=FEW,
        reason="delivery",
    ),
    "delivery.failed": Entry(
        WARNING,
        "A callback, or a notification that is passed on, was not taken; it is sent again.",
        "If there are many: see whether the endpoint is up, and what `fault` says.",
        fields=f"{DELIVERY} fault again_ms",
        burst=FEW,
        reason="fault",
    ),
    "delivery.dead": Entry(
        ERROR,
        "It was not taken in three days, or the endpoint answered 410 Gone; it is kept.",
        "Mend the endpoint, then `reconciler replay callbacks --all`, or `replay forwards --all`.",
        fields=f"{DELIVERY} fault count lane",
        burst=FEW,
        reason="fault",
    ),
    "deliveries.failed": Entry(
        ERROR, "Sending callbacks broke; it goes on.", "Report the traceback."
    ),
    # The receiver
    "receiver.started": Entry(
        INFO, "The receiver takes notifications from here on.", fields="accounts addresses pid"
    ),
    "receiver.stopped": Entry(
        INFO, "The receiver answered its last request and ended.", fields="pid"
    ),
    "receiver.store_down": Entry(
        WARNING,
        "Redis could not keep a notification: answered 503, the gateway sends it again.",
        "Bring Redis back.",
        fields=f"{REQUEST} fault",
        burst=FEW,
        reason="fault",
    ),
    "receiver.failed": Entry(
        ERROR,
        "The receiver broke on a request.",
        "Report the traceback.",
        fields="peer",
        burst=FEW,
    ),
    "receiver.crowded": Entry(
        WARNING,
        "Too many connections: some were closed, the longest idle first.",
        "Put a proxy or an allow-list in front.",
        fields="open ended",
    ),
    "http.malformed": Entry(
        WARNING,
        "Something that is no HTTP request came in.",
        fields="peer error",
        burst=FEW,
        reason="error",
    ),
    "http.parser_weak": Entry(
        WARNING,
        "aiohttp parses HTTP in Python, the weaker way.",
        "Unset AIOHTTP_NO_EXTENSIONS, or install a wheel of aiohttp for this platform.",
    ),
    # The admin ports
    "admin.started": Entry(
        INFO, "The admin port answers: health and metrics are to be had there.", fields="addresses"
    ),
    "admin.unavailable": Entry(
        WARNING,
        "The admin port cannot be opened; the process goes on without it.",
        "Give it another port or address, or 0 for none.",
        fields="address fault",
    ),
    "admin.refused": Entry(
        WARNING,
        "Somebody asked the admin port by a name that is not allowed, or without the token.",
        "If it was one of yours: ADMIN_ALLOWED_HOSTS (`reason` host), ADMIN_TOKEN (token).",
        fields="peer reason",
        burst=FEW,
        reason="reason",
    ),
    "admin.failed": Entry(
        ERROR, "The admin port broke on a request.", "Report the traceback.", burst=FEW
    ),
    "admin.store_down": Entry(
        WARNING,
        "A request to the command API was answered 503: Redis did not answer or did not confirm.",
        "Nothing, if Redis comes back by itself: the caller has been told to send it again.",
        fields="peer fault",
        burst=FEW,
    ),
    "admin.crowded": Entry(
        WARNING,
        "Too many connections to the admin port: some were closed, the longest idle first.",
        "Look who asks so often.",
        fields="open ended",
    ),
    "metrics.stale": Entry(
        WARNING,
        "Redis did not say what the gauges show: they are old.",
        "Nothing, if Redis is away; else do what the fault says.",
        fields="fault",
    ),
    "metrics.failed": Entry(
        ERROR, "Asking for the gauges broke; it goes on.", "Report the traceback."
    ),
    # Limits
    "breaker.opened": Entry(
        ERROR,
        "The gateway seems to be away: for this account nothing is asked but one probe at a time.",
        "Nothing, if the gateway is down: payments wait, the clocks of last inquiries and cancels"
        " stand still, and it closes by itself. Else see why it is not reached.",
        fields="client_id why waiting",
    ),
    "breaker.closed": Entry(
        INFO,
        "The gateway answers again; who waits is asked for, the oldest closing time first.",
        fields="client_id away_ms waiting",
    ),
    "gateway.slowed": Entry(
        WARNING,
        "The gateway finds us too fast: calls are halved, and become more again within a minute.",
        "If it comes often, set ALIPAY_RATE_LIMIT to what the gateway allows.",
        fields="client_id calls_per_second waiting",
    ),
    "limits.failed": Entry(
        ERROR, "Calling those who wait in line broke; it goes on.", "Report the traceback."
    ),
    # Who watches
    "sweep.completed": Entry(
        WARNING, "Overdue payments whose job was lost were woken.", fields="woken"
    ),
    "sweep.failed": Entry(ERROR, "A sweep broke; the next one follows.", "Report the traceback."),
    "sweep.stalled": Entry(
        ERROR,
        "This worker's sweep hangs or fails: lost wake-ups are not mended.",
        "See the warnings before; if there are none, restart the worker.",
        fields="silent_ms",
    ),
    "sweep.missing": Entry(
        ERROR,
        "No worker has swept for minutes: payments are not followed.",
        "Start a worker.",
        fields="silent_ms",
    ),
    "watch.failed": Entry(ERROR, "Looking for stuck payments broke.", "Report the traceback."),
    "job.failed": Entry(
        ERROR,
        "A job broke and is repeated.",
        "Report the traceback.",
        fields=f"{PAYMENT} task command_id",
        burst=FEW,
        reason="task",
    ),
    # What is stored
    "record.unreadable": Entry(
        ERROR,
        "A record of another version, or a damaged one, is left alone.",
        "Upgrade this process, or mend the record.",
        fields=f"{PAYMENT} command_id fault",
        burst=FEW,
        reason="fault",
    ),
    "record.missing": Entry(
        ERROR,
        "Payments to be followed have no record: it was deleted or evicted.",
        "Track them again.",
        fields="payments count",
        burst=FEW,
    ),
    "store.lost": Entry(
        ERROR,
        "Redis no longer holds what it held: flushed, or another one.",
        "Stop, and restore Redis.",
        fields="since",
    ),
    "store.empty": Entry(
        WARNING,
        "Redis holds nothing of ours: a first start, or data was lost.",
        "If it is no first start, restore Redis.",
    ),
    "retention.completed": Entry(DEBUG, "What was kept long enough was deleted."),
    "retention.skipped": Entry(
        WARNING,
        "A key is not as it should be, and was passed by.",
        "See what wrote it; once it is removed, work goes on.",
        fields="key fault",
        burst=FEW,
        reason="key",
    ),
    "retention.failed": Entry(
        ERROR, "Housekeeping broke; it is repeated.", "Report the traceback."
    ),
    # Accounts and keys
    "accounts.reloaded": Entry(
        INFO,
        "The accounts were read again, and hold from here on.",
        "Nothing; with `need_restart`, restart the process when it suits you.",
        fields="accounts accounts_added accounts_changed keys_added keys_removed need_restart",
    ),
    "accounts.refused": Entry(
        ERROR,
        "The accounts were read again and cannot be used: all of them stay as they were.",
        "Mend what the line says; it is read again when the file changes.",
        fields="faults",
    ),
    "accounts.failed": Entry(
        ERROR, "Reading the accounts again broke: they stay as they were.", "Report the traceback."
    ),
    # What is checked
    "probes.passed": Entry(
        INFO, "Redis, clocks and keys are as they must be.", fields="server clock_ahead_ms"
    ),
    "probe.warned": Entry(
        WARNING,
        "Something may be unsafe.",
        "Do what the line says.",
        fields="probe message remedy",
    ),
    "probe.alarmed": Entry(
        ERROR,
        "Something is unsafe; at a start this ends the process.",
        "Do what the line says.",
        fields="probe message remedy",
    ),
    "probe.failed": Entry(ERROR, "A probe broke; it is repeated.", "Report the traceback."),
    # The process
    "process.failed": Entry(ERROR, "The process broke and ended.", "Report the traceback."),
    "process.stalled": Entry(
        WARNING,
        "The process stood still.",
        "Give it CPU; look for what froze it.",
        fields="seconds",
    ),
    "process.out_of_files": Entry(
        ERROR,
        "No connection can be taken: the process may open no more files.",
        "Raise the limit (LimitNOFILE=).",
        burst=1,
    ),
    # The log itself
    "log.condensed": Entry(
        None,
        "So many more lines of one event were counted, and not written, in the last `seconds`.",
        "See what the lines before it say.",
        fields="condensed count reasons example seconds",
    ),
    "library.logged": Entry(
        None,
        "A library that we use said something.",
        fields="logger message",
        burst=FEW,
        reason="logger",
    ),
    "log.failed": Entry(
        ERROR,
        "A line could not be written.",
        "Report its fault.",
        fields="fault",
        burst=FEW,
        reason="fault",
    ),
    "log.unregistered": Entry(
        ERROR,
        "A line is not on this list.",
        "Report its name.",
        fields="unregistered",
        burst=FEW,
        reason="unregistered",
    ),
}

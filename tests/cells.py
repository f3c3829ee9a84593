"""The life of a payment as one table: where it stands, what is heard, what becomes of it.

A row reads: *start* | *heard* | *then*. `in report mode` under a row is the same row for a payment,
or a whole deployment, that sends no cancels; without it both modes do the same. `in report mode
everywhere` is the deployment alone. `f`, `t` and `r`
are the causes failed, timed_out and requested; `ftr` stands for three rows. *then* is the new
status (`stays`: the old one), its new marks, what it newly knows, what comes next, and the events.
A fourth column names a known difference between this table and `decide`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jobs.evidence import hear
from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Decision,
    Event,
    Money,
    Ms,
    OnTimeout,
    Payment,
    Refusal,
    Rejected,
    Status,
    SubmitState,
    Via,
)
from jobs.news import (
    Ask,
    Call,
    CancelAnswer,
    CancelConfirmed,
    CancelRefused,
    Closed,
    Command,
    Confirming,
    Facts,
    Failed,
    GatewayStatus,
    Hint,
    InquiryAnswer,
    Known,
    Message,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    Notification,
    NotifyKind,
    NotYet,
    Order,
    OrderCreated,
    Paid,
    PaidBack,
    PayAnswer,
    PayRefused,
    Resolve,
    Silence,
    Submit,
    Tick,
    Track,
)
from jobs.payment import decide
from jobs.schedule import DAY, MINUTE, SECOND, Policy

TABLE = """
# pending

pending                         | Paid                     | succeeded; rest; tells succeeded
pending                         | Paid by notification     | succeeded; rest; tells succeeded
pending at closing              | Paid                     | succeeded +late; inquire soon; tells succeeded
pending                         | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
pending                         | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded
pending at closing              | PaidBack part            | succeeded +late +partly_refunded; inquire soon; tells succeeded, partly_refunded
pending                         | Failed                   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending                         | Failed by notification   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending                         | Closed                   | cancelled; inquire soon; tells cancelled
pending                         | Confirming               | stays, closing moved; inquire soon
pending at closing              | Confirming               | stays, closing moved; inquire soon
pending confirming              | Confirming               | stays; inquire in minutes
pending confirming at closing   | Confirming               | unresolved/pending_expired; inquire in minutes; tells unresolved
pending                         | NotYet                   | stays; inquire soon
pending                         | NotExist                 | stays; inquire soon
pending at closing              | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending at closing              | NotExist                 | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending confirming at closing   | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending braked at closing       | NotExist                 | unresolved/brake; inquire in minutes; tells unresolved
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending braked at closing       | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending mismatched at closing   | NotYet                   | unresolved/amount_mismatch; inquire in minutes; tells unresolved
pending mismatched at closing   | NotExist                 | unresolved/amount_mismatch; inquire in minutes; tells unresolved
pending                         | NoAnswer                 | stays; inquire soon
pending at closing              | NoAnswer                 | stays; inquire soon
pending past grace              | NoAnswer                 | cancelling/t +blind; cancel now; tells cancelling
  in report mode                |                          | unresolved/no_answer; inquire in minutes; tells unresolved
pending past grace              | NoAnswer misconfigured   | unresolved/gateway_refuses_us; inquire in minutes; tells unresolved
  in report mode                |                          | unresolved/no_answer; inquire in minutes; tells unresolved
pending braked past grace       | NoAnswer                 | unresolved/brake; inquire in minutes; tells unresolved
  in report mode                |                          | unresolved/no_answer; inquire in minutes; tells unresolved
pending mismatched past grace   | NoAnswer                 | unresolved/amount_mismatch; inquire in minutes; tells unresolved
pending confirming past grace   | NoAnswer                 | unresolved/pending_expired; inquire in minutes; tells unresolved
pending                         | Mismatch                 | stays; inquire soon; tells amount_mismatch
pending                         | Mismatch by notification | stays; inquire now; tells amount_mismatch
pending at closing              | Mismatch                 | unresolved/amount_mismatch; inquire in minutes; tells amount_mismatch, unresolved
pending due                     | Mismatch                 | stays; inquire soon; tells amount_mismatch
pending                         | CancelConfirmed          | stays; inquire soon
pending                         | CancelRefused other      | stays; inquire soon
pending                         | Hint                     | stays; inquire now
pending                         | Known                    | stays; inquire soon
pending                         | Tick                     | stays; inquire soon
pending due                     | Tick                     | stays; sends inquiry

# pending, submitted by us: `pay` not sent yet, without an answer, the order made, refused

pending unsent                  | Paid                     | succeeded; rest; tells succeeded
pending unsent                  | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
pending unsent                  | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded
pending unsent                  | Failed                   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending unsent                  | Closed                   | cancelled; inquire soon; tells cancelled
pending unsent                  | Confirming               | stays, closing moved; inquire soon
pending unsent                  | NotYet                   | stays; pay now
  in report mode everywhere     |                          | stays; inquire soon
pending unsent                  | NotExist                 | stays; pay now
  in report mode everywhere     |                          | stays; inquire soon
pending unsent                  | CancelConfirmed          | stays; pay soon
pending unsent                  | CancelRefused other      | stays; pay soon
pending unsent                  | Mismatch                 | stays; pay now; tells amount_mismatch
  in report mode everywhere     |                          | stays; inquire soon; tells amount_mismatch
pending unsent                  | NoAnswer                 | stays; pay now
  in report mode everywhere     |                          | stays; inquire soon
pending unsent                  | Hint                     | stays; inquire now
pending unsent                  | Known                    | stays; pay soon
pending unsent                  | Tick                     | stays; pay soon
pending unsent due              | Tick                     | stays, pay open; sends pay
  in report mode everywhere     |                          | stays; sends inquiry
pending unsent at closing       | NotExist                 | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending unsent at closing       | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending unsent due at closing   | Tick                     | stays; sends inquiry
pending unanswered              | Paid                     | succeeded; rest; tells succeeded
pending unanswered              | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
pending unanswered              | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded
pending unanswered              | Failed                   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending unanswered              | Closed                   | cancelled; inquire soon; tells cancelled
pending unanswered              | Confirming               | stays, closing moved; inquire soon
pending unanswered              | NotYet                   | stays; pay soon
  in report mode everywhere     |                          | stays; inquire soon
pending unanswered              | NotExist                 | stays; pay soon
  in report mode everywhere     |                          | stays; inquire soon
pending unanswered              | CancelConfirmed          | stays; inquire soon
pending unanswered              | CancelRefused other      | stays; inquire soon
pending unanswered              | Mismatch                 | stays; pay soon; tells amount_mismatch
  in report mode everywhere     |                          | stays; inquire soon; tells amount_mismatch
pending unanswered              | NoAnswer                 | stays; pay soon
  in report mode everywhere     |                          | stays; inquire soon
pending unanswered              | Hint                     | stays; inquire now
pending unanswered              | Known                    | stays; inquire soon
pending unanswered              | Tick                     | stays; inquire soon
pending unanswered              | OrderCreated             | stays, pay created; inquire soon; tells submitted
pending unanswered              | PayRefused               | stays, pay refused; inquire now
pending unanswered              | PayRefused misconfigured | stays, pay refused; inquire now
pending unanswered              | Mismatch to pay          | stays, pay created; inquire now; tells amount_mismatch
pending unanswered              | NoAnswer to pay          | stays; inquire soon
pending unanswered due          | Tick                     | stays; sends inquiry
pending unanswered at closing   | NotExist                 | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending unanswered at closing   | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending unanswered at closing   | OrderCreated             | stays, pay created; inquire now; tells submitted
pending unanswered at closing   | PayRefused               | stays, pay refused; inquire now
pending created                 | Paid                     | succeeded; rest; tells succeeded
pending created                 | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
pending created                 | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded
pending created                 | Failed                   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending created                 | Closed                   | cancelled; inquire soon; tells cancelled
pending created                 | Confirming               | stays, closing moved; inquire soon
pending created                 | NotYet                   | stays; inquire soon
pending created                 | NotExist                 | stays; inquire soon
pending created                 | CancelConfirmed          | stays; inquire soon
pending created                 | CancelRefused other      | stays; inquire soon
pending created                 | Mismatch                 | stays; inquire soon; tells amount_mismatch
pending created                 | NoAnswer                 | stays; inquire soon
pending created                 | Hint                     | stays; inquire now
pending created                 | Known                    | stays; inquire soon
pending created                 | Tick                     | stays; inquire soon
pending created                 | OrderCreated             | stays; inquire soon
pending created                 | PayRefused               | stays; inquire soon
pending created                 | PayRefused misconfigured | stays; inquire soon
pending created                 | Mismatch to pay          | stays; inquire now; tells amount_mismatch
pending created                 | NoAnswer to pay          | stays; inquire soon
pending created at closing      | NotExist                 | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending created at closing      | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending refused                 | Paid                     | succeeded; rest; tells succeeded
pending refused                 | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
pending refused                 | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded
pending refused                 | Failed                   | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending refused                 | Closed                   | cancelled; inquire soon; tells cancelled
pending refused                 | Confirming               | stays, closing moved; inquire soon
pending refused                 | NotYet                   | stays, pay created; inquire soon
pending refused                 | NotExist                 | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending refused                 | CancelConfirmed          | stays; inquire soon
pending refused                 | CancelRefused other      | stays; inquire soon
pending refused                 | Mismatch                 | stays; inquire soon; tells amount_mismatch
pending refused                 | NoAnswer                 | stays; inquire soon
pending refused                 | Hint                     | stays; inquire now
pending refused                 | Known                    | stays; inquire soon
pending refused                 | Tick                     | stays; inquire soon
pending refused                 | OrderCreated             | stays, pay created; inquire soon; tells submitted
pending refused                 | PayRefused               | stays; inquire soon
pending refused                 | PayRefused misconfigured | stays; inquire soon
pending refused                 | Mismatch to pay          | stays, pay created; inquire now; tells amount_mismatch
pending refused                 | NoAnswer to pay          | stays; inquire soon
pending refused silent          | NotExist                 | stays; inquire after quiet
pending refused silent          | NotYet                   | stays, pay created; inquire soon
pending refused at closing      | NotExist                 | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending refused at closing      | NotYet                   | cancelling/t; cancel now; tells cancelling
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
pending refused braked at closing| NotExist                 | cancelling/f; cancel now; tells cancelling
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
pending created                 | cancel                   | cancelling/r; cancel now; tells cancelling
  in report mode                |                          | stays; inquire soon; tells rejected report_mode

# an answer to our pay when the payment has moved on

cancelling ftr none             | OrderCreated             | stays; cancel now
cancelling ftr none             | PayRefused               | stays; cancel now
cancelling ftr open             | OrderCreated             | stays; cancel in minutes
cancelling ftr open             | PayRefused               | stays; cancel in minutes
cancelling ftr refused other    | OrderCreated             | stays; cancel in minutes
cancelling ftr refused other    | PayRefused               | stays; cancel in minutes
cancelled due                   | OrderCreated             | stays; inquire now
cancelled due                   | PayRefused               | stays; inquire now
cancelled                       | OrderCreated             | stays; inquire now
cancelled                       | PayRefused               | stays; inquire in minutes
failed                          | OrderCreated             | stays; inquire now
failed                          | PayRefused               | stays; inquire in minutes
cancelled rested                | OrderCreated             | stays; inquire now
cancelled rested                | PayRefused               | stays; rest
cancelled taking back sent      | OrderCreated             | stays; cancel in minutes
cancelled taking back sent      | PayRefused               | stays; cancel in minutes
cancelled refund required       | OrderCreated             | stays; inquire now
cancelled refund required       | PayRefused               | stays; inquire in minutes
succeeded                       | OrderCreated             | stays; rest
succeeded                       | PayRefused               | stays; rest
unresolved                      | OrderCreated             | stays; inquire in minutes
unresolved                      | PayRefused               | stays; inquire in minutes
forgotten                       | OrderCreated             | stays; rest
forgotten                       | PayRefused               | stays; rest
cancelled                       | NoAnswer to pay          | stays; inquire in minutes
cancelled                       | Mismatch to pay          | stays; inquire in minutes
unresolved                      | NoAnswer to pay          | stays; inquire in minutes
unresolved                      | Mismatch to pay          | stays; inquire in minutes

# cancelling, cancelState none: decided, and nobody has taken the right to send it

cancelling t none               | Paid                     | succeeded +late; inquire soon; tells succeeded
cancelling f none               | Paid                     | succeeded; rest; tells succeeded, contradiction
cancelling r none               | Paid                     | succeeded; rest; tells succeeded, rejected already_final
cancelling t none               | PaidBack part            | succeeded +late +partly_refunded; inquire soon; tells succeeded, partly_refunded
cancelling f none               | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded, contradiction
cancelling r none               | PaidBack part            | succeeded +partly_refunded; rest; tells succeeded, partly_refunded, rejected already_final
cancelling ftr none             | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
cancelling f none               | Failed                   | stays; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | Failed                   | cancelling/f; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling r none               | Failed                   | cancelling/f; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling f none               | Closed                   | failed; inquire soon; tells failed
cancelling tr none              | Closed                   | cancelled; inquire soon; tells cancelled
cancelling t none               | Confirming               | pending, closing moved; inquire soon
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling t none confirming    | Confirming               | unresolved/pending_expired; inquire in minutes; tells unresolved
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling f none               | Confirming               | stays; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling r none               | Confirming               | stays; cancel now
  in report mode                |                          | pending; inquire now; tells rejected report_mode
cancelling f none               | NotYet                   | stays; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | NotYet                   | stays; cancel now
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling r none               | NotYet                   | stays; cancel now
  in report mode                |                          | pending; inquire now; tells rejected report_mode
cancelling f none               | NotExist                 | stays; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | NotExist                 | stays; cancel now
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling r none               | NotExist                 | stays; cancel now
  in report mode                |                          | pending; inquire now; tells rejected report_mode
cancelling f none               | NoAnswer                 | stays; cancel now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | NoAnswer                 | stays; cancel now
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling r none               | NoAnswer                 | stays; cancel now
  in report mode                |                          | pending; inquire now; tells rejected report_mode
cancelling ft none              | Mismatch                 | unresolved/amount_mismatch; inquire in minutes; tells amount_mismatch, unresolved
  in report mode                |                          | unresolved/amount_mismatch; inquire in minutes; tells amount_mismatch, unresolved
cancelling r none               | Mismatch                 | stays; cancel now; tells amount_mismatch
  in report mode                |                          | pending; inquire now; tells amount_mismatch, rejected report_mode
cancelling f none               | Hint                     | stays; inquire now
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | Hint                     | stays; inquire now
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling r none               | Hint                     | stays; inquire now
  in report mode                |                          | pending; inquire now; tells rejected report_mode
cancelling t none hinted        | NoAnswer                 | stays; inquire soon
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling t none hinted        | NotYet                   | stays; cancel now
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling ftr none             | Known                    | stays; cancel now
cancelling f none               | Tick                     | stays, open; sends cancel
  in report mode                |                          | failed +not_cancelled; inquire soon; tells failed
cancelling t none               | Tick                     | stays, open; sends cancel
  in report mode                |                          | unresolved/report; inquire in minutes; tells unresolved
cancelling r none               | Tick                     | stays, open; sends cancel
  in report mode                |                          | pending; inquire now; tells rejected report_mode

# cancelling, cancelState open: a cancel may be on its way

cancelling ftr open             | Paid                     | stays, paidSeen; cancel in minutes
  in report mode                |                          | stays, paidSeen; inquire soon
cancelling ftr open             | PaidBack part            | stays, paidSeen; cancel in minutes
  in report mode                |                          | stays, paidSeen; inquire soon
cancelling f open               | PaidBack all             | failed; inquire soon; tells failed
cancelling tr open              | PaidBack all             | cancelled; inquire soon; tells cancelled
cancelling ftr open paidSeen    | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
cancelling ftr open             | Failed                   | failed; inquire soon; tells failed
cancelling ftr open paidSeen    | Failed                   | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling f open               | Closed                   | failed; inquire soon; tells failed
cancelling tr open              | Closed                   | cancelled; inquire soon; tells cancelled
cancelling ftr open paidSeen    | Closed                   | cancelled +refunded; inquire soon; tells cancelled
cancelling ftr open             | Confirming               | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling ftr open             | NotYet                   | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling ftr open             | NotExist                 | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling ftr open             | NoAnswer                 | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling ftr just sent        | NoAnswer to cancel       | stays; cancel soon
  in report mode                |                          | stays; inquire after quiet
cancelling ftr open             | Mismatch                 | stays; cancel in minutes; tells amount_mismatch
  in report mode                |                          | stays; inquire soon; tells amount_mismatch
cancelling ftr open             | Hint                     | stays; cancel in minutes
cancelling ftr open             | Known                    | stays; cancel in minutes
cancelling ftr open             | Tick                     | stays; cancel in minutes
cancelling ftr open due         | Tick                     | stays; sends cancel
  in report mode                |                          | stays; sends inquiry
cancelling f just sent          | CancelConfirmed          | failed, confirmed; inquire soon; tells failed
cancelling tr just sent         | CancelConfirmed          | cancelled, confirmed; inquire soon; tells cancelled
cancelling ftr just sent paidSeen | CancelConfirmed          | cancelled +refunded, confirmed; inquire soon; tells cancelled
cancelling ftr just sent        | CancelRefused window     | stays, refused; inquire now
cancelling ftr just sent        | CancelRefused not_exist  | stays, refused; inquire now
cancelling ftr just sent        | CancelRefused other      | stays, refused; inquire now
cancelling f open limit         | NoAnswer                 | failed +cancel_unconfirmed; inquire soon; tells failed
  in report mode                |                          | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling f open limit         | NotYet                   | failed +cancel_unconfirmed; inquire soon; tells failed
  in report mode                |                          | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling f open limit         | Tick                     | failed +cancel_unconfirmed; inquire soon; tells failed
  in report mode                |                          | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling f open limit         | Paid                     | unresolved/cancel_limit, paidSeen; inquire in minutes; tells unresolved
cancelling f open limit         | Mismatch                 | unresolved/cancel_limit; inquire in minutes; tells amount_mismatch, unresolved
  in report mode                |                          | unresolved/cancel_limit; inquire in minutes; tells amount_mismatch, unresolved
cancelling f open limit paidSeen | NoAnswer                 | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling tr open limit        | NoAnswer                 | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling tr open limit        | NotYet                   | unresolved/cancel_limit; inquire in minutes; tells unresolved
cancelling tr open limit        | Tick                     | unresolved/cancel_limit; inquire in minutes; tells unresolved

# cancelling, cancelState refused: inquiries asked after the refusal decide

cancelling t refused            | Paid                     | succeeded +late; inquire soon; tells succeeded
cancelling f refused            | Paid                     | succeeded +late; inquire soon; tells succeeded, contradiction
cancelling r refused            | Paid                     | succeeded +late; inquire soon; tells succeeded, rejected already_final
cancelling t refused            | PaidBack part            | succeeded +late +partly_refunded; inquire soon; tells succeeded, partly_refunded
cancelling ftr refused          | PaidBack all             | cancelled +refunded; inquire soon; tells cancelled
cancelling ftr refused          | Failed                   | failed; inquire soon; tells failed
cancelling ftr refused paidSeen | Failed                   | failed; inquire soon; tells failed
cancelling f refused            | Closed                   | failed; inquire soon; tells failed
cancelling tr refused           | Closed                   | cancelled; inquire soon; tells cancelled
cancelling ftr refused paidSeen | Closed                   | cancelled +refunded; inquire soon; tells cancelled
cancelling ftr refused          | Confirming               | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling ftr refused window   | Confirming               | unresolved/cancel_window; inquire in minutes; tells unresolved
cancelling ftr refused          | NotYet                   | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling f refused window     | NotYet                   | failed; inquire soon; tells failed
cancelling tr refused window    | NotYet                   | unresolved/cancel_window; inquire in minutes; tells unresolved
cancelling f refused            | NotExist                 | failed; inquire soon; tells failed
cancelling f refused not_exist  | NotExist                 | failed; inquire soon; tells failed
cancelling tr refused           | NotExist                 | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling tr refused window    | NotExist                 | stays; cancel in minutes
  in report mode                |                          | stays; inquire soon
cancelling tr refused not_exist | NotExist                 | stays; inquire in minutes
cancelling tr refused not_exist twice | NotExist                 | stays; inquire in minutes
cancelling tr refused not_exist twice settled | NotExist                 | cancelled +not_found; inquire soon; tells cancelled
cancelling t refused not_exist twice settled braked | NotExist                 | unresolved/brake; inquire in minutes; tells unresolved
cancelling ftr refused          | NoAnswer                 | stays; inquire soon
cancelling ftr refused          | Mismatch                 | unresolved/amount_mismatch; inquire in minutes; tells amount_mismatch, unresolved
cancelling ftr refused          | Hint                     | stays; inquire now
cancelling ftr refused          | Known                    | stays; cancel in minutes
cancelling ftr refused          | Tick                     | stays; cancel in minutes
cancelling ftr refused due      | Tick                     | stays, open; sends cancel
  in report mode                |                          | stays; sends inquiry
cancelling f refused            | CancelConfirmed          | failed, confirmed; inquire soon; tells failed
cancelling tr refused           | CancelConfirmed          | cancelled, confirmed; inquire soon; tells cancelled
cancelling ftr refused paidSeen | CancelConfirmed          | cancelled +refunded, confirmed; inquire soon; tells cancelled
cancelling ftr refused limit    | NotYet                   | unresolved/cancel_refused; inquire in minutes; tells unresolved
cancelling ftr refused limit    | NoAnswer                 | unresolved/cancel_refused; inquire in minutes; tells unresolved
cancelling ftr refused limit    | Tick                     | unresolved/cancel_refused; inquire in minutes; tells unresolved
cancelling t refused limit      | Paid                     | succeeded +late; inquire soon; tells succeeded

# succeeded: the status stays

succeeded due                   | Paid                     | stays; rest
succeeded due                   | PaidBack all             | stays; rest; tells reversed_after_success
succeeded due                   | PaidBack part            | stays; rest; tells partly_refunded
succeeded due                   | Failed                   | stays; rest; tells reversed_after_success
succeeded due                   | Closed                   | stays; rest; tells reversed_after_success
succeeded due                   | Confirming               | stays; rest
succeeded due                   | NotYet                   | stays; rest
succeeded due                   | NotExist                 | stays; rest
succeeded                       | NoAnswer                 | stays; inquire soon
succeeded due                   | Mismatch                 | stays; rest; tells amount_mismatch
succeeded                       | Hint                     | stays; inquire now
succeeded                       | Known                    | stays; rest
succeeded                       | Tick                     | stays; rest
succeeded due                   | Tick                     | stays; sends inquiry
succeeded                       | CancelConfirmed          | stays; rest; tells reversed_after_success
succeeded                       | CancelRefused other      | stays; rest

# cancelled and failed: aftercare, the status stays

cancelled due                   | Paid                     | stays, taking back; cancel now; tells paid_after_cancel
  in report mode                |                          | stays, refund required; inquire in minutes; tells paid_after_cancel, refund_required
failed                          | Paid                     | stays, taking back; cancel now; tells paid_after_failure
  in report mode                |                          | stays, refund required; inquire in minutes; tells paid_after_failure, refund_required
cancelled due                   | PaidBack part            | stays, taking back; cancel now; tells paid_after_cancel
  in report mode                |                          | stays, refund required; inquire in minutes; tells paid_after_cancel, refund_required
cancelled due                   | PaidBack all             | stays; inquire in minutes
cancelled due                   | Failed                   | stays; inquire in minutes
cancelled due                   | Closed                   | stays; inquire in minutes
cancelled due                   | NotYet                   | stays; inquire in minutes
cancelled due                   | NotExist                 | stays; inquire in minutes
cancelled due                   | Confirming               | stays; inquire in hours
cancelled due                   | NoAnswer                 | stays; inquire soon
cancelled due                   | Mismatch                 | stays; inquire in minutes; tells amount_mismatch
cancelled                       | Hint                     | stays; inquire now
cancelled                       | Known                    | stays; inquire in minutes
cancelled                       | Tick                     | stays; inquire in minutes
cancelled                       | CancelConfirmed          | stays; inquire in minutes
cancelled                       | CancelRefused other      | stays; inquire in minutes
cancelled due                   | Tick                     | stays; sends inquiry
cancelled rested                | Hint                     | stays; inquire now
cancelled rested                | Paid                     | stays, taking back; cancel now; tells paid_after_cancel
  in report mode                |                          | stays, refund required; inquire in minutes; tells paid_after_cancel, refund_required
cancelled rested                | Closed                   | stays; rest
cancelled taking back due       | Tick                     | stays, open; sends cancel
  in report mode                |                          | stays; sends inquiry
cancelled taking back sent      | CancelConfirmed          | stays, confirmed, closed; inquire soon; tells refund_confirmed
cancelled taking back sent      | CancelRefused window     | stays, refused, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | CancelRefused other      | stays, refused, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | PaidBack all             | stays, confirmed, closed; inquire soon; tells refund_confirmed
cancelled taking back sent      | Closed                   | stays, confirmed, closed; inquire soon; tells refund_confirmed
cancelled taking back sent      | Failed                   | stays, confirmed, closed; inquire soon; tells refund_confirmed
cancelled taking back sent      | Paid                     | stays; cancel in minutes
  in report mode                |                          | stays, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | NotYet                   | stays; cancel in minutes
  in report mode                |                          | stays, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | NoAnswer to cancel       | stays; cancel in minutes
  in report mode                |                          | stays, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | PaidBack part            | stays; cancel in minutes
  in report mode                |                          | stays, refund required; inquire in minutes; tells refund_required
cancelled taking back sent      | Mismatch                 | stays; cancel in minutes; tells amount_mismatch
  in report mode                |                          | stays, refund required; inquire in minutes; tells amount_mismatch, refund_required
cancelled taking back sent      | Hint                     | stays; cancel in minutes
cancelled taking back sent limit | Tick                     | stays, refund required; inquire in minutes; tells refund_required
cancelled taking back sent limit | NoAnswer to cancel       | stays, refund required; inquire in minutes; tells refund_required
cancelled refund required       | PaidBack all             | stays, closed; inquire soon; tells refund_confirmed
cancelled refund required       | Closed                   | stays, closed; inquire soon; tells refund_confirmed
cancelled refund required       | Failed                   | stays, closed; inquire soon; tells refund_confirmed
cancelled refund required       | CancelConfirmed          | stays; inquire in minutes
cancelled refund required       | Paid                     | stays; inquire in hours
cancelled refund required       | PaidBack part            | stays; inquire in hours
cancelled refund required       | NoAnswer                 | stays; inquire in hours
cancelled refund required       | Hint                     | stays; inquire now
cancelled refund required       | Mismatch                 | stays; inquire in hours; tells amount_mismatch

# unresolved: a final word ends it, marked late

unresolved                      | Paid                     | succeeded +late; inquire soon; tells succeeded
unresolved f refused            | Paid                     | succeeded +late; inquire soon; tells succeeded, contradiction
unresolved r refused            | Paid                     | succeeded +late; inquire soon; tells succeeded, rejected already_final
unresolved                      | PaidBack all             | cancelled +late +refunded; inquire soon; tells cancelled
unresolved                      | PaidBack part            | succeeded +late +partly_refunded; inquire soon; tells succeeded, partly_refunded
unresolved                      | Failed                   | failed +late; inquire soon; tells failed
unresolved t open paidSeen      | Failed                   | stays; inquire in hours
unresolved                      | Closed                   | cancelled +late; inquire soon; tells cancelled
unresolved f open               | Closed                   | failed +late; inquire soon; tells failed
unresolved t open paidSeen      | Closed                   | cancelled +late +refunded; inquire soon; tells cancelled
unresolved                      | Confirming               | stays; inquire in hours
unresolved                      | NotYet                   | stays; inquire in hours
unresolved                      | NotExist                 | stays; inquire in hours
unresolved                      | NoAnswer                 | stays; inquire in hours
unresolved                      | Mismatch                 | stays; inquire in hours; tells amount_mismatch
unresolved                      | Hint                     | stays; inquire now
unresolved                      | Known                    | stays; inquire in minutes
unresolved                      | Tick                     | stays; inquire in minutes
unresolved due                  | Tick                     | stays; sends inquiry
unresolved t open               | CancelConfirmed          | cancelled +late, confirmed; inquire soon; tells cancelled
unresolved f open               | CancelConfirmed          | failed +late, confirmed; inquire soon; tells failed
unresolved t open               | CancelRefused other      | stays, refused; inquire in minutes

# forgotten: nothing is heard any more

forgotten                       | Paid                     | stays; rest
forgotten                       | Failed                   | stays; rest
forgotten                       | NoAnswer                 | stays; rest
forgotten                       | Hint                     | stays; rest
forgotten                       | Tick                     | stays; rest

# commands

pending                         | track again              | stays; inquire soon
cancelling ftr none             | track again              | stays; cancel now
succeeded                       | track again              | stays; rest; tells succeeded
failed                          | track again              | stays; inquire in minutes; tells failed
cancelled                       | track again              | stays; inquire in minutes; tells cancelled
forgotten                       | track again              | stays; rest; tells forgotten
unresolved                      | track again              | stays; inquire in minutes
pending                         | track other amount       | stays; inquire soon; tells rejected conflict
cancelling ftr none             | track other amount       | stays; cancel now; tells rejected conflict
succeeded                       | track other amount       | stays; rest; tells rejected conflict
failed                          | track other amount       | stays; inquire in minutes; tells rejected conflict
cancelled                       | track other amount       | stays; inquire in minutes; tells rejected conflict
forgotten                       | track other amount       | stays; rest; tells rejected conflict
unresolved                      | track other amount       | stays; inquire in minutes; tells rejected conflict
pending                         | cancel                   | cancelling/r; cancel now; tells cancelling
  in report mode                |                          | stays; inquire soon; tells rejected report_mode
cancelling ftr none             | cancel                   | stays; cancel now
cancelling ftr open             | cancel                   | stays; cancel in minutes
succeeded                       | cancel                   | stays; rest; tells rejected already_final
failed                          | cancel                   | stays; inquire in minutes
cancelled                       | cancel                   | stays; inquire in minutes
forgotten                       | cancel                   | stays; rest; tells rejected already_final
unresolved                      | cancel                   | cancelling/r; cancel now; tells cancelling
  in report mode                |                          | stays; inquire in minutes; tells rejected report_mode
unresolved t open limit         | cancel                   | cancelling/r, limits restart; cancel now; tells cancelling
  in report mode                |                          | stays; inquire in minutes; tells rejected report_mode
pending                         | recheck                  | stays; inquire now
cancelling ftr open             | recheck                  | stays; cancel now
succeeded                       | recheck                  | stays; inquire now
failed                          | recheck                  | stays; inquire now
cancelled                       | recheck                  | stays; inquire now
cancelled refund required       | recheck                  | stays; inquire now
cancelled taking back sent      | recheck                  | stays; cancel now
failed taking back sent         | recheck                  | stays; cancel now
failed just cancelled           | recheck                  | stays; inquire after quiet
forgotten                       | recheck                  | stays; rest; tells rejected already_final
unresolved                      | recheck                  | stays; inquire now
pending                         | forget                   | forgotten; rest; tells forgotten
cancelling ftr none             | forget                   | stays; cancel now; tells rejected conflict
succeeded                       | forget                   | stays; erases
failed                          | forget                   | stays; erases
cancelled                       | forget                   | stays; erases
cancelled taking back sent      | forget                   | stays; cancel in minutes; tells rejected conflict
failed just cancelled           | forget                   | stays; inquire in minutes; tells rejected conflict
cancelled refund required       | forget                   | stays; inquire in minutes; tells rejected conflict
forgotten                       | resolve                  | stays; rest; tells rejected conflict
forgotten                       | forget                   | stays; erases
unresolved                      | forget                   | forgotten; rest; tells forgotten
pending                         | resolve                  | stays; inquire soon; tells rejected conflict
cancelling ftr none             | resolve                  | stays; cancel now; tells rejected conflict
succeeded                       | resolve                  | stays; rest; tells rejected conflict
failed                          | resolve                  | stays; inquire in minutes; tells rejected conflict
cancelled                       | resolve                  | stays; inquire in minutes; tells rejected conflict
cancelled refund required       | resolve                  | stays, closed; rest; tells refund_confirmed
unresolved                      | resolve                  | succeeded +resolved; rest; tells succeeded
pending unsent                  | submit again             | stays; pay soon
pending unanswered              | submit again             | stays; inquire soon
pending created                 | submit again             | stays; inquire soon; tells submitted
pending refused                 | submit again             | stays; inquire soon
pending created                 | submit other order       | stays; inquire soon; tells rejected conflict
pending created                 | submit other amount      | stays; inquire soon; tells rejected conflict
pending created                 | track again              | stays; inquire soon
pending created                 | track other amount       | stays; inquire soon; tells rejected conflict
pending                         | submit again             | stays; inquire soon; tells rejected conflict
succeeded submitted             | submit again             | stays; rest; tells succeeded
failed submitted                | submit again             | stays; inquire in minutes; tells failed
cancelled submitted             | submit again             | stays; inquire in minutes; tells cancelled
forgotten submitted             | submit again             | stays; rest; tells forgotten
unresolved submitted            | submit again             | stays; inquire in minutes
cancelled submitted             | submit other order       | stays; inquire in minutes; tells rejected conflict
cancelling ftr none submitted   | submit again             | stays; cancel now
"""

#: What cannot be heard where, so that the table has no cell for it.
NEVER = {
    ("pending", "OrderCreated"): "no pay was sent",
    ("pending", "PayRefused"): "no pay was sent",
    ("pending unsent", "OrderCreated"): "no pay was sent",
    ("pending unsent", "PayRefused"): "no pay was sent",
    ("cancelling none", "CancelConfirmed"): "no cancel was sent",
    ("cancelling none", "CancelRefused"): "no cancel was sent",
    ("cancelling refused", "CancelRefused"): "the refusal has been heard",
}

# Reading the table

REPORT = "in report mode"
EVERYWHERE = "in report mode everywhere"


@dataclass(frozen=True)
class Cell:
    """One row: in both modes, unless a row beneath speaks of report mode."""

    start: str
    heard: str
    mode: str  #: cancel, report (this payment) or deployment (all payments report)
    then: str

    @property
    def name(self) -> str:
        return f"{self.start} | {self.heard} | {self.mode}"


def cells() -> Iterator[Cell]:
    """Every cell of the table, one for each cause and mode."""
    rows = [_columns(row) for row in TABLE.splitlines() if "|" in row]
    for number, (start, heard, then) in enumerate(rows):
        if start in (REPORT, EVERYWHERE):
            continue
        below = {row[0]: row[2] for row in _beneath(rows[number + 1 :])}
        reported = below.get(REPORT, then)
        for one in _each_cause(start):
            yield Cell(one, heard, "cancel", then)
            yield Cell(one, heard, "report", reported)
            yield Cell(one, heard, "deployment", below.get(EVERYWHERE, reported))


def _beneath(rows: list[list[str]]) -> Iterator[list[str]]:
    """The rows that speak of the modes of the row above them."""
    for row in rows:
        if row[0] not in (REPORT, EVERYWHERE):
            return
        yield row


def _columns(row: str) -> list[str]:
    return [column.strip() for column in row.split("|")]


def _each_cause(start: str) -> Iterator[str]:
    status, *words = start.split()
    if status == "cancelling":
        causes, *words = words
        for cause in causes:
            yield " ".join([status, cause, *words])
    else:
        yield start


# Where a payment stands

T0: Ms = 1_800_000_000_000
CLOSING: Ms = T0 + 840 * SECOND
POLICY = Policy()
USD = Money("USD", 599)
BODY = '{"productCode":"IN_STORE_PAYMENT"}'
CASHIER = "https://cashier.example/1"
CAUSES = {"f": Cause.FAILED, "t": Cause.TIMED_OUT, "r": Cause.REQUESTED}

FRESH = Payment(
    client_id="SANDBOX_5X00000000000000",
    payment_request_id="pay_1",
    amount=USD,
    tracked_at=T0,
    closing_time=CLOSING,
    tried_at=T0,
)


@dataclass(frozen=True)
class Scene:
    """A payment somewhere in its life, the moment, and the policy of its account."""

    payment: Payment
    now: Ms
    policy: Policy = field(default=POLICY)


def place(start: str, mode: str = "cancel") -> Scene:
    """The scene that the first column of the table names."""
    status, *words = start.split()
    scene = {
        Status.PENDING: _pending,
        Status.CANCELLING: _cancelling,
        Status.UNRESOLVED: _unresolved,
    }.get(Status(status), partial(_ended, Status(status)))(words)
    p, policy = scene.payment, replace(scene.policy, braked="braked" in words)
    if "due" in words:
        p = replace(p, next_at=scene.now)
    if "submitted" in words:
        p = replace(p, pay_digest="digest_1")
    if mode == "report":
        p = replace(p, on_timeout=OnTimeout.REPORT)
    return Scene(p, scene.now, replace(policy, report=mode == "deployment"))


def _pending(words: list[str]) -> Scene:
    p, now = FRESH, T0 + 100 * SECOND
    if "confirming" in words:
        p = replace(p, confirming_since=T0 + 50 * SECOND, closing_time=T0 + 7 * DAY)
    if "mismatched" in words:
        p = replace(p, told=("attention.amount_mismatch=USD 1",), seq=1)
    p = _submitted(p, now, words)
    if "closing" in words:
        now = p.closing_time + SECOND
    if "grace" in words:
        now = p.closing_time + POLICY.last_inquiry_grace + MINUTE
        p = replace(p, tried_for=POLICY.last_inquiry_grace, tried_at=now, unanswered=20)
    return Scene(replace(p, next_at=now + 10 * SECOND), now)


SUBMITTED = ("unsent", "unanswered", "created", "refused")  #: what became of our pay


def _submitted(p: Payment, now: Ms, words: list[str]) -> Payment:
    """Where our own pay stands; `silent`: an earlier one got no answer."""
    if not set(words) & set(SUBMITTED):
        return p
    p = replace(p, pay_request=BODY, pay_digest="digest_1", next_act=Act.PAY)
    if "unsent" in words:
        return p
    sent = replace(p, pay_attempts=2, last_pay_at=now - SECOND, next_act=Act.INQUIRE)
    if "silent" in words:
        sent = replace(sent, silent_pay_at=now - 10 * SECOND)
    if "unanswered" in words:
        return replace(sent, submit_state=SubmitState.OPEN)
    if "refused" in words:
        return replace(
            sent, submit_state=SubmitState.REFUSED, pay_request="", pay_code="RISK_REJECT"
        )
    sent = replace(sent, redirect_url=CASHIER, redirect_method="GET", found=True)
    return replace(sent, submit_state=SubmitState.CREATED, pay_request="")


def _cancelling(words: list[str]) -> Scene:
    cause, *words = words
    now = CLOSING + SECOND if cause == "t" else T0 + 100 * SECOND
    p = replace(
        FRESH,
        status=Status.CANCELLING,
        cause=CAUSES[cause],
        tried_at=now - SECOND,
        told=("cancelling",),
        seq=1,
    )
    if cause == "r":
        p = replace(p, cancel_command="order_1")
    if "confirming" in words:
        p = replace(p, confirming_since=T0)
    p = replace(p, next_act=Act.CANCEL, next_at=now)
    if "hinted" in words:
        p = replace(p, next_act=Act.INQUIRE)
    return _after_cancels(p, now, words)


def _unresolved(words: list[str]) -> Scene:
    p = replace(FRESH, status=Status.UNRESOLVED, reason="report", told=("unresolved",), seq=1)
    now = CLOSING + SECOND
    p = replace(p, phase_since=now)
    if words and words[0] in CAUSES:
        p = replace(p, cause=CAUSES[words[0]], reason="cancel_limit", cancel_command="order_1")
    scene = _after_cancels(p, now, words)
    p = replace(scene.payment, next_act=Act.INQUIRE, next_at=scene.now + 10 * MINUTE)
    return Scene(p, scene.now)


def _after_cancels(p: Payment, now: Ms, words: list[str]) -> Scene:
    """A few cancels were sent, the last of them two minutes ago, unless the words say otherwise."""
    ago = SECOND if "just" in words else 130 * SECOND
    if {"open", "refused", "just"} & set(words):
        tries = 2 if "just" in words and "far" not in words else 8
        p = replace(p, cancel_state=CancelState.OPEN, first_cancel_at=T0, last_cancel_at=now - ago)
        p = replace(p, tries=tries, cancel_attempts=8, asked_at=now - 5 * SECOND)
        p = replace(p, next_act=Act.CANCEL, next_at=now + 2 * MINUTE, tried_at=now - ago)
    if "refused" in words:
        why = Refusal(next((word for word in ("window", "not_exist") if word in words), "other"))
        p = replace(p, cancel_state=CancelState.REFUSED, cancel_refusal=why)
        p = replace(p, cancel_answered_at=now - ago + SECOND)
    if "paidSeen" in words:
        p = replace(p, paid_seen=True)
    if "limit" in words:
        p = replace(p, tried_for=POLICY.cancel_limit)
    if "twice" in words:
        p = replace(p, not_found=2)
    if "settled" in words:
        now = CLOSING + POLICY.not_found_settle + 5 * MINUTE
    return Scene(p, now)


def _ended(status: Status, words: list[str]) -> Scene:
    """Ended half an hour ago; `failed` and `cancelled` wait for the inquiry of the full hour."""
    ended = CLOSING + SECOND
    now = ended + 30 * MINUTE
    p = replace(FRESH, status=status, final_at=ended, seq=1, tried_at=now - MINUTE)
    p = replace(p, phase_since=ended)
    if status not in (Status.FAILED, Status.CANCELLED):
        return Scene(p, now)
    p = replace(p, aftercare=Aftercare.WATCHING, next_at=ended + 60 * MINUTE, tries=2)
    if "just" in words:
        p = _after_cancels(p, now, words).payment
        p = replace(p, next_act=Act.INQUIRE)
    if "rested" in words:
        now = ended + 3 * DAY
        p = replace(p, aftercare=Aftercare.NONE, next_at=None)
    if "taking" in words:
        p = replace(p, aftercare=Aftercare.CANCELLING, next_act=Act.CANCEL, next_at=now)
        p = replace(p, told=("attention.paid_after_cancel=0",))
    if "sent" in words:
        now = ended + 2 * 60 * MINUTE
        p = _after_cancels(p, now, ["open", *words]).payment
    if "required" in words:
        now = ended + 2 * 60 * MINUTE
        p = replace(p, aftercare=Aftercare.REFUND_REQUIRED, next_at=now + 10 * MINUTE)
        p = replace(p, told=("attention.refund_required=0",), tries=0)
    return Scene(p, now)


# What is heard

HEARD = {kind.__name__: kind for kind in (Paid, Failed, Closed, Confirming, NotYet, NotExist)}
PLAIN: dict[str, News] = {"Hint": Hint(), "Known": Known(), "Tick": Tick()}


def word(heard: str, scene: Scene) -> News:
    """The news that the second column of the table names, asked and answered just now."""
    kind, _, more = heard.partition(" ")
    if kind in PLAIN:
        return PLAIN[kind]
    return _answer(kind, more, scene.now) or _command(kind, more, scene.now)


def _answer(kind: str, more: str, now: Ms) -> News | None:
    via = Via.NOTIFICATION if more == "by notification" else Via.INQUIRY
    facts = Facts(via=via, asked_at=0 if via is Via.NOTIFICATION else now, code="SUCCESS")
    if kind in HEARD:
        return HEARD[kind](facts)
    match kind:
        case "PaidBack":
            return PaidBack(facts, whole=more == "all")
        case "OrderCreated":
            return OrderCreated(replace(facts, via=Via.PAY), CASHIER, "GET")
        case "PayRefused":
            return PayRefused(replace(facts, via=Via.PAY), misconfigured=more == "misconfigured")
        case "CancelConfirmed":
            return CancelConfirmed(replace(facts, via=Via.CANCEL))
        case "CancelRefused":
            return CancelRefused(replace(facts, via=Via.CANCEL), Refusal(more))
        case _:
            return _no_use(kind, more, facts.asked_at)


def _no_use(kind: str, more: str, asked_at: Ms) -> News | None:
    to_pay = more == "to pay"
    match kind:
        case "Mismatch":
            wrong: dict[str, Any] = {"kind": "amount_mismatch", "value": "USD 5"}
            return Mismatch(asked_at=asked_at, to_pay=to_pay, **wrong)
        case "NoAnswer":
            to_cancel, misconfigured = more == "to cancel", more == "misconfigured"
            how = {"to_cancel": to_cancel, "to_pay": to_pay, "misconfigured": misconfigured}
            return NoAnswer(why="timeout", asked_at=asked_at, **how)
        case _:
            return None


def _command(kind: str, more: str, now: Ms) -> Command:
    amount = Money("USD", 600) if more == "other amount" else USD
    return command(kind, now, amount, "digest_2" if more == "other order" else "digest_1")


def command(name: str, now: Ms, amount: Money = USD, digest: str = "digest_1") -> Command:
    """What the merchant or an operator wants of the payment of all scenes."""
    if name == "resolve":
        return Resolve(id="order_2", status=Status.SUCCEEDED, who="ops", why="seen in the bank")
    who, which = FRESH.client_id, FRESH.payment_request_id
    if name == "submit":
        told: dict[str, Any] = {"client_id": who, "payment_request_id": which, "amount": amount}
        return Submit(id="order_2", at=now, form=BODY, digest=digest, **told)
    if name == "track":
        return Track(id="order_2", at=now, client_id=who, payment_request_id=which, amount=amount)
    ask = Ask(f"payment.{name}")
    return Order(id="order_2", at=now, ask=ask, client_id=who, payment_request_id=which)


# What becomes of it, in the words of the third column


def said(before: Payment, decision: Decision, now: Ms) -> str:
    """A decision in the words of the table."""
    p = decision.payment
    status = "stays" if (p.status, p.cause) == (before.status, before.cause) else _status(p)
    marks = [f"+{mark}" for mark in sorted(set(p.marks) - set(before.marks))]
    head = ", ".join([" ".join([status, *marks]), *_learned(before, p)])
    told = ", ".join(_told(event) for event in decision.events)
    return "; ".join([head, _next(decision, now), *([f"tells {told}"] if told else [])])


def _status(p: Payment) -> str:
    if p.status is Status.CANCELLING and p.cause:
        return f"cancelling/{p.cause.value[0]}"
    return f"unresolved/{p.reason}" if p.status is Status.UNRESOLVED else p.status.value


def _learned(before: Payment, p: Payment) -> Iterator[str]:
    if p.closing_time != before.closing_time:
        yield "closing moved"
    if p.paid_seen and not before.paid_seen:
        yield "paidSeen"
    if (
        before.tried_for >= POLICY.cancel_limit
        and p.status is Status.CANCELLING
        and not p.tried_for
    ):
        yield "limits restart"
    if p.submit_state is not before.submit_state:
        yield f"pay {p.submit_state.value}"
    if p.cancel_state is not before.cancel_state:
        yield p.cancel_state.value
    if p.aftercare is not before.aftercare and before.status is p.status:
        names = {Aftercare.CANCELLING: "taking back", Aftercare.REFUND_REQUIRED: "refund required"}
        if p.aftercare in names or before.aftercare in names:
            yield names.get(p.aftercare, "closed")


def _next(decision: Decision, now: Ms) -> str:
    p = decision.payment
    if decision.act is not Act.WAIT:
        names = {Act.INQUIRE: "sends inquiry", Act.PAY: "sends pay", Act.CANCEL: "sends cancel"}
        return names.get(decision.act, "erases")
    if p.next_at is None:
        return "rest"
    return f"{p.next_act.value} {_when(p, p.next_at, now)}"


def _when(p: Payment, at: Ms, now: Ms) -> str:
    if at <= now:
        return "now"
    if p.cancel_state is CancelState.OPEN and at == (p.last_cancel_at or 0) + POLICY.cancel_quiet:
        return "after quiet"
    if p.silent_pay_at and at == p.silent_pay_at + POLICY.cancel_quiet:
        return "after quiet"
    if at <= now + 75 * SECOND:
        return "soon"
    return "in minutes" if at <= now + 40 * MINUTE else "in hours"


def _told(event: Event | Rejected) -> str:
    if isinstance(event, Rejected):
        return f"rejected {event.reason}"
    return event.kind or event.name.partition(".")[0]


# Stories: longer than one cell


class Life:
    """A payment followed through its life, on a clock wound by hand."""

    def __init__(self, payment: Payment, now: Ms = T0, policy: Policy = POLICY) -> None:
        self.payment, self.now, self.policy = payment, now, policy
        self.told: list[str] = []
        self.events: list[Event | Rejected] = []
        self.alarms: list[str] = []
        self.cancels: list[Ms] = []
        self.wakes = 0

    def hear(self, message: Message) -> Decision:
        """Judge a message, decide, and write down what was decided."""
        return self.decide(hear(self.payment, message, self.now, self.policy))

    def decide(self, news: News) -> Decision:
        decision = decide(self.payment, news, self.now, self.policy)
        self.payment = decision.payment
        self.events += decision.events
        self.told += [_told(event) for event in decision.events]
        self.alarms += decision.alarms
        if decision.act is Act.CANCEL:
            self.cancels.append(self.now)
        return decision

    def wake(self, late: Ms = 0) -> Act:
        """Wind the clock to what is due next, or `late` after it, and start it."""
        self.wind(late)
        return self.decide(Tick()).act

    def wind(self, late: Ms = 0) -> None:
        assert self.payment.next_at is not None, "nothing is due any more"
        self.wakes += 1
        assert self.wakes < 5000, "a busy loop"
        self.now = max(self.now, self.payment.next_at + late)

    def inquiry(self, status: str, **more: Any) -> Decision:
        """An inquiry that leaves now is answered now."""
        return self.hear(inquired(self.payment, status, self.now, **more))

    def silence(self, **more: Any) -> Decision:
        """What leaves now is not answered."""
        return self.hear(Silence(asked_at=self.now, why="timeout", **more))

    def cancel_answer(self, call: Call, **more: Any) -> Decision:
        return self.hear(cancel_said(self.payment, call, self.now, **more))

    def notification(self, status: str, **more: Any) -> Decision:
        return self.hear(notified(self.payment, status, self.now, **more))


def inquired(p: Payment, status: str, now: Ms, **more: Any) -> InquiryAnswer:
    """An answer to our inquiry; `status` is a paymentStatus or NOT_EXIST."""
    said: dict[str, Any] = {"asked_at": now, "answered_at": now, "call": Call.OK, "code": "SUCCESS"}
    if status == "NOT_EXIST":
        said |= {"call": Call.NOT_EXIST, "code": "ORDER_NOT_EXIST"}
    else:
        said |= {"payment_status": GatewayStatus(status), "amount": p.amount}
        said |= {"payment_request_id": p.payment_request_id, "payment_id": p.payment_id or "gw_1"}
    return InquiryAnswer(**said | more)


def cancel_said(p: Payment, call: Call, now: Ms, **more: Any) -> CancelAnswer:
    """An answer to our cancel."""
    said: dict[str, Any] = {"asked_at": now, "answered_at": now, "call": call, "code": call.value}
    if call is Call.OK:
        said |= {"payment_request_id": p.payment_request_id, "payment_id": p.payment_id or "gw_1"}
    return CancelAnswer(**said | more)


def pay_said(p: Payment, call: Call, now: Ms, **more: Any) -> PayAnswer:
    """An answer to our pay."""
    said: dict[str, Any] = {"asked_at": now, "answered_at": now, "call": call, "code": call.value}
    if call in (Call.OK, Call.UNKNOWN):
        said |= {"payment_request_id": p.payment_request_id, "payment_id": p.payment_id or "gw_1"}
        said |= {"amount": p.amount, "redirect_url": CASHIER, "redirect_method": "GET"}
    return PayAnswer(**said | more)


def notified(p: Payment, status: str, now: Ms, **more: Any) -> Notification:
    """A PAYMENT_RESULT notification, sent and received now."""
    said: dict[str, Any] = {"kind": NotifyKind.RESULT, "status": status, "code": "SUCCESS"}
    said |= {"client_id": p.client_id, "payment_request_id": p.payment_request_id}
    said |= {"payment_id": p.payment_id or "gw_1", "amount": p.amount}
    return Notification(**said | {"sent_at": now, "received_at": now} | more)

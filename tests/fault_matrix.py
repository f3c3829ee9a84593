"""The fault matrix: what may break, what must hold then, and what shows that it does.

`python -m tests.fault_matrix` prints it as a table; `--write` puts it into docs/reliability.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->"

#: Modules of tests that are named as a whole: `test_chaos.py (module)`.
MODULE = " (module)"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. What is neither shown by a test nor by the simulation has its reason in `gap`."""

    number: int
    where: str
    fault: str
    holds: str
    tests: Sequence[str] = ()  #: file::name, under tests/
    simulated: Sequence[str] = ()  #: rare states that a campaign must reach
    mutants: Sequence[str] = ()  #: planted bugs that the simulation must see
    gap: str = ""  #: not covered, because


GATEWAY, ASKING, CANCEL = "notifications", "inquiries", "cancels"
RECEIVER, WORKER, REDIS = "receiver", "worker", "Redis"

MATRIX = (
    Row(
        1,
        GATEWAY,
        "lost",
        "inquiries find how it ended",
        [
            "test_follow.py::test_paid_and_the_notification_lost",
            "test_worker_process.py::test_payments_tracked_by_xadd_are_followed_to_their_ends",
        ],
        mutants=["gives_up_after_five_tries", "no_sweep"],
    ),
    Row(
        2,
        GATEWAY,
        "doubled, also at the same moment",
        "kept once, acknowledged each time, one outcome",
        [
            "test_receiver.py::test_the_same_many_times_at_once_is_kept_once",
            "test_store.py::test_the_same_message_again_is_a_duplicate_and_changes_nothing",
        ],
        ["duplicate_notification"],
        ["digest_before_message"],
    ),
    Row(
        3,
        GATEWAY,
        "out of order: FAIL or PENDING after SUCCESS",
        "a final status stays; a contradiction is told",
        [
            "test_payment.py::test_notifications_in_any_order_and_number_end_as_the_inquiry_says",
            "test_payment.py::test_a_notification_heard_again_after_the_end_changes_no_outcome",
            "test_evidence.py::"
            "test_after_the_end_what_agrees_is_known_and_what_does_not_makes_us_ask",
        ],
        ["contradiction"],
        ["final_status_flips"],
    ),
    Row(
        4,
        GATEWAY,
        "our acknowledgement is lost",
        "the resend is acknowledged and changes nothing",
        [
            "faults/test_process.py::"
            "test_one_whose_acknowledgement_was_cut_off_is_a_duplicate_when_it_comes_again",
            "test_lua.py::test_a_notification_kept_before_the_answer_is_lost_is_kept_once",
        ],
    ),
    Row(
        5,
        GATEWAY,
        "resent after a day with its old time",
        "acknowledged; no proof, but a reason to ask",
        [
            "test_evidence.py::test_a_notification_of_another_time_is_a_hint",
            "test_store.py::test_a_message_is_known_again_for_longer_than_the_gateway_resends",
            "test_hostile.py (module)",
        ],
    ),
    Row(
        6,
        GATEWAY,
        "comes before its payment is tracked",
        "parked, heard as soon as it is tracked; after 72 h quarantined with an alarm",
        [
            "test_store.py::test_one_that_comes_before_its_payment_is_parked",
            "test_commands_flow.py::"
            "test_a_notification_that_came_first_is_heard_as_soon_as_it_is_tracked",
            "test_housekeeping.py::"
            "test_what_nobody_tracked_for_72_hours_is_quarantined_with_one_alarm",
        ],
        ["orphan_parked_then_tracked"],
        ["mail_for_strangers_dropped"],
    ),
    Row(
        7,
        GATEWAY,
        "2,000 at once after an outage",
        "each answered 200 or 503, memory flat, payments followed meanwhile",
        [
            "faults/test_process.py::"
            "test_two_thousand_at_once_are_answered_in_seconds_while_payments_are_followed",
            "test_receiver.py::test_so_many_and_no_more_are_on_their_way_into_redis",
        ],
    ),
    Row(
        8,
        ASKING,
        "no answer, executed or not",
        "asked again by schedule; nothing is concluded",
        [
            "test_gateway.py::test_what_is_no_answer_is_silence_with_its_reason",
            "test_turn.py::test_unanswered_inquiries_before_closing_keep_to_the_schedule",
            "faults/test_gateway.py::"
            "test_payments_end_as_the_gateway_says_on_lines_that_break_again_and_again",
        ],
        mutants=["silence_is_an_answer", "blind_cancel_in_an_outage"],
    ),
    Row(
        9,
        ASKING,
        "answered with 500, HTML, nothing, half a body",
        "no answer: `inquiry.unanswered`, asked again",
        [
            "test_gateway.py::test_what_is_no_answer_is_silence_with_its_reason",
            "test_messages.py::test_an_answer_that_cannot_be_understood_is_no_answer",
            "test_hostile_answers.py (module)",
        ],
    ),
    Row(
        10,
        ASKING,
        "answered without a good signature",
        "no answer: `inquiry.unanswered` with the reason, asked again",
        [
            "test_gateway.py::test_what_is_no_answer_is_silence_with_its_reason",
            "test_hostile_answers.py (module)",
        ],
        mutants=["accepts_unsigned_answers"],
    ),
    Row(
        11,
        ASKING,
        "the call succeeded, the payment has not, or its status is unknown",
        "only `paymentStatus` counts, as the protocol spells it",
        [
            "test_evidence.py::test_an_answered_inquiry_is_worth_its_payment_status",
            "test_evidence.py::test_an_answer_with_a_status_not_in_the_protocol_is_no_answer",
            "test_hostile_answers.py (module)",
        ],
        mutants=["call_result_is_payment_result", "trusts_pending_with_s"],
    ),
    Row(
        12,
        ASKING,
        "the answer is older than what is known",
        "a final status stays; old answers prove nothing",
        [
            "test_turn.py::test_an_answer_asked_for_earlier_does_not_undo_a_newer_one",
            "test_follow.py::test_a_slow_answer_from_before_the_cancel_proves_nothing",
            "test_evidence.py::test_an_answer_of_another_time_is_no_answer",
        ],
        ["stale_answer"],
        ["stale_answers_count", "evidence_from_before_the_cancel"],
    ),
    Row(
        13,
        ASKING,
        "another amount in the answer",
        "unresolved and told, never `succeeded`, never cancelled by itself",
        [
            "test_evidence.py::test_a_success_needs_amount_and_currency_present_and_equal",
            "test_payment.py::test_the_table",
            "test_hostile_answers.py (module)",
        ],
        ["amount_mismatch"],
        ["amount_not_compared", "answer_of_another_payment"],
    ),
    Row(
        14,
        ASKING,
        "the gateway limits or refuses all of them",
        "backoff; refused access is an alarm and ends with a person; no wake-up is lost",
        [
            "test_evidence.py::test_a_configuration_error_is_no_answer_and_known_as_one",
            "test_turn.py::test_a_gateway_that_refuses_us_is_told_once_a_row_and_ends_for_a_person",
            "test_mock_gateway.py::test_rate_limited_turns_four_inquiries_away",
            "test_demo.py::test_every_scenario_ends_at_least_twice_as_the_gateways_ledger_says",
        ],
        gap="no token bucket and no breaker yet: what limits the rate is the schedule of each"
        " payment and 64 jobs per worker",
    ),
    Row(
        15,
        CANCEL,
        "the buyer pays between the last inquiry and the cancel",
        "no cancel over unheard mail; after one, a new inquiry decides",
        [
            "test_follow.py::"
            "test_a_success_that_comes_as_the_right_to_cancel_is_taken_stops_the_cancel",
            "test_store.py::test_the_right_to_cancel_is_refused_while_anything_lies_in_the_inbox",
            "test_follow.py::test_money_taken_after_all_is_sent_back",
        ],
        ["cancel_stopped_by_mail", "paid_after_cancel"],
        ["cancel_before_the_write", "cancel_with_mail_waiting"],
    ),
    Row(
        16,
        CANCEL,
        "arrives a minute late",
        "no success is told while one may be on its way",
        [
            "test_evidence.py::test_an_unanswered_cancel_keeps_us_deaf_for_its_quiet_time",
            "test_turn.py::test_a_refusal_of_a_later_try_waits_for_the_silent_one_before_it",
            "test_turn.py::test_a_record_is_kept_while_a_cancel_of_it_may_still_be_on_its_way",
        ],
        ["late_request_executed"],
        ["no_quiet_time", "success_told_with_a_cancel_open"],
        gap="one on its way for longer than CANCEL_QUIET_SECONDS",
    ),
    Row(
        17,
        CANCEL,
        "answered U, or not at all",
        "still cancelling; the same cancel again by schedule",
        [
            "test_evidence.py::test_a_u_is_never_cancelled",
            "test_follow.py::test_a_cancel_without_an_answer_is_repeated_until_there_is_one",
            "test_turn.py::test_an_unanswered_cancel_is_repeated_by_its_schedule_up_to_its_limit",
        ],
        ["cancel_repeated"],
        ["cancel_not_repeated", "silence_is_a_confirmed_cancel"],
    ),
    Row(
        18,
        CANCEL,
        "refused: too late, unknown order, cancelled before",
        "never taken for success: an inquiry decides, then it is sent again or a person is called",
        [
            "test_evidence.py::test_a_verified_f_refuses_the_cancel",
            "test_follow.py::test_a_refused_cancel_leaves_the_last_word_to_an_inquiry",
            "test_turn.py::"
            "test_not_found_needs_a_refused_cancel_and_three_inquiries_the_last_one_settled",
        ],
        ["cancel_refused", "not_found_closed"],
        ["refusal_is_a_confirmed_cancel", "refused_cancel_is_success"],
    ),
    Row(
        19,
        RECEIVER,
        "killed before the write, between write and answer, after the answer",
        "what was acknowledged is kept",
        [
            "faults/test_process.py::test_what_was_acknowledged_before_the_receiver_ended_is_kept",
            "test_chaos.py (module)",
        ],
        ["power_cut_between_write_and_ack"],
        ["ack_before_write", "ack_before_disk", "digest_before_message"],
    ),
    Row(
        20,
        RECEIVER,
        "SIGTERM under load",
        "what was begun is answered; exit code 0",
        [
            "faults/test_process.py::test_what_was_begun_before_sigterm_is_kept_and_answered",
            "faults/test_process.py::test_what_was_acknowledged_before_the_receiver_ended_is_kept",
        ],
    ),
    Row(
        21,
        RECEIVER,
        "SIGSTOP",
        "senders give up, nothing acknowledged is lost, it goes on and says so",
        [
            "faults/test_process.py::test_a_receiver_that_stands_still_loses_nothing_and_goes_on",
            "test_chaos.py (module)",
        ],
    ),
    Row(
        22,
        RECEIVER,
        "no more file descriptors",
        "it pauses, recovers, and says `process.out_of_files` once in ten seconds",
        [
            "faults/test_process.py::test_a_receiver_out_of_file_descriptors_pauses_and_recovers",
        ],
    ),
    Row(
        23,
        RECEIVER,
        "2,000 connections that hold their bodies back",
        "each cut off with 408; memory stays bounded",
        [
            "faults/test_process.py::"
            "test_two_thousand_unfinished_bodies_are_cut_off_and_cost_little_memory",
            "test_hostile.py (module)",
        ],
        gap="memory is measured, not limited by a cgroup",
    ),
    Row(
        24,
        "both",
        "stands still for seconds",
        "`process.stalled`; no wrong state, one outcome",
        [
            "faults/test_process.py::test_a_worker_that_stood_still_says_so_and_tells_one_outcome",
            "test_stalls.py::test_a_loop_that_was_blocked_is_told_once",
        ],
        ["frozen_longer_than_lease"],
    ),
    Row(
        25,
        WORKER,
        "killed at any await",
        "another one takes the payment up when its lease is over; the same end",
        [
            "test_follow.py::test_wherever_a_worker_dies_the_payment_ends_the_same",
            "test_follow.py::test_these_are_all_the_places_to_die",
            "test_worker_process.py::test_what_a_killed_worker_had_in_hand_is_ended_by_the_next",
            "test_chaos.py (module)",
        ],
        ["crash_with_a_claim", "crash_with_a_cancel_open"],
        ["lease_never_ends", "cancel_before_the_write"],
    ),
    Row(
        26,
        WORKER,
        "frozen for longer than its lease, in mid-cancel too",
        "it saves nothing and sends no cancel any more",
        [
            "test_follow.py::test_a_worker_that_was_frozen_for_a_lease_does_not_send_its_cancel",
            "test_store.py::test_whoever_held_a_payment_before_can_save_nothing_any_more",
            "test_chaos.py (module)",
        ],
        ["frozen_longer_than_lease", "save_fenced"],
        ["cancel_sent_after_a_long_freeze", "no_version_check", "version_counted"],
    ),
    Row(
        27,
        WORKER,
        "two take the same payment",
        "one gets it; one outcome",
        [
            "test_store.py::test_of_two_that_claim_at_once_one_gets_it",
            "test_follow.py::test_two_workers_at_one_payment_tell_one_outcome",
            "test_follow.py::test_many_workers_woken_again_and_again_tell_one_outcome",
        ],
        ["lease_stolen", "duplicate_wake_up"],
        ["no_version_check", "loser_writes_all_the_same"],
    ),
    Row(
        28,
        WORKER,
        "none runs for a day or a week",
        "nothing is lost, no patience is spent, each is asked once and believed",
        [
            "test_lua.py::test_no_payload_expires_before_its_time",
            "test_turn.py::test_time_in_which_no_worker_ran_uses_up_no_grace",
            "test_turn.py::"
            "test_a_worker_that_wakes_long_after_closing_asks_once_and_believes_the_answer",
            "test_sweep.py::test_page_after_page_none_is_forgotten",
            "test_arq_traps.py (module)",
        ],
        gap="catching up is limited by 64 jobs per worker, not by a rate",
    ),
    Row(
        29,
        WORKER,
        "one payment or command breaks it",
        "others go on; a command is set aside after some tries, a record stays and is told",
        [
            "faults/test_process.py::test_what_breaks_at_one_payment_holds_up_no_other",
            "test_arq_jobs.py::test_a_wake_up_that_fails_says_so_and_costs_the_worker_nothing",
            "test_commands.py::test_one_that_fails_again_and_again_is_buried_and_holds_up_no_other",
            "test_arq_traps.py (module)",
        ],
    ),
    Row(
        30,
        WORKER,
        "arq refuses or loses a job",
        "the sweep wakes the payment",
        [
            "test_sweep.py::test_an_overdue_payment_whose_job_is_lost_is_woken_at_once",
            "test_arq_jobs.py::test_a_wake_up_that_cannot_be_queued_is_left_to_the_sweep",
            "test_arq_traps.py (module)",
        ],
        ["sweep_woke_a_payment"],
        ["no_sweep"],
    ),
    Row(
        31,
        WORKER,
        "a pickle is planted as a job",
        "not opened, let alone run; the payment is woken again",
        [
            "test_commands.py::test_a_job_that_would_run_code_is_not_even_opened",
            "test_queue.py::test_what_is_no_job_of_this_version_is_refused_and_not_run",
            "test_arq_traps.py (module)",
        ],
    ),
    Row(
        32,
        REDIS,
        "killed",
        "503 until it is back; nothing acknowledged is lost",
        [
            "faults/test_redis.py::test_a_killed_redis_loses_nothing_that_was_acknowledged",
            "test_worker_process.py::"
            "test_a_redis_that_restarts_is_waited_for_and_the_payment_still_ends",
            "test_lua.py::test_scripts_and_payments_survive_the_death_of_the_server",
            "test_chaos.py (module)",
        ],
        ["not_durable"],
    ),
    Row(
        33,
        REDIS,
        "its power fails",
        "nothing acknowledged is lost; a Redis that could lose it is refused at the start",
        [
            "test_probes.py (module)",
            "test_lua.py::test_a_write_is_answered_when_it_is_on_disk",
            "test_chaos.py (module)",
        ],
        ["power_cut_between_write_and_ack", "power_cut_forgot_writes"],
        ["ack_before_disk"],
    ),
    Row(
        34,
        REDIS,
        "its log ends in half a write",
        "it starts; only that write, which nobody was told of, is gone",
        [
            "faults/test_redis.py::test_a_log_cut_in_the_middle_of_a_write_costs_that_write_alone",
            "test_chaos.py (module)",
        ],
    ),
    Row(
        35,
        REDIS,
        "its disk is full",
        "503, nothing acknowledged is lost; goes on when there is space",
        [
            "faults/test_redis.py::"
            "test_a_full_disk_acknowledges_nothing_and_loses_nothing_that_was",
        ],
    ),
    Row(
        36,
        REDIS,
        "its memory is full",
        "503, nothing is evicted; a Redis that would evict is refused at the start",
        [
            "test_receiver.py::test_a_redis_that_is_full_acknowledges_nothing",
            "test_deploy.py::test_the_server_keeps_what_it_answered_and_evicts_nothing",
            "test_probes.py (module)",
        ],
    ),
    Row(
        37,
        REDIS,
        "hangs without a word",
        "503 after 4 s; used again when it answers",
        [
            "faults/test_redis.py::"
            "test_a_redis_that_hangs_costs_a_sender_seconds_and_is_used_again_when_it_answers",
            "faults/test_redis.py::test_a_worker_whose_redis_hangs_goes_on_when_it_answers",
            "test_receiver.py::test_a_redis_that_hangs_is_not_waited_for_even_if_a_cancel_is_lost",
        ],
    ),
    Row(
        38,
        REDIS,
        "takes a second for each command",
        "200 or 503, nothing is done twice, payments end later",
        [
            "faults/test_redis.py::test_a_slow_redis_slows_us_down_and_nothing_is_done_twice",
        ],
    ),
    Row(
        39,
        REDIS,
        "refuses: LOADING, READONLY, BUSY, NOAUTH, NOPERM, MISCONF, OOM, NOREPLICAS, ...",
        "503, never an acknowledgement; the worker waits and goes on",
        [
            "faults/test_redis.py::test_whatever_redis_refuses_with_nothing_is_acknowledged"
            "_and_all_goes_on_after_it",
            "faults/test_redis.py::test_a_worker_outlives_whatever_redis_refuses_with",
        ],
    ),
    Row(
        40,
        REDIS,
        "fails over to a replica that was behind",
        "acknowledged only what the replicas had",
        [
            "test_connect.py::test_what_was_asked_for_is_what_a_write_waits_for",
            "test_lua.py::test_fewer_confirmations_than_asked_for_are_none",
            "test_sentinel.py (module)",
        ],
    ),
    Row(
        41,
        REDIS,
        "the old primary comes back",
        "no acknowledgement from it; who was left with it comes over",
        ["test_sentinel.py (module)"],
        gap="nothing compares our records with the gateway's by itself after a split",
    ),
    Row(
        42,
        REDIS,
        "emptied, the wrong database, an old backup",
        "said at the start, refused with REQUIRE_STATE; what is tracked again ends",
        [
            "faults/test_redis.py::"
            "test_a_worker_whose_redis_was_emptied_takes_what_is_tracked_again",
            "test_commands.py::test_a_group_that_is_gone_is_made_again_and_starts_at_the_beginning",
            "test_probes.py (module)",
        ],
        gap="emptied while we run, or an old backup: the merchant must track again what was open",
    ),
    Row(
        43,
        REDIS,
        "forgets our scripts",
        "told again, run once",
        [
            "faults/test_redis.py::"
            "test_scripts_that_redis_has_forgotten_are_told_again_in_the_midst_of_the_work",
            "test_lua.py::test_a_server_that_forgot_its_scripts_is_told_them_again_and_runs_once",
            "test_lua.py::test_a_server_that_forgets_at_once_is_an_error_not_a_loop",
        ],
        ["script_reloaded"],
    ),
    Row(
        44,
        REDIS,
        "denies us a command",
        "refused at the start with what is missing",
        ["test_probes.py (module)", "test_acl.py (module)"],
    ),
    Row(
        45,
        "merchant",
        "its callback fails",
        "outcomes stay in their stream until every group has acknowledged them",
        [
            "test_housekeeping.py::test_outcomes_are_kept_until_acknowledged_at_least_7_days"
            "_and_at_most_the_retention",
        ],
        gap="there are no callbacks: the merchant reads a stream",
    ),
    Row(
        46,
        "merchant",
        "away for three days",
        "outcomes wait in their stream",
        ["test_housekeeping.py::test_outcomes_without_a_group_are_kept_7_days"],
        gap="there are no callbacks whose rate would have to be bounded",
    ),
    Row(
        47,
        "time",
        "a clock is two hours off, or jumps while we run",
        "no outcome, deadline or wake-up changes: Redis' time counts",
        [
            "faults/test_times.py::test_a_step_of_our_clock_moves_no_time_of_a_payment",
            "faults/test_times.py::"
            "test_a_worker_whose_clock_is_wrong_wakes_payments_when_redis_says",
            "faults/test_times.py::test_a_process_whose_clock_is_wrong_ends_payments_as_any_other",
            "test_store.py::test_the_time_is_that_of_redis_whatever_our_clock_says",
        ],
        gap="Redis' own clock by more than 14 s: all deadlines are its time",
    ),
    Row(
        48,
        "time",
        "the night of two half past twos, odd offsets, no offset",
        "one instant, or a hint",
        [
            "faults/test_times.py::test_a_time_means_one_instant_wherever_we_run",
            "faults/test_times.py::test_a_time_that_could_be_several_or_none_is_taken_for_none",
            "faults/test_times.py::test_one_whose_time_is_odd_is_acknowledged_and_makes_us_ask",
            "test_hostile.py (module)",
        ],
    ),
    Row(
        49,
        "time",
        "after 2038, five-digit years, epoch milliseconds",
        "read to the millisecond, or a hint; no crash",
        [
            "faults/test_times.py::"
            "test_a_closing_time_after_2038_survives_redis_to_the_millisecond",
            "test_messages.py::test_a_time_in_any_known_format_is_read_to_the_millisecond",
            "test_messages.py::test_whatever_the_text_a_time_is_one_that_can_be_printed_or_none",
            "test_hostile.py (module)",
        ],
    ),
    Row(
        50,
        "network",
        "connections are reset in mid-word, to the gateway and to Redis",
        "every payment ends as the gateway says, told once",
        [
            "faults/test_gateway.py::"
            "test_payments_end_as_the_gateway_says_on_lines_that_break_again_and_again",
            "test_lua.py::test_calls_go_on_while_their_connections_are_killed",
            "test_chaos.py (module)",
        ],
        gap="lost packets themselves: TCP hides them, what is left is delay and resets",
    ),
    Row(
        51,
        "network",
        "no such name; a certificate expired, of another host, of a stranger; no TLS",
        "nothing is sent, nothing is concluded, never in plain text",
        [
            "faults/test_gateway.py::test_a_name_that_is_not_found_is_a_question_that_never_left",
            "faults/test_gateway.py::test_a_gateway_that_proves_nothing_is_told_nothing",
            "faults/test_gateway.py::test_there_is_no_way_back_to_plain_text",
            "test_gateway.py::test_a_gateway_without_a_good_certificate_is_told_nothing",
            "test_connect.py::test_a_tls_server_must_prove_its_name",
            "test_hostile_answers.py (module)",
        ],
    ),
    Row(
        52,
        "network",
        "a body at a byte a second",
        "408 after 3 s",
        [
            "test_hostile.py (module)",
            "faults/test_process.py::"
            "test_two_thousand_unfinished_bodies_are_cut_off_and_cost_little_memory",
        ],
    ),
    Row(
        53,
        "crowd",
        "50,000 are overdue after an outage",
        "they drift apart; none is forgotten; the longest overdue first",
        [
            "test_sweep.py::test_page_after_page_none_is_forgotten",
            "test_schedule.py::test_payments_of_one_moment_drift_apart",
        ],
        gap="no cap on inquiries a second yet, and not tried with 50,000",
    ),
    Row(
        54,
        "crowd",
        "a slow gateway and our retries",
        "one question of a payment at a time, ever more slowly; none is sent twice by itself",
        [
            "test_gateway.py::test_a_request_is_never_sent_twice_by_itself",
            "test_turn.py::test_while_nothing_can_leave_tries_become_rarer",
            "test_follow.py::test_a_wake_up_too_many_asks_nothing_twice",
        ],
        gap="no retry budget over all payments yet",
    ),
    Row(
        55,
        "keys",
        "the gateway's key changes",
        "both are believed while both are configured; the withdrawn one is refused after",
        [
            "faults/test_process.py::test_a_withdrawn_key_is_refused_and_the_other_one_believed",
            "test_gateway.py::test_an_answer_may_be_signed_with_any_key_that_is_configured",
            "test_signature.py::test_refuses_one_keys_signature_under_the_other_keys_version",
            "test_hostile.py (module)",
        ],
    ),
    Row(
        56,
        "keys",
        "unreadable, 1024 bits, exponent 3, no RSA",
        "no start: one clear line each, exit code 3, the key not repeated",
        [
            "faults/test_process.py::"
            "test_a_key_file_that_cannot_be_read_is_one_line_and_exit_code_3",
            "faults/test_process.py::test_keys_that_are_too_weak_are_one_line_each_and_exit_code_3",
            "test_signature.py::test_a_public_key_that_cannot_be_used_is_refused_with_the_reason",
            "test_signature.py::test_a_private_key_that_cannot_be_used_is_refused_with_the_reason",
        ],
    ),
    Row(
        57,
        "deploy",
        "an old and a new version side by side",
        "records of the other version are left alone, loudly",
        [
            "test_schema.py::test_its_job_leaves_it_as_it_is",
            "test_schema.py::test_a_command_about_it_waits_in_the_stream_for_the_other_version",
            "test_schema.py::test_a_command_about_it_that_came_as_a_job_is_tried_again",
        ],
        gap="two real versions: there is only one layout of records so far",
    ),
    Row(
        58,
        "deploy",
        "a setting is mistyped",
        "all faults told together at the start; keys that do not fit refused",
        [
            "test_settings.py::test_a_misspelt_name_is_noticed_and_a_foreign_one_left_alone",
            "test_settings.py::test_our_own_key_in_place_of_the_gateways_is_noticed",
            "test_worker_process.py::test_bad_settings_are_all_told_at_once",
            "test_probes.py (module)",
        ],
        gap="a wrong client id that is well formed shows only when the gateway refuses it",
    ),
    Row(
        59,
        "supply",
        "a dependency is not the one that was locked",
        "not installed",
        [
            "faults/test_supply.py::test_a_wheel_with_another_hash_is_not_installed",
            "test_deploy.py::test_a_lock_file_has_a_hash_for_everything_and_names_no_host",
            "test_deploy.py::test_everything_in_the_image_was_checked_by_its_hash",
        ],
    ),
    Row(
        60,
        "host",
        "everything dies at once",
        "nothing acknowledged is lost; every payment ends, told once",
        [
            "faults/test_process.py::test_when_everything_was_killed_at_once_nothing"
            "_acknowledged_is_lost_and_all_ends",
            "test_chaos.py (module)",
        ],
        ["power_cut_forgot_writes"],
    ),
)


def table() -> str:
    """The matrix as it stands in the docs, between its two markers."""
    head = ["| # | where | fault | what holds | shown by | not covered, because |"]
    return "\n".join([*head, "|--:|---|---|---|---|---|", *map(_line, MATRIX), ""])


def _line(row: Row) -> str:
    shown = [f"`{test.removesuffix(MODULE)}`" for test in row.tests]
    shown += [f"simulation reaches `{state}`" for state in row.simulated]
    shown += [f"simulation sees `{mutant}`" for mutant in row.mutants]
    cells = (str(row.number), row.where, row.fault, row.holds, "<br>".join(shown), row.gap)
    return f"| {' | '.join(cells)} |"


def written(page: str) -> str:
    """The table in a page of the docs; ValueError if it has no place for one."""
    begin, end = page.find(BEGIN), page.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"no place for the fault matrix: {BEGIN.strip()} and {END}")
    return page[begin + len(BEGIN) : end]


def with_table(page: str) -> str:
    """A page with the table put in its place."""
    before, after = page.split(BEGIN + written(page) + END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(table(), end="")

"""The fault matrix: what may break, what must hold then, and what shows that it does.

`python -m tests.fault_matrix` prints it as a table; `--write` puts it into docs/reliability.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. What is shown by nothing that is named here has its reason in `gap`."""

    number: int
    where: str
    fault: str
    holds: str
    tests: Sequence[str]  #: file::name, under tests/
    simulated: Sequence[str] = ()  #: rare states that `make simulate` must reach
    mutants: Sequence[str] = ()  #: planted bugs that the simulation must see
    cases: Sequence[str] = ()  #: of the hostile corpus, by theme and name
    make: Sequence[str] = ()  #: targets that break the same at random, for longer
    gap: str = ""  #: not covered, because


GATEWAY, ASKING, CANCEL = "notifications", "inquiries", "cancels"
RECEIVER, WORKER, REDIS = "receiver", "worker", "Redis"
PAYS, DELIVERIES = "pays", "deliveries"

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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
        ],
        simulated=["duplicate_notification"],
        mutants=["digest_before_message"],
        cases=["replay: exactly the same again", "replay: the same, signed anew at another time"],
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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
        ],
        simulated=["contradiction"],
        mutants=["final_status_flips"],
        cases=["replay: a failure behind a success"],
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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
        ],
        cases=["replay: sent 23 hours ago", "replay: sent a year ago"],
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
        simulated=["orphan_parked_then_tracked", "unparked"],
        mutants=["mail_for_strangers_dropped", "unparked_mail_dropped"],
        gap="the alarm comes when it is set aside, after 72 h, not within minutes",
    ),
    Row(
        7,
        GATEWAY,
        "2,000 at once after an outage",
        "each answered 200 or 503 or cut off to make room, memory bounded, payments followed"
        " meanwhile",
        [
            "faults/test_process.py::"
            "test_two_thousand_at_once_are_answered_in_seconds_while_payments_are_followed",
            "test_receiver.py::test_so_many_and_no_more_are_on_their_way_into_redis",
        ],
        gap="within 5 s each: the test grants 30 s, for the slowest machine that runs it",
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
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        mutants=["silence_is_an_answer", "blind_cancel_in_an_outage"],
        cases=["answers: silence", "answers: a reset within the body"],
    ),
    Row(
        9,
        ASKING,
        "answered with 500, HTML, nothing, half a body",
        "no answer: `inquiry.unanswered`, asked again",
        [
            "test_gateway.py::test_what_is_no_answer_is_silence_with_its_reason",
            "test_messages.py::test_an_answer_that_cannot_be_understood_is_no_answer",
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        cases=[
            "answers: perfect, but 502 Bad Gateway",
            "answers: HTML",
            "answers: no body",
            "answers: the end within the body",
        ],
    ),
    Row(
        10,
        ASKING,
        "answered without a good signature",
        "no answer: `inquiry.unanswered` with the reason, asked again",
        [
            "test_gateway.py::test_what_is_no_answer_is_silence_with_its_reason",
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        mutants=["accepts_unsigned_answers"],
        cases=[
            "answers: nothing signed, OK",
            "answers: zeros",
            "answers: another payment's signature",
        ],
        gap="no alarm of its own, only a warning line for each such answer: the alarms are those"
        " of a question that stays unanswered (`payment.alarmed`, `payment.stuck`)",
    ),
    Row(
        11,
        ASKING,
        "the call succeeded, the payment has not, or its status is unknown",
        "only `paymentStatus` counts, in capitals or not; one that is not in the protocol is no"
        " answer",
        [
            "test_evidence.py::test_an_answered_inquiry_is_worth_its_payment_status",
            "test_evidence.py::test_an_answer_with_a_status_not_in_the_protocol_is_no_answer",
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        mutants=["call_result_is_payment_result", "trusts_pending_with_s"],
        cases=[
            "answers: Success, in mixed case",
            "answers: status None",
            "answers: status 'S'",
            "answers: a status that is none",
        ],
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
        simulated=["stale_answer"],
        mutants=["stale_answers_count", "evidence_from_before_the_cancel"],
    ),
    Row(
        13,
        ASKING,
        "another amount in the answer",
        "unresolved and told, never `succeeded`, never cancelled by itself",
        [
            "test_evidence.py::test_a_success_needs_amount_and_currency_present_and_equal",
            "test_payment.py::test_the_table",
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        simulated=["amount_mismatch"],
        mutants=["amount_not_compared", "answer_of_another_payment"],
        cases=["answers: another amount", "answers: no amount"],
    ),
    Row(
        14,
        ASKING,
        "the gateway limits or refuses all of them",
        "half the pace, which rises again; refused access is an alarm and ends with a person; no"
        " wake-up is lost",
        [
            "test_limits.py::test_a_gateway_that_finds_us_too_fast_is_asked_at_half_the_pace",
            "test_limits.py::test_a_limit_holds_for_all_processes_together",
            "test_evidence.py::test_a_configuration_error_is_no_answer_and_known_as_one",
            "test_turn.py::test_a_gateway_that_refuses_us_is_told_once_a_row_and_ends_for_a_person",
            "test_mock_gateway.py::test_rate_limited_turns_four_inquiries_away",
            "test_demo.py::test_every_scenario_ends_at_least_twice_as_the_gateways_ledger_says",
        ],
        gap="a limit may be exceeded twofold within one second, and after a restart of Redis",
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
        simulated=["cancel_stopped_by_mail", "paid_after_cancel"],
        mutants=["cancel_before_the_write", "cancel_with_mail_waiting"],
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
        simulated=["late_request_executed"],
        mutants=["no_quiet_time", "success_told_with_a_cancel_open"],
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
        simulated=["cancel_repeated"],
        mutants=["cancel_not_repeated", "silence_is_a_confirmed_cancel"],
    ),
    Row(
        18,
        CANCEL,
        "refused: too late, unknown order, cancelled before",
        "never taken for success: an inquiry decides, then it is sent again or a person is called",
        [
            "test_evidence.py::test_a_verified_f_refuses_the_cancel",
            "test_follow.py::test_a_refused_cancel_leaves_the_last_word_to_an_inquiry",
            "test_turn.py::test_a_refused_cancel_is_asked_about_and_sent_again_by_its_schedule",
            "test_turn.py::"
            "test_not_found_needs_a_refused_cancel_and_three_inquiries_the_last_one_settled",
        ],
        simulated=["cancel_refused", "not_found_closed"],
        mutants=["refusal_is_a_confirmed_cancel", "refused_cancel_is_success"],
    ),
    Row(
        19,
        RECEIVER,
        "killed before the write, between write and answer, after the answer",
        "what was acknowledged is kept",
        [
            "faults/test_process.py::test_what_was_acknowledged_before_the_receiver_ended_is_kept",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
            "test_receiver.py::test_what_redis_does_not_confirm_as_safe_is_not_acknowledged",
        ],
        simulated=["power_cut_between_write_and_ack"],
        mutants=["ack_before_write", "ack_before_disk", "digest_before_message"],
        make=["make chaos"],
        gap="with real processes chance decides between which two steps it is killed: each of"
        " them is drawn in the simulation",
    ),
    Row(
        20,
        RECEIVER,
        "SIGTERM under load",
        "what was begun is answered; exit code 0",
        [
            "faults/test_process.py::test_what_was_begun_before_sigterm_is_kept_and_answered",
            "faults/test_process.py::test_what_was_acknowledged_before_the_receiver_ended_is_kept",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        gap="within 5 s: a setting of the server, not measured",
    ),
    Row(
        21,
        RECEIVER,
        "SIGSTOP",
        "senders give up, nothing acknowledged is lost, it goes on and says so",
        [
            "faults/test_process.py::test_a_receiver_that_stands_still_loses_nothing_and_goes_on",
        ],
        make=["make chaos"],
        gap="for a minute: 4 s in the test, up to 18 s in `make chaos`",
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
        "each cut off with 408, or before to make room; memory stays bounded",
        [
            "faults/test_process.py::"
            "test_two_thousand_unfinished_bodies_are_cut_off_and_cost_little_memory",
            "test_hostile.py::test_however_often_it_comes_memory_and_connections_stay_as_they_were",
            "test_hostile.py::test_many_at_once_are_all_answered",
            "test_http_server.py::test_in_a_crowd_whoever_waits_longest_to_speak_makes_room",
        ],
        gap="memory is measured (500 MiB more at most), not limited by a cgroup",
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
        simulated=["frozen_longer_than_lease"],
        make=["make chaos"],
        gap="a loop blocked by our own code for seconds: the processes are stopped by SIGSTOP, a"
        " loop that is blocked is only shown to be told of, a third of a second in the test",
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
            "test_chaos.py::"
            "test_another_worker_asks_again_within_25_s_after_a_worker_was_killed_in_mid_inquiry",
            "test_arq_traps.py::test_03_crashes_and_deploys_are_not_counted_against_a_payment",
            "test_arq_traps.py::"
            "test_12_a_payment_in_a_killed_workers_hands_is_taken_up_when_its_lease_is_over",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        simulated=["crash_with_a_claim", "crash_with_a_cancel_open"],
        mutants=[
            "lease_never_ends",
            "cancel_before_the_write",
            "record_and_event_in_two_writes",
            "inbox_emptied_before_the_write",
        ],
        make=["make chaos"],
    ),
    Row(
        26,
        WORKER,
        "frozen for longer than its lease, in mid-cancel too",
        "it saves nothing and sends no cancel any more",
        [
            "test_follow.py::test_a_worker_that_was_frozen_for_a_lease_does_not_send_its_cancel",
            "test_store.py::test_whoever_held_a_payment_before_can_save_nothing_any_more",
        ],
        simulated=["frozen_longer_than_lease", "save_fenced"],
        mutants=["cancel_sent_after_a_long_freeze", "no_version_check", "version_counted"],
        make=["make chaos"],
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
            "test_sweep.py::test_a_payment_in_a_workers_hands_is_not_taken_from_it",
        ],
        simulated=["lease_stolen", "duplicate_wake_up"],
        mutants=["no_version_check", "loser_writes_all_the_same"],
    ),
    Row(
        28,
        WORKER,
        "none runs for a day or a week",
        "nothing is lost, no patience is spent, each is asked once and believed; the receiver"
        " says that no worker sweeps",
        [
            "test_lua.py::test_no_payload_expires_before_its_time",
            "test_turn.py::test_time_in_which_no_worker_ran_uses_up_no_grace",
            "test_turn.py::"
            "test_a_worker_that_wakes_long_after_closing_asks_once_and_believes_the_answer",
            "test_sweep.py::test_page_after_page_none_is_forgotten",
            "test_arq_traps.py::test_05_however_long_a_payment_is_followed_its_job_does_not_expire",
            "test_watch.py::test_without_a_sweep_for_minutes_no_worker_can_be_running",
            "test_watch.py::test_the_receiver_looks",
        ],
        gap="nobody waits for a day: times and expiries in Redis are set back instead; catching"
        " up is limited by 512 jobs per worker, not by a rate",
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
            "test_arq_traps.py::test_02_a_job_that_fails_or_takes_too_long_is_run_again",
            "test_arq_traps.py::test_10c_a_bug_around_a_job_costs_no_process_and_no_payment",
            "test_hostile_redis.py::"
            "test_with_junk_in_every_key_a_good_payment_still_reaches_its_end",
            "test_watch.py::test_a_bug_in_reading_commands_is_not_the_end_of_it",
        ],
        simulated=["command_redelivered"],
        gap="a record that cannot be read is tried again for ever, and told of: only commands and"
        " messages are set aside",
    ),
    Row(
        30,
        WORKER,
        "arq refuses or loses a job",
        "the sweep wakes the payment",
        [
            "test_sweep.py::test_an_overdue_payment_whose_job_is_lost_is_woken_at_once",
            "test_dispatch.py::test_a_job_that_redis_fails_is_left_to_its_lease",
            "test_arq_traps.py::"
            "test_01_a_wake_up_whose_connection_is_cut_is_repeated_or_refused_but_never_taken_for"
            "_a_duplicate",
            "test_arq_traps.py::test_06_a_job_that_arq_cannot_read_and_deletes_is_queued_again",
            "test_arq_traps.py::test_07_the_late_end_of_a_run_costs_no_newer_wake_up",
            "test_arq_traps.py::test_08_a_payment_is_woken_whenever_there_is_news",
            "test_arq_traps.py::"
            "test_whatever_becomes_of_arqs_keys_a_payment_that_is_due_is_asked_about",
            "test_watch.py::test_a_sweep_that_hangs_is_told_of_again_and_again",
        ],
        simulated=["sweep_woke_a_payment"],
        mutants=["no_sweep"],
    ),
    Row(
        31,
        WORKER,
        "a pickle is planted as a job",
        "not opened, let alone run; the payment is woken again",
        [
            "test_commands.py::test_a_job_that_would_run_code_is_not_even_opened",
            "test_queue.py::test_what_is_no_job_of_this_version_is_refused_and_not_run",
            "test_arq_traps.py::test_06_a_job_that_arq_cannot_read_and_deletes_is_queued_again",
            "test_arq_traps.py::test_15_what_is_planted_in_the_queue_is_not_run",
            "test_code_from_data.py::test_a_pickle_planted_in_redis_is_run_by_no_worker",
            "test_code_from_data.py::test_a_pickle_planted_in_redis_is_run_by_no_client_of_ours",
            "test_code_from_data.py::test_the_trap_springs_where_a_pickle_is_loaded",
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
            "test_receiver.py::"
            "test_without_redis_nothing_is_acknowledged_and_all_goes_on_when_it_is_back",
            "test_arq_traps.py::"
            "test_04_a_redis_that_keeps_nothing_is_refused_and_one_that_keeps_all_loses_nothing",
            "test_arq_traps.py::test_10a_whatever_redis_does_our_process_goes_on",
        ],
        simulated=["not_durable"],
        make=["make chaos"],
        gap="how long 503 lasts once it is back: the test grants 20 s",
    ),
    Row(
        33,
        REDIS,
        "its power fails",
        "nothing acknowledged is lost; a Redis that could lose it is refused at the start",
        [
            "test_probes.py::test_what_is_wrong_with_a_server_is_found",
            "test_admission.py::test_a_process_tells_all_that_is_wrong_and_ends_with_5",
            "test_admission.py::test_a_process_ends_with_5_when_redis_comes_back_unsafe",
            "test_chaos.py::"
            "test_a_power_cut_forgets_what_was_acknowledged_unless_every_write_is_synced",
            "test_chaos.py::"
            "test_waitaof_confirms_what_a_power_cut_takes_unless_every_write_is_synced",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
            "test_receiver.py::test_what_redis_does_not_confirm_as_safe_is_not_acknowledged",
        ],
        simulated=["power_cut_between_write_and_ack", "power_cut_forgot_writes"],
        mutants=["ack_before_disk"],
        make=["make chaos"],
        gap="a disk that says synced and is not; where there is no C compiler the power cuts are"
        " skipped, and say so",
    ),
    Row(
        34,
        REDIS,
        "its log ends in half a write",
        "it starts; only that write, which nobody was told of, is gone",
        [
            "faults/test_redis.py::test_a_log_cut_in_the_middle_of_a_write_costs_that_write_alone",
            "test_chaos.py::test_a_log_that_was_rewritten_is_still_cut_to_what_was_synced",
        ],
        make=["make chaos"],
        gap="damage in the middle of the log, with which Redis does not start",
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
        gap="a file system that is full: the size of the server's files is limited instead; no"
        " alarm of ours but `receiver.store_down` and `worker.redis_waiting`",
    ),
    Row(
        36,
        REDIS,
        "its memory is full",
        "503, nothing is evicted; a Redis that would evict is refused at the start and told of"
        " later",
        [
            "test_receiver.py::test_a_redis_that_is_full_acknowledges_nothing",
            "test_deploy.py::test_the_server_keeps_what_it_answered_and_evicts_nothing",
            "test_probes.py::test_what_is_wrong_with_a_server_is_found",
            "test_admission.py::test_a_process_tells_all_that_is_wrong_and_ends_with_5",
            "test_admission.py::test_what_goes_wrong_while_it_runs_is_an_alarm_told_once",
            "test_admission.py::test_memory_that_is_nearly_used_up_is_told",
            "test_arq_traps.py::test_09_of_what_an_eviction_takes_nothing_is_a_payment",
            "test_arq_traps.py::test_10a_whatever_redis_does_our_process_goes_on",
        ],
        make=["make chaos"],
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
            "test_receiver.py::"
            "test_a_redis_that_is_frozen_is_not_waited_for_longer_than_the_gateway_listens",
            "test_arq_traps.py::test_13_a_redis_that_hangs_is_noticed_and_waited_for",
            "test_sentinel.py::"
            "test_a_primary_that_takes_a_connection_and_says_nothing_is_soon_given_up",
        ],
        make=["make chaos"],
    ),
    Row(
        38,
        REDIS,
        "takes a second for each command",
        "200 or 503, nothing is done twice, payments end later",
        [
            "faults/test_redis.py::test_a_slow_redis_slows_us_down_and_nothing_is_done_twice",
        ],
        gap="the worker at a second a command: it is tried at a tenth, as a payment takes dozens"
        " of them",
    ),
    Row(
        39,
        REDIS,
        "refuses: LOADING, READONLY, BUSY, NOAUTH, NOPERM, MISCONF, OOM, NOREPLICAS, ...",
        "503, never an acknowledgement; the worker waits and goes on",
        [
            "faults/test_redis.py::"
            "test_whatever_redis_refuses_with_nothing_is_acknowledged_and_all_goes_on_after_it",
            "faults/test_redis.py::test_a_worker_outlives_whatever_redis_refuses_with",
            "test_sentinel.py::test_a_primary_that_was_demoted_is_left_and_looked_for_again",
            "test_sentinel.py::test_a_primary_without_the_replicas_it_needs_is_doubted",
        ],
        gap="the answers come from a line of ours in Redis' place; the worker is tried with one"
        " of each class: NOAUTH, READONLY, MISCONF",
    ),
    Row(
        40,
        REDIS,
        "fails over to a replica that was behind",
        "acknowledged only what the replicas had that DURABILITY names; who names too few is told"
        " at the start",
        [
            "test_connect.py::test_what_was_asked_for_is_what_a_write_waits_for",
            "test_lua.py::test_fewer_confirmations_than_asked_for_are_none",
            "test_receiver.py::test_what_redis_does_not_confirm_as_safe_is_not_acknowledged",
            "test_sentinel.py::test_what_was_acknowledged_survives_a_replica_that_was_behind",
            "test_sentinel.py::test_every_replica_that_may_be_promoted_must_be_waited_for",
            "test_sentinel.py::test_what_a_failover_would_lose_is_said_at_the_start",
            "test_sentinel.py::test_a_disk_is_not_believed_unseen_after_a_failover",
            "test_sentinel.py::"
            "test_failovers_under_load_lose_no_ack_and_leave_every_payment_with_its_one_end",
        ],
        make=["make failover"],
        gap="with DURABILITY=fsync, the default, a failover may lose what was acknowledged: it is"
        " warned of, not prevented",
    ),
    Row(
        41,
        REDIS,
        "the old primary comes back",
        "no acknowledgement from it; who was left with it comes over",
        [
            "test_sentinel.py::test_who_is_left_with_the_old_primary_gets_no_ack_and_comes_over",
        ],
        make=["make failover"],
        gap="a network that is split: the old primary is frozen instead, and then forbidden to"
        " become a replica; nothing compares our records with the gateway's by itself after it",
    ),
    Row(
        42,
        REDIS,
        "emptied, the wrong database, an old backup",
        "said at the start, refused with REQUIRE_STATE; said while we run; what is tracked again"
        " ends",
        [
            "faults/test_redis.py::"
            "test_a_worker_whose_redis_was_emptied_takes_what_is_tracked_again",
            "test_commands.py::test_a_group_that_is_gone_is_made_again_and_starts_at_the_beginning",
            "test_probes.py::test_an_empty_database_is_found",
            "test_admission.py::test_an_empty_database_is_refused_where_there_must_be_one",
            "test_admission.py::test_a_process_ends_with_5_where_its_state_is_gone",
            "test_admission.py::test_a_database_that_was_lost_is_told_once_while_it_runs",
            "test_admission.py::"
            "test_a_redis_that_comes_back_empty_gets_no_new_canary_from_who_knew_the_old",
            "test_admission.py::test_a_process_whose_database_is_flushed_says_so_and_goes_on",
        ],
        gap="an old backup is not known as one; nothing is rebuilt: the merchant must track again"
        " what was open",
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
            "test_sentinel.py::test_a_script_finds_the_new_primary_as_well",
        ],
        simulated=["script_reloaded"],
        make=["make chaos"],
    ),
    Row(
        44,
        REDIS,
        "denies us a command",
        "refused at the start with what is missing",
        [
            "test_probes.py::test_a_user_who_may_not_ask_whether_a_write_is_on_disk_is_found",
            "test_probes.py::test_a_user_who_may_not_use_the_database_is_found",
            "test_rights.py::test_each_command_that_a_user_lacks_is_found",
            "test_rights.py::test_each_key_that_a_user_may_not_touch_is_found",
            "test_acl.py::test_a_process_lacks_nothing",
            "test_acl.py::test_a_receiver_receives_with_its_own_rights",
            "test_acl.py::test_a_worker_follows_payments_with_its_own_rights",
        ],
        gap="a command taken away while we run: it is told of at each try, as in row 39",
    ),
    Row(
        45,
        "merchant",
        "its callback endpoint is down, hangs up, has no address or a certificate of nobody,"
        " answers with an error",
        "the same id again, ten tries over three days, the payment's later events wait behind it;"
        " the stream is not delayed",
        [
            "test_courier.py::test_what_is_not_taken_is_sent_again_under_the_same_id",
            "test_courier.py::test_an_endpoint_that_is_down",
            "test_courier.py::test_an_endpoint_that_hangs_up",
            "test_courier.py::test_an_endpoint_without_an_address",
            "test_courier.py::test_an_endpoint_whose_certificate_nobody_knows",
            "test_courier.py::test_a_payments_events_arrive_in_order_whatever_befalls_one_of_them",
            "test_courier.py::test_an_endpoint_that_is_busy_is_left_alone_for_as_long_as_it_says",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        make=["make chaos"],
    ),
    Row(
        46,
        "merchant",
        "away for three days",
        "outcomes wait in their stream; callbacks are kept aside with an alarm, and sent again,"
        " whole and in order, when an operator says so",
        [
            "test_housekeeping.py::"
            "test_outcomes_are_kept_until_acknowledged_at_least_7_days_and_at_most_the_retention",
            "test_housekeeping.py::test_outcomes_without_a_group_are_kept_7_days",
            "test_courier.py::test_after_the_last_try_it_is_kept_aside_and_the_next_one_goes",
            "test_redelivery.py::test_what_was_given_up_is_sent_again_in_order_with_all_its_tries",
            "test_redelivery.py::test_it_goes_before_what_came_later",
            "test_redelivery.py::test_two_operators_send_it_again_once",
        ],
        gap="the three days themselves: the delays are made to be over; that the rate is bounded"
        " when all come due at once (64 in one worker's hands, 8 to one endpoint) is shown for"
        " a slow endpoint only",
    ),
    Row(
        47,
        "time",
        "a clock is two hours off, or jumps while we run",
        "no outcome, deadline or wake-up changes: Redis' time counts; one that is a minute off is"
        " refused at the start",
        [
            "faults/test_times.py::test_a_step_of_our_clock_moves_no_time_of_a_payment",
            "faults/test_times.py::"
            "test_a_worker_whose_clock_is_wrong_wakes_payments_when_redis_says",
            "faults/test_times.py::test_a_process_whose_clock_is_wrong_ends_payments_as_any_other",
            "test_store.py::test_the_time_is_that_of_redis_whatever_our_clock_says",
            "test_arq_traps.py::"
            "test_14_a_worker_whose_clock_is_a_minute_off_asks_when_redis_says_that_it_is_time",
            "test_arq_traps.py::test_14_in_a_process_too",
            "test_probes.py::test_a_clock_that_is_a_minute_off_is_found",
            "test_admission.py::test_a_clock_that_is_off_ends_a_process_with_5",
        ],
        gap="Redis' own clock by more than 14 s: all deadlines are its time; where there is no"
        " faketime, whole processes are not tried, and the tests say so",
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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
        ],
        cases=[
            "replay: sent in the hour that summer time skips",
            "replay: sent with an offset of nothing below zero",
            "replay: sent in a leap second",
            "replay: sent without an offset",
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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
            "test_hostile_answers.py::test_it_is_heard_for_what_it_is_and_in_time",
        ],
        cases=[
            "boundaries: 2038",
            "replay: sent in milliseconds",
            "odd: a time in a year of five digits",
            "answers: a time in year 10000",
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
            "test_chaos.py::test_a_connection_dropped_at_any_command_changes_no_end",
            "test_chaos.py::"
            "test_a_receiver_whose_redis_goes_away_as_it_starts_receives_all_the_same",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
            "test_hostile_answers.py::"
            "test_a_connection_that_was_kept_and_is_gone_is_silence_and_then_made_anew",
        ],
        make=["make chaos"],
        gap="lost packets themselves: TCP hides them, what is left is delay and resets",
    ),
    Row(
        51,
        "network",
        "no such name; a certificate expired, of another host, of a stranger; no TLS",
        "nothing is sent, nothing is concluded, never in plain text; a warning each time, and"
        " `payment.stuck` ten minutes after closing time",
        [
            "faults/test_gateway.py::test_a_name_that_is_not_found_is_a_question_that_never_left",
            "faults/test_gateway.py::test_a_gateway_that_proves_nothing_is_told_nothing",
            "faults/test_gateway.py::test_there_is_no_way_back_to_plain_text",
            "test_gateway.py::test_a_gateway_without_a_good_certificate_is_told_nothing",
            "test_connect.py::test_a_tls_server_must_prove_its_name",
            "test_hostile_answers.py::test_a_certificate_that_proves_nothing_is_told_nothing",
            "test_hostile_answers.py::test_who_speaks_no_tls_is_told_nothing",
            "test_sentinel.py::test_by_tls_the_primary_and_the_sentinels_must_prove_their_names",
            "test_turn.py::test_tries_that_did_not_leave_use_up_no_grace",
            "test_stuck.py::"
            "test_one_whose_questions_never_leave_warns_each_time_and_is_told_of_in_the_end",
        ],
        gap="no alarm before that, and none of its own: what never left adds no patience, so the"
        " payment stays pending for as long as it lasts; a name that leads elsewhere is"
        " caught by the certificate alone",
    ),
    Row(
        52,
        "network",
        "a body at a byte a second",
        "408 after 3 s",
        [
            "faults/test_process.py::"
            "test_two_thousand_unfinished_bodies_are_cut_off_and_cost_little_memory",
            "test_hostile.py::test_it_is_given_its_time_and_no_more",
            "test_receiver.py::test_a_body_that_comes_byte_by_byte_is_cut_off_all_the_same",
            "test_http_server.py::test_headers_that_come_byte_by_byte_are_cut_off_all_the_same",
        ],
        cases=[
            "framing: the body a byte short, and silence",
            "framing: no byte of the body, and silence",
        ],
    ),
    Row(
        53,
        "crowd",
        "50,000 are overdue after an outage",
        "they wait in line and are asked at the account's pace, the oldest closing time first;"
        " none is cancelled before an answer; none is forgotten",
        [
            "test_stress.py::test_after_an_outage_all_are_asked_for_in_turn_and_none_is_cancelled_"
            "before_an_answer",
            "test_limits.py::"
            "test_a_probe_that_is_answered_closes_it_and_all_who_wait_are_called_in_order",
            "test_limits.py::test_a_line_that_is_deleted_loses_nobody",
            "test_sweep.py::test_page_after_page_none_is_forgotten",
            "test_schedule.py::test_payments_of_one_moment_drift_apart",
        ],
        mutants=["in_line_and_nowhere_else", "grace_runs_while_the_breaker_is_open"],
        gap="50,000 are tried by `make stress WHAT=outage` alone, the test has fewer; no planted"
        " bug shows that the simulation would see a line that is never called",
    ),
    Row(
        54,
        "crowd",
        "a slow gateway and our retries",
        "one question of a payment at a time, ever more slowly; none is sent twice by itself",
        [
            "test_gateway.py::test_a_request_is_never_sent_twice_by_itself",
            "test_turn.py::test_while_nothing_can_leave_tries_become_rarer",
            "test_gate.py::test_repeats_are_no_more_than_a_tenth_of_the_ordinary_calls",
            "test_limits.py::test_repeats_beyond_their_share_wait_behind_all_others",
            "test_limits.py::test_calls_that_hang_leave_places_for_mail",
            "test_follow.py::test_a_wake_up_too_many_asks_nothing_twice",
            "test_turn.py::test_while_nothing_can_leave_the_next_try_is_always_ahead",
        ],
        gap="the budget of repeats is held by tables; no slow gateway has shown it",
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
            "test_hostile.py::"
            "test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace",
        ],
        cases=[
            "genuine: key version 2 during a rotation",
            "replay: the same, signed with the other key",
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
            "test_secrets.py::test_a_refused_setting_is_told_without_its_secret",
            "test_secrets.py::test_a_key_given_as_the_path_of_a_file_is_refused_as_any_other",
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
            "test_schema.py::test_the_sweep_wakes_it_for_a_worker_that_can_read_it",
            "test_stuck.py::test_a_record_of_another_version_is_told_of_as_well",
        ],
        gap="two real versions, and the way back: there is only one layout of records so far",
    ),
    Row(
        58,
        "deploy",
        "a setting is mistyped",
        "all faults told together at the start; keys that do not fit refused, by a signed sample",
        [
            "test_settings.py::test_a_misspelt_name_is_noticed_and_a_foreign_one_left_alone",
            "test_settings.py::test_our_own_key_in_place_of_the_gateways_is_noticed",
            "test_worker_process.py::test_bad_settings_are_all_told_at_once",
            "test_probes.py::test_a_private_key_that_does_not_fit_its_public_half_is_found",
            "test_probes.py::test_a_key_of_the_gateway_that_cannot_verify_is_found",
            "test_admission.py::test_everything_that_is_wrong_is_told_at_once",
        ],
        gap="a wrong client id, path or key of the gateway that is well formed shows only when"
        " messages or answers are refused",
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
            "faults/test_process.py::"
            "test_when_everything_was_killed_at_once_nothing_acknowledged_is_lost_and_all_ends",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        simulated=["power_cut_forgot_writes"],
        make=["make chaos"],
        gap="all at once by a power cut: together they are killed, the power is cut under the"
        " server alone",
    ),
    Row(
        61,
        DELIVERIES,
        "a callback endpoint is slow, or never ends its answer",
        "cut off after 15 s; no other endpoint's callbacks wait for it",
        [
            "test_courier.py::test_an_endpoint_that_is_slow",
            "test_courier.py::test_a_slow_endpoint_delays_no_other_payment",
            "test_courier.py::test_an_endless_answer_is_not_read_to_its_end",
        ],
        gap="15 s: the test makes it shorter",
    ),
    Row(
        62,
        DELIVERIES,
        "a callback endpoint redirects, or its name leads inside",
        "nothing is followed or reached that was not allowed; it counts as not taken",
        [
            "test_courier.py::test_what_is_not_taken_is_sent_again_under_the_same_id",
            "test_courier.py::test_a_name_that_leads_inside_is_not_followed_there",
            "test_courier.py::test_a_host_taken_off_the_list_gets_nothing_more",
            "test_courier.py::test_no_proxy_of_the_environment_is_used",
        ],
    ),
    Row(
        63,
        DELIVERIES,
        "a callback endpoint answers 410",
        "nothing more is sent for that payment; all that waited is kept aside, with one alarm",
        [
            "test_courier.py::test_410_stops_all_that_waits_for_this_payment",
            "test_redelivery.py::test_what_was_given_up_is_sent_again_in_order_with_all_its_tries",
        ],
    ),
    Row(
        64,
        DELIVERIES,
        "a worker is killed or frozen between a delivery and writing that down",
        "sent again with the same id when its lease has run out, still in order; what follows is"
        " not taken out in its place",
        [
            "test_courier.py::"
            "test_where_a_worker_dies_between_sending_and_writing_down_it_is_sent_again",
            "test_courier.py::test_two_who_sent_the_same_take_out_no_more_than_that",
            "test_courier.py::test_two_workers_do_not_send_the_same_at_once",
            "test_courier.py::test_a_worker_that_is_stopped_and_started_again_loses_nothing",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        make=["make chaos"],
        gap="with real processes chance decides when a worker is killed; a freeze there is up to"
        " 18 s, shorter than the lease of 30 s",
    ),
    Row(
        65,
        DELIVERIES,
        "Redis is lost between a delivery and writing that down, or with deliveries waiting",
        "sent again with the same id; what waits was written in one step with its event, so"
        " neither is there without the other",
        [
            "test_courier.py::"
            "test_where_a_worker_dies_between_sending_and_writing_down_it_is_sent_again",
            "test_courier.py::test_a_callback_outlives_its_payments_record",
            "test_forwarding.py::"
            "test_what_could_not_be_kept_is_neither_acknowledged_nor_passed_on_in_part",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        make=["make chaos"],
        gap="not in the simulation; a failover with deliveries waiting is tried nowhere: they are"
        " as safe as the events beside them",
    ),
    Row(
        66,
        DELIVERIES,
        "an entry that waits is damaged, of another version or of an account without settings",
        "damaged: kept aside with an alarm; the others are left for a worker that knows them;"
        " none holds up another payment",
        [
            "test_courier.py::test_what_nobody_of_us_wrote_is_kept_aside_and_holds_up_nothing",
            "test_courier.py::test_what_another_version_wrote_is_left_for_it",
            "test_courier.py::"
            "test_what_is_of_an_account_without_settings_here_waits_for_one_who_has_them",
            "test_redelivery.py::test_what_cannot_be_read_is_left",
            "test_redelivery.py::test_what_is_anothers_account_is_left",
        ],
    ),
    Row(
        67,
        DELIVERIES,
        "the receiver that notifications are passed on to is down, slow or refuses",
        "the gateway's acknowledgement does not wait for it; passed on later, unchanged; a"
        " refused one delays no other; after three days kept aside",
        [
            "test_forwarding.py::"
            "test_a_shop_that_is_down_delays_no_answer_to_the_gateway_and_gets_it_later",
            "test_forwarding.py::test_a_message_that_is_refused_delays_no_other",
            "test_forwarding.py::test_after_three_days_it_is_kept_aside_with_its_signature",
        ],
        gap="forwards are not in `make chaos`: they wait and are sent by the same code as"
        " callbacks, each alone",
    ),
    Row(
        68,
        DELIVERIES,
        "a notification to be passed on is resent, forged, or goes in a circle",
        "passed on once; nothing unproven is; two that hand on to each other stop",
        [
            "test_forwarding.py::test_a_resend_is_passed_on_once",
            "test_forwarding.py::test_what_is_not_proven_genuine_is_not_passed_on",
            "test_forwarding.py::test_two_that_hand_on_to_each_other_go_round_once",
        ],
    ),
    Row(
        69,
        DELIVERIES,
        "forwarding is switched off with some waiting",
        "kept aside with an alarm, not dropped",
        [
            "test_forwarding.py::test_where_passing_on_was_switched_off_nothing_is_lost_in_silence",
        ],
    ),
    Row(
        70,
        PAYS,
        "no answer, executed or not",
        "the same bytes again, an inquiry between two tries; one order",
        [
            "test_submit.py::"
            "test_a_pay_without_an_answer_is_the_same_request_again_with_inquiries_between",
            "test_submit_flow.py::test_whatever_becomes_of_a_pay_it_is_one_request_and_one_order",
            "test_demo.py::test_every_scenario_ends_at_least_twice_as_the_gateways_ledger_says",
            "test_chaos.py::test_whatever_breaks_nothing_is_lost_wrong_or_doubled",
        ],
        simulated=["pay_repeated"],
        mutants=["pays_with_another_request", "silent_pay_is_refused"],
        make=["make chaos"],
    ),
    Row(
        71,
        PAYS,
        "a worker is killed while it pays, or frozen before",
        "written down before it leaves: the next one sends the same; who lost the right sends"
        " nothing",
        [
            "test_submit.py::"
            "test_killed_while_it_pays_a_worker_leaves_the_same_request_to_the_next",
            "test_submit.py::test_the_right_to_pay_is_written_down_before_the_request_leaves",
            "test_submit.py::test_a_worker_that_loses_the_right_sends_nothing",
            "test_submit.py::test_a_worker_that_was_frozen_over_its_lease_sends_nothing",
            "test_submit.py::test_two_workers_with_the_same_command_make_one_payment",
        ],
        simulated=["crash_with_a_pay_open"],
        make=["make chaos"],
    ),
    Row(
        72,
        PAYS,
        "refused, after one without an answer",
        "failed only when an inquiry finds no order and no earlier try can make one any more; an"
        " order that is there is followed",
        [
            "test_submit.py::"
            "test_a_pay_refused_after_one_without_an_answer_waits_until_that_has_arrived",
            "test_submit.py::"
            "test_an_order_made_by_an_earlier_try_is_followed_though_a_later_one_is_refused",
            "test_submit.py::test_of_two_pays_the_refusal_of_the_first_leaves_the_second_open",
        ],
        simulated=["pay_refused", "failed_by_pay", "order_found_after_a_refusal"],
        mutants=["refused_pay_is_failed_unasked", "refusal_waits_for_no_earlier_pay"],
    ),
    Row(
        73,
        PAYS,
        "answered too late, or about another payment",
        "no order is made after the closing time; one that nobody expected is looked at; the"
        " buyer is sent to no other order's cashier; S is no success",
        [
            "test_submit.py::"
            "test_no_order_is_made_after_its_closing_time_but_one_that_is_there_is_found",
            "test_submit.py::"
            "test_an_answer_that_comes_after_the_end_makes_us_look_whether_money_was_taken",
            "test_submit.py::test_the_cashiers_address_is_never_taken_from_another_payments_answer",
            "test_submit.py::test_an_order_that_is_made_is_no_success",
        ],
        simulated=["submitted"],
        mutants=["link_of_another_order", "created_order_is_paid"],
    ),
    Row(
        74,
        PAYS,
        "report mode is switched on, a cancel is ordered, the payment is paid, before it leaves",
        "it does not leave",
        [
            "test_submit.py::test_report_mode_switched_on_meanwhile_keeps_the_pay_from_leaving",
            "test_submit.py::test_a_cancel_that_is_ordered_keeps_the_pay_from_leaving",
            "test_submit.py::test_a_success_that_arrives_before_the_pay_is_sent_again_stops_it",
        ],
        mutants=["pays_in_report_mode"],
    ),
    Row(
        75,
        "accounts",
        "a message, an answer or a command of one account meets the other's",
        "each is believed by its own account alone",
        [
            "test_two_accounts.py::"
            "test_of_all_mixtures_only_a_genuine_notification_is_taken_and_by_its_own_account_alone",
            "test_two_accounts.py::"
            "test_a_notification_of_one_account_is_no_mail_of_the_others_payment",
            "test_two_accounts.py::"
            "test_of_all_mixtures_only_the_gateways_own_answer_ends_a_payment",
            "test_two_accounts.py::test_a_command_is_about_the_account_that_it_names_alone",
            "test_two_accounts.py::"
            "test_payments_of_the_same_names_end_in_each_account_as_its_own_gateway_says",
            "test_receiver.py::test_the_paths_of_an_account_hold_for_it_alone",
        ],
        mutants=["accepts_another_tenants_signature"],
        gap="`make chaos` has one account",
    ),
)


def table() -> str:
    """The matrix as it stands in the docs, between its two markers."""
    head = ["| # | fault | what holds | shown by | not covered |", "|--:|---|---|---|---|"]
    return "\n".join([*head, *map(_line, MATRIX), ""])


def _line(row: Row) -> str:
    shown = [f"`{short(test)}`" for test in row.tests]
    shown += _all("cases", row.cases) + _all("the simulation sees", row.mutants)
    shown += _all("`make simulate` reaches", row.simulated) + [f"`{target}`" for target in row.make]
    fault = f"{row.where}: {row.fault}"
    cells = (str(row.number), fault, row.holds, "<br>".join(shown), row.gap)
    return f"| {' | '.join(cells)} |"


def short(test: str) -> str:
    """`faults/test_x.py::test_that_y_holds` as `faults/x: that y holds`."""
    file, name = test.replace("test_", "", 1).split("::test_")
    return f"{file.removesuffix('.py')}: {name.replace('_', ' ')}"


def _all(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{kind}: {', '.join(f'`{name}`' for name in names)}"] if names else []


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

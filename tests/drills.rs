//! The failover drills, each in brief: one round of a few seconds under a small load, as
//! `make verify` runs them. How long things take is noted and not judged; `make drill` judges it,
//! at full length. The drills themselves are in `tests/rig/drills`.

use std::path::Path;

use vx11_rig::{Drill, Length, drill};

async fn in_brief(number: u8) {
    let chosen = Drill::numbered(number).expect("a drill of this number");
    let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
    drill(chosen, Length::brief(), binary, drop).await.publish("drills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_clients_notice_nothing() {
    in_brief(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hangs_and_clients_notice_nothing() {
    in_brief(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_instances_are_cut_off_from_redis_and_clients_notice_nothing() {
    in_brief(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_is_cut_off_from_redis_and_no_valid_token_is_refused_on_either_side() {
    in_brief(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_slow_and_no_breaker_opens() {
    in_brief(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_and_goes_and_no_token_or_event_is_lost() {
    in_brief(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_emptied_and_no_event_is_lost() {
    in_brief(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_refuses_and_each_refusal_is_counted_under_its_reason() {
    in_brief(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_killed_and_clients_notice_nothing() {
    in_brief(9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_demoted_and_writes_go_to_the_new_one() {
    in_brief(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_killed_and_its_streams_reconnect_once() {
    in_brief(11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_instances_are_restarted_one_by_one_and_no_request_is_lost() {
    in_brief(12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_hangs_and_its_streams_resume_elsewhere() {
    in_brief(13).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_down_and_an_instance_killed_and_its_tokens_are_still_valid() {
    in_brief(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_boots_while_redis_is_down_and_validates_the_others_tokens() {
    in_brief(15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_reset_their_connection_fail_alone() {
    in_brief(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_cause_no_command_of_redis() {
    in_brief(17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_stop_reading_are_cut_and_nobody_else_waits() {
    in_brief(18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_are_cut_at_once_and_resume_where_they_were() {
    in_brief(19).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signing_key_is_rotated_with_one_instance_late_and_no_valid_token_is_refused() {
    in_brief(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_an_instance_is_off_and_no_valid_token_is_refused() {
    in_brief(21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_even_out_after_a_rolling_restart() {
    in_brief(22).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_loses_its_data_and_who_did_not_read_gets_all_the_same() {
    in_brief(23).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_reader_hangs_and_clients_notice_nothing() {
    in_brief(24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_filled_by_events_and_tokens_are_recorded_all_the_same() {
    in_brief(25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_come_over_a_narrow_link_also_to_an_instance_that_boots() {
    in_brief(26).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_token_resume_far_behind_and_nobody_else_waits() {
    in_brief(27).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_opens_a_few_streams_and_everybody_else_goes_on() {
    in_brief(28).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_leaves_behind_is_audited_once() {
    in_brief(29).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_lock_nobody_out() {
    in_brief(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_deployment_in_the_database_changes_nothing() {
    in_brief(31).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_revocation_stops_no_recovery() {
    in_brief(32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_comes_back_from_the_largest_ring() {
    in_brief(33).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_reaches_a_stream_beyond_its_grant_under_any_fault() {
    in_brief(34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_reaches_a_stream_beyond_its_grant_under_sentinel() {
    in_brief(35).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_all_streams_of_a_subject_and_no_others() {
    in_brief(36).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_subject_stays_blocked_under_any_fault() {
    in_brief(37).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_streams_equals_the_truth_or_names_who_is_missing() {
    in_brief(38).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_never_has_more_streams_than_its_cap() {
    in_brief(39).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_never_has_two_streams() {
    in_brief(40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_token_is_refused_where_the_service_is_to_refuse() {
    in_brief(41).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_subject_stays_blocked_under_sentinel() {
    in_brief(42).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_stream_of_a_subject_makes_room_and_no_other() {
    in_brief(43).await;
}

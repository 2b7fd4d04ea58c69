//! The failover drills, each in brief: one round of a few seconds under a small load. `make drill` runs all of them at
//! full length and prints their table; the drills themselves are in `tests/rig/drills`.

use std::path::Path;

use vx11_rig::{Drill, Length, Turn, drill};

async fn in_brief(number: u8) {
    let chosen = Drill::numbered(number).expect("a drill of this number");
    let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
    drill(Turn::wait().await, chosen, Length::brief(), binary, drop).await.publish("drills");
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
async fn one_instance_is_cut_off_from_redis_and_no_valid_token_is_refused_on_either_side() {
    in_brief(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_emptied_and_no_event_is_lost() {
    in_brief(7).await;
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
async fn redis_is_down_and_an_instance_killed_and_its_tokens_are_still_valid() {
    in_brief(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_are_cut_at_once_and_resume_where_they_were() {
    in_brief(19).await;
}

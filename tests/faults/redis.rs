//! One Redis, and what it does by itself or is done to it.

use vx11_kit::RedisServer;

use crate::instances::on_port;
use crate::{rounds, targets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_empty() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("kill -9, back empty", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.kill();
        fault_run.last().await;
        redis.restart().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_empty_at_once() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("kill -9, back empty at once", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.restart().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_with_an_old_snapshot() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("kill -9, back with old snapshot", redis.port()).await;
    for _ in 0..rounds() {
        redis.command(&["SAVE"]).await;
        fault_run.begin_fault().await;
        fault_run.last().await;
        redis.kill();
        redis.restart().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stopped_and_goes_on() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("SIGSTOP, CONT", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.stop().await;
        fault_run.last().await;
        redis.cont();
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_becomes_a_replica_with_sockets_left_open() {
    let redis = RedisServer::start().await;
    let mut fault_run = on_port("READONLY, sockets left open", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.become_replica().await;
        fault_run.last().await;
        redis.become_master().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_memory_is_full() {
    let redis = RedisServer::start().await;
    let mut fault_run = on_port("OOM", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.refuse_memory().await;
        fault_run.last().await;
        redis.allow_memory().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_restarts_and_loads_for_long() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("LOADING", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.restart_loading().await;
        fault_run.last().await;
        redis.finish_loading().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_for_a_password_that_nobody_has() {
    let mut redis = RedisServer::start().await;
    let mut fault_run = on_port("NOAUTH", redis.port()).await;
    let password = vx11_kit::new_principal();
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.require_password(&password).await;
        fault_run.last().await;
        redis.require_no_password().await;
        fault_run.recover().await;
    }
    fault_run.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_data_is_flushed() {
    let redis = RedisServer::start().await;
    let mut fault_run = on_port("FLUSHALL", redis.port()).await;
    for _ in 0..rounds() {
        fault_run.begin_fault().await;
        redis.flush().await;
        fault_run.recover().await;
        // Long enough for tokens to be issued that Redis has to know.
        fault_run.last().await;
    }
    fault_run.judge(targets()).await;
}

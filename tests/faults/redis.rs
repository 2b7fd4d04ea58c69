//! One Redis, and what it does by itself or is done to it.

use vx11_rig::RedisServer;

use crate::instances::on_port;
use crate::{rounds, targets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_empty() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("kill -9, back empty", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.kill();
        trial.last().await;
        redis.restart().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_empty_at_once() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("kill -9, back empty at once", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.restart().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_comes_back_with_an_old_snapshot() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("kill -9, back with old snapshot", redis.port()).await;
    for _ in 0..rounds() {
        redis.command(&["SAVE"]).await;
        trial.strike().await;
        trial.last().await;
        redis.kill();
        redis.restart().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stopped_and_goes_on() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("SIGSTOP, CONT", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.stop().await;
        trial.last().await;
        redis.cont();
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_becomes_a_replica_with_sockets_left_open() {
    let redis = RedisServer::start().await;
    let mut trial = on_port("READONLY, sockets left open", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.become_replica().await;
        trial.last().await;
        redis.become_master().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_memory_is_full() {
    let redis = RedisServer::start().await;
    let mut trial = on_port("OOM", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.refuse_memory().await;
        trial.last().await;
        redis.allow_memory().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_restarts_and_loads_for_long() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("LOADING", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.restart_loading().await;
        trial.last().await;
        redis.finish_loading().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_for_a_password_that_nobody_has() {
    let mut redis = RedisServer::start().await;
    let mut trial = on_port("NOAUTH", redis.port()).await;
    let password = vx11_rig::new_principal();
    for _ in 0..rounds() {
        trial.strike().await;
        redis.require_password(&password).await;
        trial.last().await;
        redis.require_no_password().await;
        trial.recover().await;
    }
    trial.judge(targets()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_to_forget_everything() {
    let redis = RedisServer::start().await;
    let mut trial = on_port("FLUSHALL", redis.port()).await;
    for _ in 0..rounds() {
        trial.strike().await;
        redis.flush().await;
        trial.recover().await;
        // Long enough for tokens to be issued that Redis has to know.
        trial.last().await;
    }
    trial.judge(targets()).await;
}

//! A reader of the log that hangs, as a stuck collector or a full disk behind it. Nothing suffers
//! but log lines.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use vx11_kit::{PATIENCE, until};

use crate::support::{Instance, raw_request};

/// Their lines are several times what a pipe holds.
const STREAMS: usize = 320;
const ONE_WORKER: (&str, &str) = ("VX11_OPERATOR__HTTP__WORKERS", "1");
const WINDOW: (&str, &str) = ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1");
/// Longest stop with that window. Six seconds are promised, and the rest is for a busy machine.
/// Below 20 s, after which the kernel would cut a client that does not read.
const LONGEST_STOP: Duration = Duration::from_secs(16);

/// Reads on until `text` has come, and returns everything up to it.
async fn read_until(from: &mut TcpStream, text: &str) -> String {
    let (mut read, mut searched) = (Vec::new(), 0);
    let reading = async {
        while !read[searched..].windows(text.len()).any(|window| window == text.as_bytes()) {
            searched = read.len().saturating_sub(text.len());
            assert_ne!(from.read_buf(&mut read).await.unwrap(), 0, "it ended before {text:?}");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("waited in vain for {text:?}"));
    String::from_utf8_lossy(&read).into_owned()
}

/// Causes log lines until some of them are lost; returns how many.
async fn lose_lines(instance: &Instance) -> u64 {
    let lost = async || instance.metric("vx11_operator_log_lines_lost_total").await;
    until("log lines to be lost", async || {
        for _ in 0..50 {
            assert_eq!(instance.get("/operator/api/health").send().await.unwrap().status(), StatusCode::OK);
        }
        lost().await > 0
    })
    .await;
    lost().await
}

#[tokio::test]
async fn a_log_reader_that_hangs_stops_nothing_and_lost_lines_are_counted() {
    let settings = [ONE_WORKER, ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1"), WINDOW];
    let mut instance = Instance::with_hung_log_reader(&settings).await;
    let request = format!(
        "GET /operator/api/events/stream HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {}\r\n\r\n",
        instance.principal
    );
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(instance.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "connected").await;
        streams.push(stream);
    }
    lose_lines(&instance).await;
    for stream in &mut streams {
        read_until(stream, ": heartbeat").await;
    }
    instance.terminate();
    let end = async {
        for stream in &mut streams {
            read_until(stream, "event: reconnect").await;
        }
        instance.ended().await.code()
    };
    assert_eq!(timeout(LONGEST_STOP, end).await.expect("it ends in time"), Some(0));
}

#[tokio::test]
async fn a_log_reader_that_hangs_and_a_subscriber_that_does_not_read_hold_up_no_stop() {
    // Together more than the sockets and the server's buffer for one connection hold.
    const EVENTS: usize = 40;
    let mut instance = Instance::with_hung_log_reader(&[ONE_WORKER, WINDOW]).await;
    lose_lines(&instance).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(instance.address().parse().unwrap()).await.unwrap();
    let token = instance.issue().await.token;
    let request = format!("GET /operator/api/events/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
    stuck.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stuck, "connected").await;
    for _ in 0..EVENTS {
        instance.publish(json!("x".repeat(60_000))).await;
    }
    instance.terminate();
    let end = timeout(LONGEST_STOP, instance.ended()).await.expect("it ends in time");
    assert_eq!(end.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_anybody_can_make_writes_no_line_at_the_level_of_production() {
    let instance = Instance::start().await;
    let request = b"GET /operator/api/events/stream HTTP/1.0\r\nHost: x\r\n\r\n";
    assert_eq!(raw_request(&instance, request).await.status, 505);
    instance.logs("status=505").await;
    let log = instance.log_text();
    let line = log.lines().find(|line| line.contains("status=505")).unwrap();
    assert!(line.contains("DEBUG"), "{line}");
}

#[tokio::test]
async fn a_log_reader_that_is_back_reads_how_many_lines_were_lost() {
    let instance = Instance::with_hung_log_reader(&[ONE_WORKER]).await;
    let lost = lose_lines(&instance).await;
    instance.read_log_again();
    let report = "log lines were lost: their reader did not take them in time lost=";
    until("all lines that were lost to be reported", async || {
        // One report for each time that there was room again.
        let log = instance.log_text();
        let counts = log.split(report).skip(1).map(|rest| rest.split_whitespace().next().unwrap());
        counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>() >= lost
    })
    .await;
}

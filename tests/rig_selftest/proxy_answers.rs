//! The proxy in the place of a Redis that refuses: one error for one command, in order.

use tokio::io::AsyncReadExt;
use vx11_rig::{FaultProxy, RedisServer, until};

use crate::client::{Raw, ask, connect, refusal};

const LOADING: &str = "LOADING Redis is loading the dataset in memory";

#[tokio::test]
async fn an_error_is_the_answer_to_every_command_and_redis_sees_none() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = connect(&proxy.address()).await;
    for error in [
        LOADING,
        "OOM command not allowed when used memory > 'maxmemory'.",
        "NOAUTH Authentication required.",
        "READONLY You can't write against a read only replica.",
    ] {
        proxy.answer(error);
        let code = error.split(' ').next().expect("a word");
        assert_eq!(refusal(&mut client, "SET key value").await, code);
    }
    proxy.pass();
    assert!(ask(&mut client, "PING").await.is_ok(), "on the same connection");
    assert!(!server.commandstats().await.contains_key("set"));
}

#[tokio::test]
async fn a_pipeline_is_answered_with_as_many_errors() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    proxy.answer(LOADING);
    let mut client = Raw::connect(&proxy.address()).await;
    // Texts that look like the end of a command, or the beginning of one, and are neither.
    let command = "*3\r\n$3\r\nSET\r\n$8\r\n*1\r\n$4\r\n\r\n$6\r\nPING\r\n\r\n";
    client.say(&command.repeat(50)).await;
    client.hear(&format!("-{LOADING}\r\n").repeat(50)).await;
    proxy.pass();
    client.say(command).await;
    client.hear("+OK\r\n").await;
    assert_eq!(server.with_db(0).keys().await, ["*1\r\n$4\r\n"]);
}

#[tokio::test]
async fn a_command_in_pieces_is_one_command() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = Raw::connect(&proxy.address()).await;
    client.0.set_nodelay(true).expect("a socket need not wait");
    let command = "*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n";
    let refused = format!("-{LOADING}\r\n");
    for at in 1..command.len() {
        let (first, rest) = command.split_at(at);
        // Sent with a command whose answer says that the piece has been read, too.
        let begin = format!("PING\r\n{first}");
        // The condition at its first byte decides, independent of the condition at its last byte.
        proxy.pass();
        client.say(&begin).await;
        client.hear("+PONG\r\n").await;
        proxy.answer(LOADING);
        client.say(rest).await;
        client.hear("$5\r\nhello\r\n").await;
        client.say(&begin).await;
        client.hear(&refused).await;
        proxy.pass();
        client.say(rest).await;
        client.hear(&refused).await;
    }
}

#[tokio::test]
async fn what_redis_was_asked_before_it_answers_itself_and_first() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = Raw::connect(&proxy.address()).await;
    client.say("BLPOP list 0\r\n").await;
    until("the client to wait", async || server.info("clients").await["blocked_clients"] == "1").await;
    proxy.answer(LOADING);
    client.say("PING\r\n").await;
    client.hear_nothing().await;
    let server = server.with_db(0);
    server.command(&["RPUSH", "list", "value"]).await;
    client.hear(&format!("*2\r\n$4\r\nlist\r\n$5\r\nvalue\r\n-{LOADING}\r\n")).await;
}

#[tokio::test]
async fn answers_of_every_shape_are_counted_as_one() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = Raw::connect(&proxy.address()).await;
    let server = server.with_db(0);
    client.say("HELLO 3\r\nCOMMAND COUNT\r\nCONFIG GET maxmemory*\r\nCOMMAND INFO get\r\nGET none\r\n").await;
    client.say("DEBUG nothing\r\nLRANGE none 0 1\r\nMULTI\r\nPING\r\nEXEC\r\n").await;
    hear_until(&mut client, "*1\r\n+PONG\r\n").await;
    client.say("BLPOP list 0\r\n").await;
    until("the client to wait", async || server.info("clients").await["blocked_clients"] == "1").await;
    proxy.answer(LOADING);
    client.say("PING\r\n").await;
    // Were one of the answers counted twice, this error would come too early; were one not counted,
    // never.
    client.hear_nothing().await;
    proxy.pass();
    client.say("ECHO end\r\n").await;
    server.command(&["RPUSH", "list", "value"]).await;
    client.hear(&format!("*2\r\n$4\r\nlist\r\n$5\r\nvalue\r\n-{LOADING}\r\n$3\r\nend\r\n")).await;
}

async fn hear_until(client: &mut Raw, end: &str) {
    let mut heard = String::new();
    until("the last answer", async || {
        let mut chunk = vec![0; 65_536];
        let read = client.0.read(&mut chunk).await.expect("an answer");
        heard.push_str(&String::from_utf8_lossy(&chunk[..read]));
        heard.ends_with(end)
    })
    .await;
}

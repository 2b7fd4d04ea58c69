//! Clients as a service has them: connections that stay open.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vx11_kit::PATIENCE;

/// Time for an answer that must not come, or need not come. A slow machine makes such a test weaker
/// and never red.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// A connection that waits for answers as long as a test does.
pub(crate) async fn connect(address: &str) -> MultiplexedConnection {
    connect_for(address, PATIENCE).await.expect("the server can be connected to")
}

/// A connection that waits for answers so long, once it is there.
pub(crate) async fn connect_for(address: &str, patience: Duration) -> RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(patience));
    let client = Client::open(format!("redis://{address}/1")).expect("an address");
    client.get_multiplexed_async_connection_with_config(&settings).await
}

/// A command from its arguments.
pub(crate) fn command(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().expect("a command has a name"));
    command.arg(words.collect::<Vec<_>>());
    command
}

pub(crate) async fn ask(connection: &mut MultiplexedConnection, words: &str) -> RedisResult<Value> {
    command(words).query_async(connection).await
}

/// First part of the error that Redis answers.
pub(crate) async fn refusal(connection: &mut MultiplexedConnection, words: &str) -> String {
    let refused: Result<Value, RedisError> = ask(connection, words).await;
    let error = refused.expect_err("the command is refused");
    error.code().unwrap_or_else(|| panic!("{words}: {error}")).to_owned()
}

/// A connection as bytes.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("somebody listens"))
    }

    pub(crate) async fn say(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.expect("the connection takes bytes");
    }

    /// Waits for exactly this text.
    pub(crate) async fn expect(&mut self, text: &str) {
        let mut received = vec![0; text.len()];
        let read = tokio::time::timeout(PATIENCE, self.0.read_exact(&mut received)).await;
        read.expect("an answer in time").expect("an answer");
        assert_eq!(String::from_utf8_lossy(&received), text);
    }

    /// Asserts that for a while nothing comes, not even the end. Only time shows that.
    pub(crate) async fn expect_nothing(&mut self) {
        let received = tokio::time::timeout(SHORT, self.0.read(&mut [0])).await;
        assert!(received.is_err(), "{received:?}");
    }
}

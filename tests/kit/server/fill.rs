//! A server that is full of tokens.

use redis::pipe;

use super::RedisServer;

/// Commands sent at once.
const BATCH: usize = 10_000;
/// Long enough for a test of a million.
const SECONDS: u32 = 900;

impl RedisServer {
    /// Adds `count` records that look like those of tokens and that nobody issued.
    pub async fn fill(&self, count: usize) {
        let mut connection = self.endpoint.connection().await.expect("the server can be connected to");
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            let mut commands = pipe();
            for _ in 0..batch {
                let key = format!("token:{:032x}", fastrand::u128(..));
                let value = format!("{:040x}", fastrand::u128(..));
                commands.cmd("SETEX").arg(key).arg(SECONDS).arg(value).ignore();
            }
            commands.query_async::<()>(&mut connection).await.expect("the server takes records");
            left -= batch;
        }
    }
}

//! A connection: to one server, or to a cluster with the same interface.

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, Pipeline, RedisResult, Value};

/// A connection. It is multiplexed: clones share it, and many calls may use it at the same time.
#[derive(Clone)]
pub(crate) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends one command.
    pub(crate) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            // The inherent method: the trait's allocates each future.
            Self::Node(node) => node.send_packed_command(command).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await?,
        };
        answer.extract_error()
    }

    /// Sends several commands at once and returns their answers, or the first error. In a cluster
    /// each goes to the node of its key.
    pub(crate) async fn ask_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node(node) => {
                let answers = node.send_packed_commands(commands, 0, commands.len()).await?;
                answers.into_iter().map(Value::extract_error).collect()
            }
            Self::Cluster(cluster) => {
                let answers = commands.cmd_iter().map(|command| {
                    let mut cluster = cluster.clone();
                    async move { cluster.req_packed_command(command).await?.extract_error() }
                });
                try_join_all(answers).await
            }
        }
    }

    /// Like [`Self::ask_all`], with an error in the place of the answer.
    pub(crate) async fn ask_each(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node(node) => node.send_packed_commands(commands, 0, commands.len()).await,
            Self::Cluster(cluster) => {
                let answers = commands.cmd_iter().map(|command| {
                    let mut cluster = cluster.clone();
                    async move { cluster.req_packed_command(command).await }
                });
                try_join_all(answers).await
            }
        }
    }

    /// Sends several commands, each carried out after the one before.
    pub(crate) async fn ask_in_order(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        if matches!(self, Self::Node(_)) {
            return self.ask_all(commands).await;
        }
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands.cmd_iter() {
            answers.push(self.ask(command).await?);
        }
        Ok(answers)
    }

    /// INFO of every master.
    pub(crate) async fn info(&mut self) -> RedisResult<Vec<String>> {
        let command = redis::cmd("INFO");
        match self {
            Self::Node(_) => Ok(vec![redis::from_redis_value(self.ask(&command).await?)?]),
            Self::Cluster(cluster) => {
                let masters = RoutingInfo::MultiNode((
                    MultipleNodeRoutingInfo::AllMasters,
                    Some(ResponsePolicy::Special),
                ));
                let answers = cluster.route_command(command, masters).await?;
                let answers: std::collections::BTreeMap<String, String> = redis::from_redis_value(answers)?;
                Ok(answers.into_values().collect())
            }
        }
    }
}

/// A pipeline of these commands.
pub(crate) fn pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

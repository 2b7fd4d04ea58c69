//! A connection to whatever is configured: one server, or a cluster that looks like one.

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, Pipeline, RedisResult, Value};

/// Many calls may use one at the same time.
#[derive(Clone)]
pub(crate) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// The answer to one command.
    pub(crate) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            // The method of its own, because the trait's allocates each future.
            Self::Node(node) => node.send_packed_command(command).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await?,
        };
        answer.extract_error()
    }

    /// The answers to several commands that are sent at once; the first error, if there is one. To
    /// a cluster each goes to the node of its key.
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

    /// The same, but each error stands where its answer would.
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

    /// The answers to several commands of which each is carried out after the one before.
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

    /// What every master says about itself.
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

/// These commands, to be sent at once.
pub(crate) fn pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

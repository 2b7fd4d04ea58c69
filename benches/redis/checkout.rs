//! Alternative to worker connections: a connection from a pool for each request.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use deadpool_redis::redis::{self, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use deadpool_redis::{Manager, Pool, Runtime};

use crate::constant;

/// Records something that looks like a token's record, and answers a constant.
pub(crate) const CHECKOUT: &str = "/bench/checkout";

/// One for the whole process, of the size that is the library's default.
static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let variable = |name| std::env::var(name).expect("a measured instance knows where Redis is");
    let port = variable("REDIS_PORT").parse().expect("a port is a number");
    let server = ConnectionAddr::Tcp(variable("REDIS_HOST"), port);
    let server = server.into_connection_info().expect("an address of a server");
    let server = server.set_redis_settings(RedisConnectionInfo::default().set_db(1));
    let manager = Manager::new(server).expect("a server that can be dialled");
    Pool::builder(manager).runtime(Runtime::Tokio1).build().expect("a pool of the default size")
});

/// Adds the route; `issued` is what it answers.
pub(crate) fn route(config: &mut ServiceConfig, issued: &'static str) {
    let answer = move || async move {
        match record().await {
            Some(()) => constant::answer(issued),
            None => HttpResponse::ServiceUnavailable().finish(),
        }
    };
    config.route(CHECKOUT, web::post().to(answer));
}

async fn record() -> Option<()> {
    let mut connection = POOL.get().await.ok()?;
    let mut command = redis::cmd("SETEX");
    command.arg(format!("token:{:032x}", fastrand::u128(..))).arg(12).arg(fastrand::i64(0..));
    command.query_async(&mut connection).await.ok()
}

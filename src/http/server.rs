//! The actix server: sockets, limits, and the ordered list of middleware.

use std::future::ready;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpServiceBuilder, Protocol, Request};
use actix_server::Server;
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::http::KeepAlive;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web_lab::middleware::CatchPanic;
#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

use super::AppState;
use super::connections::{Connections, Deadlines, Watched};
use super::cors;
use super::error::Problem;
use super::middleware::observe;
use super::routes::endpoints;

/// Time after which the kernel ends a connection whose client does not take data
/// (`TCP_USER_TIMEOUT`). actix has no timeout for writes, so a peer without a window would be kept
/// for ever.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(20);
/// Send buffer of a connection in bytes; the kernel doubles it for its bookkeeping. Small, so that
/// a client that stopped reading is noticed soon and costs less than 64 KiB.
const SEND_BUFFER: usize = 16 * 1024;
/// Bytes after which a connection is written before its response is polled again. This and a chunk
/// of a stream fit into the 8 KiB that actix reserves per connection; its buffer never shrinks.
const WRITE_BUFFER: usize = 4 * 1024;
/// Deadline of an idle connection: longer than nginx keeps idle upstream connections, so that nginx
/// closes first and never sends a request into a closing connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Deadline of the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline of an orderly close.
const GOODBYE: Duration = Duration::from_secs(1);
/// Connections of a worker that are not counted yet, or that make room and are not closed yet.
const UNDER_WAY: usize = 16;
/// Kernel filter that drops packets that begin a TCP connection (SYN without ACK). It loads the
/// flags, the 14th byte of the TCP header, and compares these two.
#[cfg(target_os = "linux")]
const WITHOUT_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];
/// Length of the accept queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Additional routes, for benchmarks.
pub type ExtraRoutes = fn(&mut ServiceConfig);

/// Configuration of the server.
pub struct ServerSettings {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Worker threads.
    pub workers: usize,
    /// Bound of the connections of all workers. It is above the bound of streams, so that other
    /// requests have room.
    pub max_connections: usize,
    /// Time from a graceful stop until remaining connections are cut.
    pub shutdown_timeout: Duration,
    /// Origins whose pages may read answers, or `*` alone.
    pub cors_origins: Vec<String>,
    /// Additional routes.
    pub extra: Option<ExtraRoutes>,
}

/// Handle of the listening socket. A graceful stop of actix drops accepted connections that it has
/// not read from. The socket is therefore closed first, and the server stopped after a grace
/// period.
pub struct ListenerHandle {
    listener: TcpListener,
    address: SocketAddr,
}

impl ListenerHandle {
    /// The address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops new connections, without closing the socket: [`Self::close`] resets connections in the
    /// accept queue, and the requests that their clients have sent.
    pub fn begin_closing(&self) {
        // Without the filter, which only Linux has, they are reset, as in a crash.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&self.listener).attach_filter(&WITHOUT_SYN);
    }

    /// Refuses connections from now on; accepted ones continue.
    pub fn close(&self) {
        // Only Linux can shut a listening socket down; elsewhere the stop of the server closes it.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// Binds and starts the server.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(settings: &ServerSettings, state: AppState) -> io::Result<(Server, ListenerHandle)> {
    let listener = listener(settings.listen)?;
    let handle = ListenerHandle { address: listener.local_addr()?, listener: listener.try_clone()? };
    let connections = Arc::new(Connections::new(
        settings.max_connections,
        Deadlines { head: HEAD_TIMEOUT, idle: KEEP_ALIVE },
        Arc::clone(&state.metrics),
    ));
    let state = web::Data::from(Arc::new(state));
    let (address, extra) = (handle.address, settings.extra);
    let cors_origins = settings.cors_origins.clone();
    let server = Server::build();
    let stopping = server.graceful_shutdown_signal();
    // Like `HttpServer`, which accepts no wrapped connections.
    let service = move || {
        let stopping = stopping.clone();
        let app = App::new()
            .app_data(state.clone())
            .configure(|routes| {
                cors::configure(routes, &cors_origins);
                for endpoint in endpoints() {
                    routes.service(endpoint.into_resource());
                }
                if let Some(extra) = extra {
                    extra(routes);
                }
            })
            .default_service(web::to(|| async { Err::<&str, _>(Problem::NotFound) }))
            // The middleware that is wrapped last sees the request first.
            .wrap(CatchPanic::default())
            .wrap(from_fn(observe))
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Referrer-Policy", "no-referrer")),
            );
        let http = HttpServiceBuilder::default()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
            // Deadline of the first request; `Watched` has the deadlines of all others.
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(GOODBYE)
            .h1_write_buffer_size(WRITE_BUFFER)
            // A client that leaves is noticed at once, not at the next heartbeat.
            .h1_allow_half_closed(false)
            .local_addr(address)
            .on_connect_ext(|socket: &Watched, data| {
                data.insert(Arc::clone(socket.connection()));
            })
            .finish(map_config::<_, _, Request, _, ()>(app, |()| AppConfig::default()));
        entering(Arc::clone(&connections)).and_then(http)
    };
    let accepted = settings.max_connections.div_ceil(settings.workers).saturating_add(UNDER_WAY);
    let server = server
        .disable_signals()
        .workers(settings.workers)
        .max_concurrent_connections(accepted)
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .listen("http", listener, service)?
        .run();
    Ok((server, handle))
}

/// Counts accepted connections, and closes those without room.
fn entering(
    connections: Arc<Connections>,
) -> impl ServiceFactory<
    TcpStream,
    Config = (),
    Response = (Watched, Protocol, Option<SocketAddr>),
    Error = DispatchError,
    InitError = (),
> {
    fn_service(move |socket: TcpStream| {
        let entered = connections.enter().map(|connection| {
            let peer = socket.peer_addr().ok();
            (Watched::new(socket, connection), Protocol::Http1, peer)
        });
        ready(entered.map_err(DispatchError::from))
    })
}

/// A listening socket whose connections inherit its options.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNSENT_TIMEOUT))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

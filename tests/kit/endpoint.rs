//! Commands of the kit to a server, each on a new connection.

use std::path::PathBuf;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use crate::patience::PATIENCE;

/// Address and password of a server.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) db: i64,
    pub(crate) password: Option<String>,
    /// With it the connection is encrypted. Beside it is the certificate that the kit shows.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Endpoint {
    pub(crate) fn new(port: u16, db: i64) -> Self {
        Self { port, db, password: None, ca_file: None }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> RedisResult<Client> {
        // Without a client name there are fewer commands of the library in what a test counts.
        let settings = RedisConnectionInfo::default().set_db(self.db).set_skip_set_lib_name();
        let settings = match &self.password {
            Some(password) => settings.set_password(password),
            None => settings,
        };
        let Some(ca_file) = &self.ca_file else {
            let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
            return Client::open(address.into_connection_info()?.set_redis_settings(settings));
        };
        // The first to choose wins, and all choose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read =
            |name: &str| std::fs::read(ca_file.with_file_name(name)).expect("certificates can be read");
        let client_tls = ClientTlsConfig { client_cert: read("client.crt"), client_key: read("client.key") };
        let root_cert = Some(std::fs::read(ca_file).expect("the CA's certificate can be read"));
        let (host, port) = ("127.0.0.1".to_owned(), self.port);
        let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(settings);
        Client::build_with_tls(info, TlsCertificates { client_tls: Some(client_tls), root_cert })
    }

    pub(crate) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client()?.get_multiplexed_async_connection_with_config(&patient).await
    }

    pub(crate) async fn ask(&self, words: &[&str]) -> RedisResult<Value> {
        let mut connection = self.connection().await?;
        command(words).query_async(&mut connection).await
    }
}

/// A command from its arguments.
pub(crate) fn command(words: &[&str]) -> redis::Cmd {
    let (name, arguments) = words.split_first().expect("a command has a name");
    let mut command = redis::cmd(name);
    command.arg(arguments);
    command
}

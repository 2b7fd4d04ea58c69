//! A deployment: Redis with a password, three instances whose secrets are files, and nginx in front of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use vx11_rig::{Nginx, Operator, RedisServer, Site, new_principal};

/// All of it; killed when dropped.
pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) instances: Vec<Operator>,
    pub(crate) nginx: Nginx,
    secrets: TempDir,
}

impl Cluster {
    /// Whose tokens live for so many seconds, with nginx as `site` says.
    pub(crate) async fn start(life: u64, site: Site) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let (principal, password) = (new_principal(), new_principal());
        write(&secrets.path().join("principal-token"), &principal);
        write(&secrets.path().join("redis-password"), &password);
        let redis = RedisServer::with(&["--requirepass", &password]).await;
        let mut instances = Vec::new();
        for id in ["1", "2", "3"] {
            let file = |name: &str| secrets.path().join(name).display().to_string();
            let environment = [
                ("INSTANCE_ID", id),
                ("EPHEMERAL_TOKEN_TTL_SEC", &life.to_string()),
                ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1"),
                ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1/32"),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PORT", &redis.port().to_string()),
                ("REDIS_PASSWORD_FILE", &file("redis-password")),
                // In place of the rig's own.
                ("VX11_PRINCIPAL_TOKEN", ""),
                ("VX11_PRINCIPAL_TOKEN_FILE", &file("principal-token")),
            ];
            let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
            instances.push(Operator::start(binary, &principal, &environment).await);
        }
        for instance in &instances {
            instance.await_well().await;
        }
        let addresses = instances.iter().map(|instance| instance.address().to_owned()).collect();
        let nginx = Nginx::with(Site { instances: addresses, ..site }).await;
        Self { redis, instances, nginx, secrets }
    }

    /// The folder with `principal-token` and `redis-password`.
    pub(crate) fn secrets(&self) -> &Path {
        self.secrets.path()
    }

    /// The credential that clients present.
    pub(crate) fn principal(&self) -> String {
        let file = std::fs::read_to_string(self.secrets().join("principal-token")).unwrap();
        file.lines().next().unwrap().to_owned()
    }
}

/// Writes a secret as it is deployed: on a line of its own, for nobody else.
fn write(file: &Path, secret: &str) {
    std::fs::write(file, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

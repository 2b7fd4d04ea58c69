//! A deployment: Redis with a password, three instances whose secrets are files, and nginx in front
//! of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use vx11_kit::{Api, Nginx, Operator, RedisServer, Site, new_principal, remember_secret};

/// All of it; killed when dropped.
pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) instances: Vec<Operator>,
    pub(crate) nginx: Nginx,
    secrets: TempDir,
    life: Duration,
}

impl Cluster {
    /// Whose tokens live for so many seconds, with nginx as `site` says. Signing keys are derived
    /// from the principal.
    pub(crate) async fn start(life: u64, site: Site) -> Self {
        Self::begin(life, site, false).await
    }

    /// Like [`Self::start`], with signing keys as a further secret `signing-keys`.
    pub(crate) async fn with_signing_keys(life: u64) -> Self {
        Self::begin(life, Site::default(), true).await
    }

    async fn begin(life: u64, site: Site, has_signing_keys: bool) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let (principal, password) = (new_principal(), new_principal());
        if has_signing_keys {
            write(&secrets.path().join("signing-keys"), &[new_principal(), new_principal()].concat());
        }
        write(&secrets.path().join("principal-token"), &principal);
        write(&secrets.path().join("redis-password"), &password);
        let redis = RedisServer::with(&["--requirepass", &password]).await;
        let mut instances = Vec::new();
        let file = |name: &str| secrets.path().join(name).display().to_string();
        let [principal_file, password_file, keys_file] =
            ["principal-token", "redis-password", "signing-keys"].map(file);
        let (seconds, port) = (life.to_string(), redis.port().to_string());
        for id in ["1", "2", "3"] {
            let mut environment = vec![
                ("INSTANCE_ID", id),
                ("EPHEMERAL_TOKEN_TTL_SEC", &seconds),
                ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1"),
                ("VX11_OPERATOR_LOG_FORMAT", "json"),
                ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1/32"),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PORT", &port),
                ("REDIS_PASSWORD_FILE", &password_file),
                // In place of the kit's own.
                ("VX11_PRINCIPAL_TOKEN", ""),
                ("VX11_PRINCIPAL_TOKEN_FILE", &principal_file),
            ];
            if has_signing_keys {
                environment.push(("VX11_OPERATOR_SIGNING_KEYS_FILE", &keys_file));
            }
            let binary = Path::new(env!("CARGO_BIN_EXE_vx11-operator"));
            instances.push(Operator::start(binary, &principal, &environment).await);
        }
        for instance in &instances {
            instance.await_well().await;
        }
        let addresses = instances.iter().map(|instance| instance.address().to_owned()).collect();
        let nginx = Nginx::with(Site { instances: addresses, ..site }).await;
        Self { redis, instances, nginx, secrets, life: Duration::from_secs(life) }
    }

    /// Names that pages use for the parts.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SECRETS", self.secrets().display().to_string()),
            ("URL", self.nginx.balancer()),
            ("INSTANCES", self.instances.iter().map(|it| it.base()).collect::<Vec<_>>().join(" ")),
            ("REDIS_PORT", self.redis.port().to_string()),
            ("REDIS_ADMIN_PASSWORD", self.secrets().join("redis-password").display().to_string()),
        ]
    }

    /// The load balancer, for clients.
    pub(crate) fn balancer(&self) -> Api {
        Api::new(&self.nginx.balancer(), &self.principal(), self.life)
    }

    /// Ends an instance in order and starts it again; returns when it is ready.
    pub(crate) async fn restart(&mut self, instance: usize) {
        let instance = &mut self.instances[instance];
        instance.terminate();
        instance.ended().await;
        instance.restart().await;
    }

    /// Ends all instances in order, together, and starts them again; returns when they use Redis.
    pub(crate) async fn restart_at_once(&mut self) {
        self.instances.iter_mut().for_each(Operator::terminate);
        for instance in &mut self.instances {
            instance.ended().await;
            instance.restart().await;
        }
        for instance in &self.instances {
            instance.await_well().await;
        }
    }

    /// All clients present the first credential of the file from now on.
    pub(crate) fn move_clients(&self) {
        let first = self.principal();
        self.instances.iter().for_each(|instance| instance.present(&first));
    }

    /// The folder with `principal-token` and `redis-password`.
    pub(crate) fn secrets(&self) -> &Path {
        self.secrets.path()
    }

    /// The credential that clients present.
    pub(crate) fn principal(&self) -> String {
        self.secret("principal-token").swap_remove(0)
    }

    /// The lines of a secret, each noted as one: commands may have written it.
    pub(crate) fn secret(&self, name: &str) -> Vec<String> {
        let lines = std::fs::read_to_string(self.secrets().join(name)).unwrap();
        lines.lines().inspect(|secret| remember_secret(secret)).map(str::to_owned).collect()
    }
}

/// Writes a secret as in a deployment: one line, readable by its owner only.
fn write(file: &Path, secret: &str) {
    std::fs::write(file, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

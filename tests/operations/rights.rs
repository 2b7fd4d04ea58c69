//! Who may look into Redis: the same rights wherever a Redis ships, enough for every command of the runbooks, and none that
//! changes anything.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use vx11_rig::{RedisServer, new_principal, remember_secret};

use crate::shipped;

/// The user that people have.
pub(crate) const PEOPLE: &str = "oncall";
/// What they have no business with.
const FORBIDDEN: [&str; 10] = [
    "SET a b",
    "DEL a",
    "XADD {vx11}:events * a b",
    "FLUSHDB",
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory-policy noeviction",
    "KEYS *",
    "MONITOR",
    "ACL LIST",
    "SHUTDOWN",
];

/// What a Redis that ships is given.
struct Users {
    folder: TempDir,
    /// The ACL file.
    list: String,
    /// Of the instances.
    password: String,
}

/// The rights of people in `docs/redis.md`, with everything that stands behind `ACL SETUSER oncall`.
fn documented() -> String {
    let page = std::fs::read_to_string(shipped("docs/redis.md")).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("ACL SETUSER {PEOPLE} ")));
    line.unwrap().to_owned()
}

/// Makes the user that is documented; its password.
pub(crate) async fn let_people_in(redis: &RedisServer) -> String {
    let (password, rights) = (new_principal(), documented());
    let rights = rights.replace("PASSWORD", &password);
    let words: Vec<_> = ["ACL", "SETUSER", PEOPLE].into_iter().chain(rights.split(' ')).collect();
    redis.command(&words).await;
    password
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `users.sh` prints in its container, whose `/data` is a folder here.
fn of_compose() -> Users {
    let (folder, password) = (tempfile::tempdir().unwrap(), new_principal());
    let data = folder.path().display().to_string();
    let script = std::fs::read_to_string(shipped("deploy/compose/redis/users.sh")).unwrap();
    let hash = r#"set -- "$(printf %s "$PASSWORD" | sha256sum | cut -d ' ' -f 1)""#;
    let print = || {
        let script = format!("{hash}\n{}", script.replace("/data/", &format!("{data}/")));
        succeeded(&Command::new("sh").args(["-c", &script]).env("PASSWORD", &password).output().unwrap())
    };
    let list = print();
    assert_eq!(print(), list, "people's password lasts as long as the container");
    Users { folder, list, password }
}

fn of_kubernetes() -> Users {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("secrets");
    succeeded(&Command::new(shipped("deploy/kubernetes/make-secrets")).arg(&made).output().unwrap());
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap();
    let password = read("redis-password").trim().to_owned();
    let list = read("users.acl");
    let line = list.lines().find_map(|line| line.strip_prefix("user oncall on >")).unwrap();
    std::fs::write(folder.path().join(PEOPLE), line.split(' ').next().unwrap()).unwrap();
    Users { folder, list, password }
}

/// What stands behind a user's password.
fn behind_password(line: &str) -> &str {
    line.split_once(['>', '#']).unwrap().1.split_once(' ').unwrap().1
}

fn ask(redis: &RedisServer, password: &Path, command: &str) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "--user", PEOPLE])
        .args(command.split(' '))
        .env("REDISCLI_AUTH", std::fs::read_to_string(password).unwrap())
        .output();
    succeeded(&output.unwrap())
}

#[tokio::test]
async fn people_may_look_into_every_redis_that_ships_and_change_nothing() {
    for users in [of_compose(), of_kubernetes()] {
        let line = users.list.lines().find(|line| line.starts_with(&format!("user {PEOPLE} "))).unwrap();
        assert_eq!(behind_password(line), behind_password(&documented()));
        let (file, password) = (users.folder.path().join("users.acl"), users.folder.path().join(PEOPLE));
        remember_secret(&users.password);
        remember_secret(&std::fs::read_to_string(&password).unwrap());
        std::fs::write(&file, &users.list).unwrap();
        // For the rig's own questions; the rights come from the file all the same.
        let arguments = ["--aclfile", file.to_str().unwrap(), "--requirepass", &users.password];
        let redis = RedisServer::with(&arguments).await;
        assert!(ask(&redis, &password, "INFO memory").contains("maxmemory_policy:"));
        for command in FORBIDDEN {
            let answer = ask(&redis, &password, command);
            assert!(answer.contains("NOPERM"), "{command}: {answer}");
        }
    }
}

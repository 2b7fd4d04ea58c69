//! Rights of the users of Redis: the same wherever a Redis is shipped. Those of people are enough
//! for every command of the runbooks, and change nothing. Those of the instances are enough for an
//! instance, and reach nothing else.

use std::process::{Command, Output};

use tempfile::TempDir;
use vx11_kit::{RedisServer, new_principal, remember_secret};

use crate::shipped;

/// The user that people have.
pub(crate) const PEOPLE: &str = "oncall";
/// Commands that they must not run.
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

/// The user of the instances, in `docs/redis.md` and where a Redis ships.
const INSTANCES: [&str; 2] = ["sse", "default"];
/// Commands that an instance must not run.
const BEYOND_INSTANCES: [&str; 14] = [
    "FUNCTION LIST",
    "FUNCTION FLUSH",
    "SCRIPT FLUSH",
    "PUBLISH a b",
    "DEL token:a",
    "SCAN 0",
    "KEYS *",
    "SET elsewhere b",
    "GET elsewhere",
    "FLUSHALL",
    "CONFIG GET maxmemory",
    "CLIENT LIST",
    "ACL LIST",
    "SHUTDOWN",
];

/// Users of a shipped Redis.
struct Users {
    folder: TempDir,
    /// The ACL file.
    list: String,
    /// Rights of the instances.
    password: String,
    /// Of people.
    people: String,
}

impl Users {
    /// The line of a user in the ACL file.
    fn line(&self, user: &str) -> &str {
        self.list.lines().find(|line| line.starts_with(&format!("user {user} "))).unwrap()
    }

    /// A server with these users.
    async fn start(&self) -> RedisServer {
        remember_secret(&self.password);
        remember_secret(&self.people);
        let file = self.folder.path().join("users.acl");
        std::fs::write(&file, &self.list).unwrap();
        // For the rig's own questions; the rights come from the file all the same.
        RedisServer::with(&["--aclfile", file.to_str().unwrap(), "--requirepass", &self.password]).await
    }
}

/// The rights of a user in `docs/redis.md`: everything after `ACL SETUSER` and the name.
fn documented(user: &str) -> String {
    let page = std::fs::read_to_string(shipped("docs/redis.md")).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("ACL SETUSER {user} ")));
    line.unwrap().to_owned()
}

/// Makes the user that is documented; its password.
pub(crate) async fn let_people_in(redis: &RedisServer) -> String {
    let (password, rights) = (new_principal(), documented(PEOPLE));
    let rights = rights.replace("PASSWORD", &password);
    let words: Vec<_> = ["ACL", "SETUSER", PEOPLE].into_iter().chain(rights.split(' ')).collect();
    redis.command(&words).await;
    password
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Output of `users.sh` in its container, whose `/data` is a folder here.
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
    let people = std::fs::read_to_string(folder.path().join(PEOPLE)).unwrap();
    Users { folder, list, password, people }
}

fn of_kubernetes() -> Users {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("secrets");
    succeeded(&Command::new(shipped("deploy/kubernetes/make-secrets")).arg(&made).output().unwrap());
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap().trim().to_owned();
    let [list, password, people] = ["users.acl", "redis-password", "oncall-password"].map(read);
    Users { folder, list, password, people }
}

/// Text after a user's password.
fn after_password(line: &str) -> &str {
    line.split_once(['>', '#']).unwrap().1.split_once(' ').unwrap().1
}

fn ask(redis: &RedisServer, (user, password): (&str, &str), command: &str) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "--user", user])
        .args(command.split(' '))
        .env("REDISCLI_AUTH", password)
        .output();
    succeeded(&output.unwrap())
}

#[tokio::test]
async fn people_may_look_into_every_redis_that_ships_and_change_nothing() {
    for users in [of_compose(), of_kubernetes()] {
        assert_eq!(after_password(users.line(PEOPLE)), after_password(&documented(PEOPLE)));
        let (redis, people) = (users.start().await, (PEOPLE, users.people.as_str()));
        assert!(ask(&redis, people, "INFO memory").contains("maxmemory_policy:"));
        for command in FORBIDDEN {
            let answer = ask(&redis, people, command);
            assert!(answer.contains("NOPERM"), "{command}: {answer}");
        }
    }
}

/// That they are enough is shown by an instance that has them, in `tests/api`.
#[tokio::test]
async fn instances_have_the_documented_rights_in_every_redis_that_ships_and_no_others() {
    let [name, shipped_name] = INSTANCES;
    for users in [of_compose(), of_kubernetes()] {
        assert_eq!(after_password(users.line(shipped_name)), after_password(&documented(name)));
        let (redis, instance) = (users.start().await, (shipped_name, users.password.as_str()));
        assert_eq!(ask(&redis, instance, "SETEX token:a 60 1").trim(), "OK");
        for command in BEYOND_INSTANCES {
            let answer = ask(&redis, instance, command);
            assert!(answer.contains("NOPERM"), "{command}: {answer}");
        }
    }
}

//! Rules about fields of the Compose file, and about the contract. Each rule returns its
//! violations, so that a test can break the file and see that the rule notices.

use std::collections::BTreeSet;

use serde_json::{Value, json};

type Rule = fn(&Value) -> Result<(), String>;

/// The numbers of the instances.
pub(crate) const INSTANCES: [u8; 3] = [1, 2, 3];
const REDIS: &str = "vx11-redis";
const NGINX: &str = "vx11-nginx-lb";

const RULES: [Rule; 11] = [
    the_services_are_the_predecessors,
    ports_are_the_contracts,
    nothing_is_published_to_the_world,
    an_instance_has_time_to_drain,
    nobody_may_do_anything,
    everyone_is_limited,
    each_waits_until_the_one_before_is_healthy,
    secrets_are_files,
    addresses_agree,
    wrong_credentials_are_limited,
    memory_has_room_for_all_bounds,
];

/// All complaints about the file.
pub(crate) fn violations(file: &Value) -> Vec<String> {
    if let Err(complaint) = the_services_are_the_predecessors(file) {
        return vec![complaint];
    }
    RULES.iter().filter_map(|rule| rule(file).err()).collect()
}

fn require(holds: bool, complaint: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint.into()) }
}

fn services(file: &Value) -> impl Iterator<Item = (&String, &Value)> {
    file["services"].as_object().into_iter().flatten()
}

fn instances(file: &Value) -> impl Iterator<Item = (u8, &Value)> {
    INSTANCES.iter().map(|number| (*number, &file["services"][format!("vx11-operator-{number}")]))
}

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// `25s` in seconds.
fn seconds(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).unwrap_or(0)
}

/// `512m` or `1g` in bytes.
fn bytes(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    let number =
        |suffix, shift: u32| text.strip_suffix(suffix)?.parse::<u64>().ok().map(|count| count << shift);
    number('g', 30).or_else(|| number('m', 20)).unwrap_or(0)
}

/// A number of an instance's environment, else of the built-in defaults.
fn configured(instance: &Value, variable: &str, section: &str, key: &str) -> u64 {
    let defaults: toml::Table = vx11_operator::config::DEFAULTS.parse().expect("the defaults are TOML");
    let given = &instance["environment"][variable];
    let given = given.as_u64().or_else(|| given.as_str()?.parse().ok());
    let default = defaults[section][key].as_integer().and_then(|value| u64::try_from(value).ok());
    given.or(default).unwrap_or_else(|| panic!("no number for {section}.{key}"))
}

fn the_services_are_the_predecessors(file: &Value) -> Result<(), String> {
    let names: Vec<_> = services(file).map(|(name, _)| name.as_str()).collect();
    let mut expected =
        ["vx11-redis", "vx11-operator-1", "vx11-operator-2", "vx11-operator-3", "vx11-nginx-lb"];
    expected.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    require(sorted == expected, format!("services: {names:?}"))
}

/// The ports of a service as (address, port of the host, port of the container).
fn published(service: &Value) -> Vec<(String, String, String)> {
    let ports = service["ports"].as_array().into_iter().flatten().filter_map(Value::as_str);
    ports
        .map(|port| {
            let mut pieces = port.rsplitn(3, ':').map(str::to_owned);
            let (inner, outer) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
            (pieces.next().unwrap_or_default(), outer, inner)
        })
        .collect()
}

fn ports_are_the_contracts(file: &Value) -> Result<(), String> {
    let of = |service: &Value| -> BTreeSet<(String, String)> {
        published(service).into_iter().map(|(_, outer, inner)| (outer, inner)).collect()
    };
    let pair = |outer: &str, inner: &str| (outer.to_owned(), inner.to_owned());
    for (number, instance) in instances(file) {
        let expected = BTreeSet::from([pair(&format!("801{number}"), "8001")]);
        require(of(instance) == expected, format!("ports: instance {number}: {}", instance["ports"]))?;
    }
    let nginx = &file["services"][NGINX];
    let expected = BTreeSet::from([pair("8001", "8001"), pair("8000", "8000")]);
    require(of(nginx) == expected, format!("ports: nginx: {}", nginx["ports"]))?;
    require(texts(&file["services"][REDIS]["expose"]).contains("6379"), "ports: Redis is not at 6379")
}

fn nothing_is_published_to_the_world(file: &Value) -> Result<(), String> {
    require(published(&file["services"][REDIS]).is_empty(), "published: Redis")?;
    for (name, service) in services(file) {
        let local = published(service).iter().all(|(address, ..)| address == "127.0.0.1");
        require(local, format!("published: {name} is reached from everywhere by default"))?;
    }
    Ok(())
}

fn an_instance_has_time_to_drain(file: &Value) -> Result<(), String> {
    for (number, instance) in instances(file) {
        let window = configured(instance, "VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "drain", "window_seconds");
        let grace = seconds(&instance["stop_grace_period"]);
        require(grace > window + 10, format!("grace: instance {number}: {grace} s for {window} + 10"))?;
    }
    Ok(())
}

fn nobody_may_do_anything(file: &Value) -> Result<(), String> {
    for (name, service) in services(file) {
        // The user of an instance is the image's, a number.
        let is_own = service.get("build").is_some();
        let user = service["user"].as_str().and_then(|user| user.split(':').next()?.parse::<u32>().ok());
        let holds = [
            service["read_only"] == true,
            service["cap_drop"] == json!(["ALL"]),
            texts(&service["security_opt"]).contains("no-new-privileges:true"),
            service.get("privileged").is_none() && service.get("cap_add").is_none(),
            user.is_some_and(|user| user > 0) || (is_own && service.get("user").is_none()),
            service["volumes"].as_array().into_iter().flatten().all(|volume| volume["read_only"] == true),
        ];
        require(holds == [true; 6], format!("rights: {name}: {holds:?}"))?;
    }
    Ok(())
}

fn everyone_is_limited(file: &Value) -> Result<(), String> {
    for (name, service) in services(file) {
        let holds = [
            bytes(&service["mem_limit"]) > 0,
            service["cpus"].as_f64().is_some_and(|cores| cores > 0.0),
            service["pids_limit"].as_u64().is_some_and(|most| most > 0),
            !service["ulimits"]["nofile"]["soft"].is_null(),
            // A core dump has the secrets in it.
            service["ulimits"]["core"] == 0,
            service["logging"]["options"]["max-size"].is_string(),
            service["logging"]["options"]["max-file"].is_string(),
            service["restart"] == "unless-stopped",
            seconds(&service["stop_grace_period"]) > 0,
        ];
        require(holds == [true; 9], format!("limits: {name}: {holds:?}"))?;
    }
    Ok(())
}

fn each_waits_until_the_one_before_is_healthy(file: &Value) -> Result<(), String> {
    for (name, service) in services(file) {
        let asks = service["healthcheck"]["test"].as_array().is_some_and(|test| test.len() > 1);
        require(asks, format!("health: nobody asks {name}"))?;
    }
    let waits = |service: &Value, other: &str| service["depends_on"][other]["condition"] == "service_healthy";
    for (number, instance) in instances(file) {
        require(waits(instance, REDIS), format!("order: instance {number} does not wait for Redis"))?;
        let nginx = &file["services"][NGINX];
        require(
            waits(nginx, &format!("vx11-operator-{number}")),
            format!("order: nginx does not wait for {number}"),
        )?;
    }
    Ok(())
}

fn secrets_are_files(file: &Value) -> Result<(), String> {
    const SECRET: [&str; 4] =
        ["VX11_PRINCIPAL_TOKEN", "VX11_OPERATOR_SIGNING_KEYS", "REDIS_PASSWORD", "REDIS_URL"];
    for (name, service) in services(file) {
        let given = texts(&service["secrets"]);
        let known = given.iter().all(|secret| file["secrets"][secret]["file"].is_string());
        require(known, format!("secret: {name} is given one that is not declared"))?;
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            require(!SECRET.contains(&variable.as_str()), format!("secret: {name} has {variable} in clear"))?;
            let is_given = value
                .as_str()
                .and_then(|path| path.strip_prefix("/run/secrets/"))
                .is_some_and(|secret| given.contains(secret));
            require(
                is_given || !variable.strip_suffix("_FILE").is_some_and(|secret| SECRET.contains(&secret)),
                format!("secret: {name} is not given {variable}"),
            )?;
        }
    }
    Ok(())
}

fn addresses_agree(file: &Value) -> Result<(), String> {
    let subnet = file["networks"]["vx11-net"]["ipam"]["config"][0]["subnet"].as_str().unwrap_or_default();
    let prefix = subnet.strip_suffix("0/24").unwrap_or("?");
    let address = |service: &Value| service["networks"]["vx11-net"]["ipv4_address"].clone();
    let all: BTreeSet<_> =
        services(file).filter_map(|(_, service)| address(service).as_str().map(str::to_owned)).collect();
    require(all.len() == 5, format!("address: not five different ones: {all:?}"))?;
    require(all.iter().all(|address| address.starts_with(prefix)), format!("address: {all:?} in {subnet}"))?;
    for (number, instance) in instances(file) {
        let trusted = &instance["environment"]["VX11_OPERATOR__HTTP__TRUSTED_PROXIES"];
        require(
            *trusted == address(&file["services"][NGINX]),
            format!("address: instance {number} trusts {trusted}"),
        )?;
    }
    Ok(())
}

fn wrong_credentials_are_limited(file: &Value) -> Result<(), String> {
    for (number, instance) in instances(file) {
        let variable = "VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE";
        let most = configured(instance, variable, "limits", "failed_auth_per_minute");
        require(most > 0, format!("failures: instance {number} does not limit wrong credentials"))?;
    }
    Ok(())
}

fn memory_has_room_for_all_bounds(file: &Value) -> Result<(), String> {
    const STREAM: u64 = 14 * 1024; // The target of docs/measurements/performance.md; what was measured is below it.
    for (number, instance) in instances(file) {
        let streams = configured(instance, "VX11_OPERATOR__STREAMS__MAX", "streams", "max");
        let records = configured(instance, "VX11_OPERATOR__MEMORY__MAX_BYTES", "memory", "max_bytes");
        let ring = configured(instance, "VX11_OPERATOR__EVENTS__RING_BYTES", "events", "ring_bytes");
        // The standby, and once more the revocations that were heard of.
        let needed = streams * STREAM + 2 * records + ring;
        let limit = bytes(&instance["mem_limit"]);
        require(
            limit >= needed + needed / 2,
            format!("memory: instance {number}: {limit} for 1.5 x {needed}"),
        )?;
    }
    let settings = std::fs::read_to_string(crate::shipped("deploy/compose/redis/redis.conf"));
    let settings = settings.map_err(|error| format!("memory: redis.conf: {error}"))?;
    let line =
        |key: &str| settings.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let most = line("maxmemory ").strip_suffix('b').unwrap_or_default();
    let (most, limit) = (bytes(&json!(most)), bytes(&file["services"][REDIS]["mem_limit"]));
    require(line("maxmemory-policy ") == "noeviction", "memory: Redis may drop records")?;
    require(most > 0 && limit >= most + (64 << 20), format!("memory: Redis: {limit} for {most}"))
}

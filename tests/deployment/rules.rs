//! Rules about fields of the manifests that no schema knows. Each rule returns its violations, so
//! that a test can break a manifest and see that the rule notices.

use ipnet::IpNet;
use serde_json::Value;

use crate::rendered::Objects;

type Rule = fn(&Objects) -> Result<(), String>;

const RULES: [Rule; 12] = [
    the_pod_has_time_to_drain,
    labels_match_selectors,
    the_autoscaler_owns_the_number,
    two_instances_always_remain,
    ports_agree,
    probes_ask_the_instance_about_itself,
    the_pod_may_do_nothing,
    nothing_foreign_in_the_environment,
    the_memory_limit_has_room_for_all_bounds,
    no_client_is_a_trusted_proxy,
    wrong_credentials_are_limited,
    secrets_are_files,
];

/// All violations in the service's manifests.
pub(crate) fn violations(objects: &Objects) -> Vec<String> {
    RULES.iter().filter_map(|rule| rule(objects).err()).collect()
}

fn require(holds: bool, complaint: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint.into()) }
}

fn pod(objects: &Objects) -> &Value {
    &objects.only("Deployment")["spec"]["template"]["spec"]
}

/// A number that the config map gives.
fn configured(objects: &Objects, name: &str) -> u64 {
    let value = objects.only("ConfigMap")["data"][name].as_str();
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number for {name}"))
}

fn the_pod_has_time_to_drain(objects: &Objects) -> Result<(), String> {
    let sleep = objects.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    let grace = pod(objects)["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    let window = configured(objects, "VX11_OPERATOR__DRAIN__WINDOW_SECONDS");
    require(sleep >= 5, "preStop: endpoints need some seconds to be updated")?;
    require(grace > sleep + window + 10, format!("grace period: {grace} s for {sleep} + {window} + 10"))
}

fn labels_match_selectors(objects: &Objects) -> Result<(), String> {
    let labels = &objects.only("Deployment")["spec"]["template"]["metadata"]["labels"];
    let spreads = pod(objects)["topologySpreadConstraints"].as_array().into_iter().flatten();
    let selectors = [
        &objects.only("Deployment")["spec"]["selector"]["matchLabels"],
        &objects.only("Service")["spec"]["selector"],
        &objects.only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &objects.only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ];
    for selector in selectors.into_iter().chain(spreads.map(|spread| &spread["labelSelector"]["matchLabels"]))
    {
        let wanted = selector.as_object().filter(|wanted| !wanted.is_empty()).ok_or("selector: empty")?;
        let matches = wanted.iter().all(|(name, value)| labels.get(name) == Some(value));
        require(matches, format!("selector: {selector} does not match {labels}"))?;
    }
    Ok(())
}

fn the_autoscaler_owns_the_number(objects: &Objects) -> Result<(), String> {
    let deployment = objects.only("Deployment");
    let target = &objects.only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
    require(deployment["spec"].get("replicas").is_none(), "replicas: undone by every apply")?;
    let is_ours = target["kind"] == "Deployment" && target["name"] == deployment["metadata"]["name"];
    require(is_ours, format!("autoscaler: {target} is not the deployment"))
}

fn two_instances_always_remain(objects: &Objects) -> Result<(), String> {
    let scaler = &objects.only("HorizontalPodAutoscaler")["spec"];
    let (least, most) =
        (scaler["minReplicas"].as_u64().unwrap_or(1), scaler["maxReplicas"].as_u64().unwrap_or(0));
    let budget = &objects.only("PodDisruptionBudget")["spec"];
    let missing = budget["maxUnavailable"].as_u64().ok_or("budget: a number that may be missing")?;
    require(missing >= 1, "budget: no node could ever be drained")?;
    require(
        least >= missing + 2,
        format!("budget: {missing} of {least} may be missing, two have to remain"),
    )?;
    require(most >= least, "autoscaler: the least is more than the most")?;
    let update = &objects.only("Deployment")["spec"]["strategy"]["rollingUpdate"];
    let in_place = update["maxUnavailable"] == 0 && update["maxSurge"] == 1;
    require(in_place, format!("update: {update} takes an instance away before another is there"))
}

fn ports_agree(objects: &Objects) -> Result<(), String> {
    let port = &objects.container()["ports"][0];
    let listen = objects.only("ConfigMap")["data"]["VX11_OPERATOR_LISTEN"].as_str().unwrap_or_default();
    require(listen == format!("0.0.0.0:{}", port["containerPort"]), format!("port: listens on {listen}"))?;
    let named = [
        &objects.only("Service")["spec"]["ports"][0]["targetPort"],
        &objects.only("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"],
        &objects.container()["startupProbe"]["httpGet"]["port"],
        &objects.container()["readinessProbe"]["httpGet"]["port"],
        &objects.container()["livenessProbe"]["httpGet"]["port"],
    ];
    require(named.iter().all(|name| **name == port["name"]), format!("port: {named:?} are not all {port}"))?;
    let notes = &objects.only("Deployment")["spec"]["template"]["metadata"]["annotations"];
    let scraped = notes["prometheus.io/port"].as_str().map(str::to_owned);
    require(scraped == Some(port["containerPort"].to_string()), format!("port: scraped at {scraped:?}"))
}

fn probes_ask_the_instance_about_itself(objects: &Objects) -> Result<(), String> {
    let expected = [
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health/ready"),
        ("livenessProbe", "/health/live"),
    ];
    for (probe, path) in expected {
        let asked = &objects.container()[probe]["httpGet"]["path"];
        require(*asked == path, format!("probe: {probe} asks {asked}"))?;
    }
    Ok(())
}

fn the_pod_may_do_nothing(objects: &Objects) -> Result<(), String> {
    let (of_pod, own) = (&pod(objects)["securityContext"], &objects.container()["securityContext"]);
    let holds = [
        of_pod["runAsNonRoot"] == true,
        of_pod["runAsUser"].as_u64().is_some_and(|user| user > 0),
        of_pod["seccompProfile"]["type"] == "RuntimeDefault",
        own["readOnlyRootFilesystem"] == true,
        own["allowPrivilegeEscalation"] == false,
        own["capabilities"] == serde_json::json!({"drop": ["ALL"]}),
        pod(objects)["automountServiceAccountToken"] == false,
        objects.only("ServiceAccount")["automountServiceAccountToken"] == false,
        ["hostNetwork", "hostPID", "hostIPC"].iter().all(|host| pod(objects).get(host).is_none()),
    ];
    require(holds == [true; 9], format!("rights: {holds:?}"))
}

fn nothing_foreign_in_the_environment(objects: &Objects) -> Result<(), String> {
    let links = &pod(objects)["enableServiceLinks"];
    require(*links == false, "environment: variables of services would be taken for misspelt configuration")
}

fn the_memory_limit_has_room_for_all_bounds(objects: &Objects) -> Result<(), String> {
    const STREAM: u64 = 14 * 1024; // The target of docs/measurements/performance.md; what was measured is below it.
    const RING: u64 = 16 << 20;
    let records = 2 * configured(objects, "VX11_OPERATOR__MEMORY__MAX_BYTES");
    let needed = configured(objects, "VX11_OPERATOR__STREAMS__MAX") * STREAM + records + RING;
    let limit = match objects.container()["resources"]["limits"]["memory"].as_str() {
        Some(text) if text.ends_with("Gi") => text[..text.len() - 2].parse::<u64>().unwrap_or(0) << 30,
        Some(text) if text.ends_with("Mi") => text[..text.len() - 2].parse::<u64>().unwrap_or(0) << 20,
        other => return Err(format!("memory: {other:?} is no limit in Mi or Gi")),
    };
    require(
        limit >= needed + needed / 2,
        format!("memory: {limit} bytes for one and a half times {needed}"),
    )?;
    let processor = &objects.container()["resources"]["limits"]["cpu"];
    require(processor.is_null(), "processor: a limit throttles past the time that Redis is waited for")
}

/// A pod network has 16 bits for the cluster, with IPv6 48. What is wider has addresses of clients
/// in it.
fn no_client_is_a_trusted_proxy(objects: &Objects) -> Result<(), String> {
    let given = objects.only("ConfigMap")["data"]["VX11_OPERATOR__HTTP__TRUSTED_PROXIES"].as_str();
    let networks = given.ok_or("proxies: nobody is believed about a client's address")?;
    for network in networks.split(',') {
        let parsed: IpNet = network.parse().map_err(|error| format!("proxies: {network}: {error}"))?;
        let widest = if matches!(parsed, IpNet::V4(_)) { 16 } else { 48 };
        require(parsed.prefix_len() >= widest, format!("proxies: {network} is wider than a pod network"))?;
    }
    Ok(())
}

fn wrong_credentials_are_limited(objects: &Objects) -> Result<(), String> {
    let most = configured(objects, "VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE");
    require(most > 0, "failures: wrong credentials are not limited")
}

fn secrets_are_files(objects: &Objects) -> Result<(), String> {
    const SECRET: [&str; 5] = [
        "VX11_PRINCIPAL_TOKEN",
        "VX11_OPERATOR_SIGNING_KEYS",
        "REDIS_PASSWORD",
        "REDIS_URL",
        "REDIS_SENTINEL_PASSWORD",
    ];
    require(objects.0.iter().all(|object| object["kind"] != "Secret"), "secret: one is in the manifests")?;
    let volumes = pod(objects)["volumes"].as_array().cloned().unwrap_or_default();
    let mounts = objects.container()["volumeMounts"].as_array().cloned().unwrap_or_default();
    let secret_folders = mounts.iter().filter(|mount| {
        let of_secret = |volume: &&Value| volume["name"] == mount["name"] && volume["secret"].is_object();
        mount["readOnly"] == true && volumes.iter().any(|volume| of_secret(&volume))
    });
    let folders: Vec<_> = secret_folders.filter_map(|mount| mount["mountPath"].as_str()).collect();
    for (name, value) in objects.environment("pod") {
        require(!SECRET.contains(&name.as_str()), format!("secret: {name} has its value in a manifest"))?;
        let is_mounted = folders.iter().any(|folder| value.starts_with(&format!("{folder}/")));
        require(is_mounted || !name.ends_with("_FILE"), format!("secret: {name} is in no mounted secret"))?;
    }
    Ok(())
}

//! A Redis that asks its clients for a certificate.

use serde_json::json;
use vx11_kit::RedisServer;

use super::backend_becomes;
use crate::support::{Instance, complaint, file, planted};

const CA: &str = "VX11_OPERATOR__REDIS__CA_FILE";
const CERTIFICATE: &str = "VX11_OPERATOR__REDIS__CERT_FILE";
const KEY: &str = "VX11_OPERATOR__REDIS__KEY_FILE";

/// The names of the authority's certificate, the client's, and its key.
fn files(redis: &RedisServer) -> [String; 3] {
    let [certificate, key] = redis.client_certificate();
    [redis.ca_file(), &certificate, &key].map(|file| file.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_instance_shows_its_certificate_to_a_redis_that_asks_for_one() {
    let redis = RedisServer::with_mutual_tls().await;
    let (url, [ca, certificate, key]) = (redis.url(), files(&redis));
    let trusting = [("REDIS_URL", url.as_str()), (CA, &*ca)];
    let without = Instance::with(&trusting).await;
    without.logs("Redis cannot be used").await;
    let with = Instance::with(&[trusting[0], trusting[1], (CERTIFICATE, &*certificate), (KEY, &*key)]).await;
    backend_becomes(&with, "redis").await;
    let issued = with.issue().await;
    assert_eq!(with.introspect(&issued.token).await["active"], json!(true));
    // The event log has separate connections.
    with.publish(json!(1)).await;
    assert_eq!(without.metric("vx11_operator_breaker_state").await, 2);
}

#[tokio::test]
async fn a_certificate_and_its_key_are_needed_together_and_have_to_fit() {
    let redis = RedisServer::with_tls().await;
    let [ca, certificate, key] = files(&redis);
    let other = redis.ca_file().with_file_name("server.key");
    let other = other.to_str().unwrap();
    let (_folder, cut) = file("-----BEGIN PRIVATE KEY-----\n");
    let principal = planted();
    let beside = [("REDIS_URL", "rediss://redis"), (CA, &*ca), ("VX11_PRINCIPAL_TOKEN", &*principal)];
    for (given, words) in [
        (&[(CERTIFICATE, &*certificate)][..], "redis.key_file: is needed"),
        (&[(KEY, &*key)], "redis.cert_file: is needed"),
        (&[(CERTIFICATE, &*certificate), (KEY, "./none.key")], "cannot read the file ./none.key"),
        (&[(CERTIFICATE, &*key), (KEY, &*key)], "holds no certificate in PEM form"),
        (&[(CERTIFICATE, &*certificate), (KEY, &*cut)], "holds no private key in PEM form"),
        (&[(CERTIFICATE, &*certificate), (KEY, other)], "cannot be used with the certificate"),
    ] {
        let complaint = complaint(&[&beside[..], given].concat()).await;
        assert!(complaint.contains(words), "{words}: {complaint}");
        assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
    }
    let alone = [(CERTIFICATE, &*certificate), (KEY, &*key)];
    let complaint = complaint(&alone).await;
    assert!(complaint.contains("redis.cert_file") && complaint.contains("no Redis is"), "{complaint}");
}

#[tokio::test]
async fn a_certificate_without_tls_is_refused_at_start() {
    let redis = RedisServer::with_tls().await;
    let [_, certificate, key] = files(&redis);
    let principal = planted();
    let both = [(CERTIFICATE, &*certificate), (KEY, &*key), ("VX11_PRINCIPAL_TOKEN", &*principal)];
    for without_tls in [
        &[("REDIS_URL", "redis://redis")][..],
        // The scheme of a URL decides, independent of other settings.
        &[("REDIS_URL", "redis://redis"), ("VX11_OPERATOR__REDIS__TLS", "true")],
        &[("REDIS_HOST", "redis")],
        &[("REDIS_CLUSTER_NODES", "redis")],
    ] {
        let complaint = complaint(&[&both[..], without_tls].concat()).await;
        for key in ["redis.cert_file", "redis.key_file"] {
            let is_named = |line: &str| line.contains(key) && line.contains("is set, but TLS is not");
            assert!(complaint.lines().any(is_named), "{without_tls:?}: {complaint}");
        }
        assert_eq!(complaint.lines().count(), 3, "one for each key: {complaint}");
    }
    let complaint = complaint(&[&both[..], &[("REDIS_URL", "nonsense")]].concat()).await;
    assert!(!complaint.contains("TLS is not"), "whether the URL means TLS is not known: {complaint}");
}

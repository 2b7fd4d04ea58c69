//! The cost of a token, with a grant and without: minting it, verifying it, and the digest a store
//! files it under.

#[path = "../support/report.rs"]
mod report;
#[path = "../support/target.rs"]
mod target;

use std::hint::black_box;
use std::process::ExitCode;

use criterion::Criterion;
use vx11_operator::clock::UnixMillis;
use vx11_operator::principal::{Principal, PrincipalId, Principals, Rights};
use vx11_operator::token::{Claims, Codec, Grant, NonceSource, SigningKeys, Subject, written};
use vx11_operator::topic::Patterns;

use report::Row;

const ABOUT: &str = "One thread and one signing key; one principal, where no other number is \
                     given. A grant names a subject and two topics; issuing encodes it. A plain \
                     token is tried against 16 principals at most, and a grant names its \
                     principal. Figures are criterion's medians.";
/// Any moment will do.
const NOW: UnixMillis = UnixMillis(1_767_470_400_000);
const MANY_PRINCIPALS: u32 = 1_000;

fn main() -> ExitCode {
    report::run("codec", ABOUT, || {
        let mut criterion = Criterion::default()
            .output_directory(&target::target_directory().join("criterion"))
            .configure_from_args();
        measure(&mut criterion);
        criterion.final_summary();
        let figure = |what: &str, name: &str| Row::figure(what, median_microseconds(name), "µs");
        let ratio = |one: &str, other: &str| median_microseconds(one) / median_microseconds(other);
        vec![
            Row::judged("issue (mint)", "< 2 µs", median_microseconds("mint")),
            Row::judged("verify", "< 2 µs", median_microseconds("verify")),
            figure("verify a forged token", "verify forged"),
            figure("verify a forged token, 1,000 principals", "verify forged among many"),
            figure("issue (encode a grant and mint)", "mint granted"),
            figure("verify, with a grant", "verify granted"),
            figure("verify a forged token with a grant", "verify forged grant"),
            Row::judged(
                "verify a forged token with a grant, 1,000 principals / 1",
                "<= 1.10",
                ratio("verify forged grant among many", "verify forged grant"),
            ),
            figure("digest", "digest"),
        ]
    })
}

/// Principals with all rights for all topics; the last one is `last`.
fn principals(number: u32, last: &PrincipalId) -> Principals {
    let ids = (1..number).map(|number| id(&format!("backend-{number}"))).chain([last.clone()]);
    let all: Vec<_> =
        ids.map(|id| (id.to_string(), Principal::new(id, Rights::all(), Patterns::all()))).collect();
    Principals::new(all.iter().map(|(secret, principal)| (principal.clone(), secret.as_str())))
}

fn id(name: &str) -> PrincipalId {
    PrincipalId::parse(name).expect("a principal's name")
}

fn measure(criterion: &mut Criterion) {
    let keys = SigningKeys::from_hex(["5a".repeat(32).as_str()]).expect("32 bytes of hexadecimal");
    let codec = Codec::new(keys);
    let (principal, stranger) = (id("operator"), id("stranger"));
    let [one, many] = [1, MANY_PRINCIPALS].map(|number| principals(number, &principal));
    let nonces = NonceSource::new("1", 0);
    let claims = || Claims { expires_at: NOW.seconds() + 60, offline: false, nonce: nonces.draw() };
    let grant = Grant {
        principal: principal.clone(),
        issued_at: NOW,
        subject: Subject::parse("user-7"),
        topics: Patterns::new(["users/7/*", "news"]).expect("patterns"),
        stream_until: None,
        single_use: false,
        resource: None,
    };
    // Encoding is part of issuing. A forged token has the tag of another principal.
    let issue = |signer: &PrincipalId, grant: Option<&Grant>| {
        let text = grant.map(|grant| grant.encode().expect("a short grant"));
        let token = codec.mint(black_box(signer), claims(), text.as_ref());
        (written(&token, text.as_ref()), token)
    };
    let [(plain, token), (granted, _)] = [None, Some(&grant)].map(|grant| issue(&principal, grant));
    let [(forged, _), (forged_grant, _)] = [None, Some(&grant)].map(|grant| issue(&stranger, grant));
    let verify = |text: &str, principals: &Principals| codec.verify(black_box(text), NOW, principals).is_ok();
    assert!(verify(&plain, &one) && verify(&granted, &one) && verify(&granted, &many));
    assert!(![&forged, &forged_grant].into_iter().any(|text| verify(text, &one) || verify(text, &many)));

    criterion.bench_function("mint", |bencher| bencher.iter(|| issue(&principal, None)));
    criterion.bench_function("mint granted", |bencher| bencher.iter(|| issue(&principal, Some(&grant))));
    for (name, text, principals) in [
        ("verify", &plain, &one),
        ("verify forged", &forged, &one),
        ("verify forged among many", &forged, &many),
        ("verify granted", &granted, &one),
        ("verify forged grant", &forged_grant, &one),
        ("verify forged grant among many", &forged_grant, &many),
    ] {
        criterion.bench_function(name, |bencher| bencher.iter(|| verify(text, principals)));
    }
    criterion.bench_function("digest", |bencher| bencher.iter(|| black_box(&token).digest()));
}

/// Criterion's results in ns, stored next to its charts.
fn median_microseconds(name: &str) -> f64 {
    let file = target::target_directory().join("criterion").join(name).join("new/estimates.json");
    let estimates = std::fs::read(file).expect("criterion keeps its estimates");
    let estimates: serde_json::Value = serde_json::from_slice(&estimates).expect("they are JSON");
    let median = estimates["median"]["point_estimate"].as_f64();
    median.expect("a median is among them") / 1000.0
}

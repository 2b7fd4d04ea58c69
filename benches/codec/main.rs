//! The cost of a token: minting it, verifying it, and the digest a store files it under.

#[path = "../support/report.rs"]
mod report;
#[path = "../support/target.rs"]
mod target;

use std::hint::black_box;
use std::process::ExitCode;

use criterion::Criterion;
use vx11_operator::clock::UnixMillis;
use vx11_operator::principal::PrincipalId;
use vx11_operator::token::{Claims, Codec, NonceSource, SigningKeys};

use report::Row;

const ABOUT: &str = "One thread, one signing key and one principal. Figures are criterion's \
                     medians.";
/// Any moment will do.
const NOW: UnixMillis = UnixMillis(1_767_470_400_000);

fn main() -> ExitCode {
    report::run("codec", ABOUT, || {
        let mut criterion = Criterion::default()
            .output_directory(&target::target_directory().join("criterion"))
            .configure_from_args();
        measure(&mut criterion);
        criterion.final_summary();
        vec![
            Row::judged("issue (mint)", "< 2 µs", median_microseconds("mint")),
            Row::judged("verify", "< 2 µs", median_microseconds("verify")),
            Row::figure("verify a forged token", median_microseconds("verify forged"), "µs"),
            Row::figure("digest", median_microseconds("digest"), "µs"),
        ]
    })
}

fn measure(criterion: &mut Criterion) {
    let keys = SigningKeys::from_hex(["5a".repeat(32).as_str()]).expect("32 bytes of hexadecimal");
    let codec = Codec::new(keys);
    let principal = PrincipalId::parse("operator").expect("a principal's name");
    let nonces = NonceSource::new("1", 0);
    let claims = || Claims { expires_at: NOW.seconds() + 60, offline: false, nonce: nonces.draw() };
    let token = codec.mint(&principal, claims());
    let genuine = token.reveal();
    let stranger = PrincipalId::parse("stranger").expect("a principal's name");
    let forged = codec.mint(&stranger, claims()).reveal();
    let verify = |text: &str| codec.verify(black_box(text), NOW, [&principal].into_iter());
    assert!(verify(&genuine).is_ok() && verify(&forged).is_err());

    criterion.bench_function("mint", |bencher| {
        bencher.iter(|| codec.mint(black_box(&principal), claims()).reveal());
    });
    criterion.bench_function("verify", |bencher| bencher.iter(|| verify(&genuine)));
    criterion.bench_function("verify forged", |bencher| bencher.iter(|| verify(&forged)));
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

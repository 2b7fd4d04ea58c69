//! The rules by which the browser client reads a stream and reconnects, in a real browser, on a
//! bench without time.

mod connecting;
mod console;
mod ending;
mod frames;
mod options;

use crate::support::{Browser, Instance};

/// Runs a JavaScript function body on the bench, in a separate page.
async fn on_the_bench(test: &str) {
    let instance = Instance::start().await;
    let browser = Browser::start().await;
    // Any page of the service will do that does not run the client itself.
    browser.open(&format!("{}/health", instance.base)).await;
    let bench = include_str!("../support/client_bench.js");
    browser.run(&format!("{bench}\n{test}"), Vec::new()).await;
    browser.close().await;
}

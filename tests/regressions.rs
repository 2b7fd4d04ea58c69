//! If a handler panics in spite of everything, the client gets a 500 like any other problem and
//! nobody else notices. The one test that runs an instance in its own process: no request can make
//! the real binary panic.

use std::collections::HashMap;

use actix_web::web::{self, ServiceConfig};
use reqwest::StatusCode;
use serde_json::Value;
use vx11_operator::app::Application;
use vx11_operator::config::Config;

fn with_a_defect(routes: &mut ServiceConfig) {
    async fn defect() -> &'static str {
        panic!("a defect that quotes something")
    }
    routes.route("/defect", web::get().to(defect));
}

#[actix_web::test]
async fn a_panic_is_answered_as_a_problem_and_hurts_nobody_else() {
    let environment = HashMap::from([("VX11_OPERATOR_LISTEN".to_owned(), "127.0.0.1:0".to_owned())]);
    let config = Config::load(None, &environment).unwrap();
    let application = Application::build(&config, Some(with_a_defect)).await.unwrap();
    let base = format!("http://{}", application.address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::task::spawn_local(application.run(async {
        let _ = stopped.await;
    }));

    let answer = reqwest::get(format!("{base}/defect")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "internal");
    assert!(!problem.to_string().contains("quotes something"));
    for path in ["/health", "/health/ready", "/operator/api/health"] {
        assert_eq!(reqwest::get(format!("{base}{path}")).await.unwrap().status(), StatusCode::OK);
    }
    let metrics = reqwest::get(format!("{base}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"route="unmatched",status="500""#));

    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

//! A URL that leads to something else than this service: commands say so, and do not go on asking.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use vx11_kit::Port;

use crate::support::{Ended, Front, Instance, Terminal, planted, random_hex};

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn at(url: &str) -> Terminal {
    Terminal::bare().with("VX11_PRINCIPAL_TOKEN", &planted()).with("VX11_OPERATOR_URL", url)
}

/// Asserts that a command has failed with this text in a single line.
fn assert_gave_up_at_once(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{}", ended.errors);
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    for word in words {
        assert!(ended.errors.contains(word), "{word}: {}", ended.errors);
    }
}

#[tokio::test]
async fn tail_ends_with_1_at_a_server_that_does_not_answer_as_this_service_does() {
    for (status, body, shown) in [
        ("404 Not Found", "<html>not here</html>", "404 Not Found"),
        ("405 Method Not Allowed", "", "405 Method Not Allowed"),
        ("501 Unsupported method", "", "501 Not Implemented"),
        ("200 OK", "hello", "the answer is not that of this service"),
    ] {
        let front = Front::answering(&[&answer(status, body)]).await;
        let ended = at(&front.base).run(&["tail"]).await;
        let words = [
            &format!("vx11-operator: no token from {}: {shown}", front.base),
            "this is no vx11-operator",
            "VX11_OPERATOR_URL",
        ];
        assert_gave_up_at_once(&ended, &words);
    }
}

#[tokio::test]
async fn tail_ends_with_1_at_a_wrong_path_of_this_service() {
    let instance = Instance::start().await;
    let url = format!("{}/elsewhere", instance.base);
    let ended = Terminal::of(&instance).run(&["tail", "--url", &url]).await;
    assert_gave_up_at_once(&ended, &[&format!("no token from {url}: 404 not_found: "), "VX11_OPERATOR_URL"]);
}

#[tokio::test]
async fn stats_watch_ends_with_1_at_a_wrong_server_as_stats_does() {
    for arguments in [["stats"].as_slice(), &["stats", "--watch", "1"]] {
        let front = Front::answering(&[&answer("404 Not Found", "")]).await;
        let ended = at(&front.base).run(arguments).await;
        let words = [&format!("no answer from {}: 404 Not Found", front.base), "VX11_OPERATOR_URL"];
        assert_gave_up_at_once(&ended, &words);
    }
}

#[tokio::test]
async fn a_balancer_without_instances_is_waited_for() {
    let statuses =
        ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "500 Internal Server Error"];
    let answers = statuses.map(|status| answer(status, "<html></html>"));
    let front = Front::answering(&answers.each_ref().map(String::as_str)).await;
    let mut tail = at(&front.base).start(&["tail"]);
    for status in statuses {
        let shown = tail.says(&format!("no token from {}: {status}", front.base)).await;
        assert!(shown.contains("; reconnecting in "), "{shown}");
    }
}

#[tokio::test]
async fn once_connected_tail_retries_while_another_program_answers_in_place_of_the_service() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = random_hex();
    let before = Instance::in_place_of(&address, &principal).await;
    let mut tail = Terminal::of(&before).start(&["tail"]);
    tail.says("connected to instance 1").await;
    before.kill().await;
    tail.says("lost the stream: ").await;
    // As some ingresses do while they do not know their backends yet.
    let listener = TcpListener::bind(&address).await.unwrap();
    let stranger = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(head.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        () = stranger => {}
        shown = tail.says("404 Not Found") => assert!(shown.contains("; reconnecting in "), "{shown}"),
    }
    drop(listener);
    let _after = Instance::in_place_of(&address, &principal).await;
    tail.says("connected to instance 1").await;
}

#[tokio::test]
async fn https_at_a_port_without_tls_is_explained_and_not_tried_again() {
    let instance = Instance::start().await;
    let url = format!("https://{}", instance.address());
    for (command, what) in [
        (["publish", "1"].as_slice(), "not published at"),
        (&["tail"], "no token from"),
        (&["stats"], "no answer from"),
        (&["stats", "--watch", "1"], "no answer from"),
    ] {
        let ended = Terminal::of(&instance).with("VX11_OPERATOR_URL", &url).run(command).await;
        let words = format!("{what} {url}: this port does not speak TLS; use http://");
        assert_gave_up_at_once(&ended, &[&words]);
    }
}

#[tokio::test]
async fn http_at_a_port_with_tls_is_explained_and_not_tried_again() {
    // A TLS alert (RFC 8446 §6.2): unexpected_message. Then what nginx and Go answer.
    let alert = "\u{15}\u{3}\u{3}\0\u{2}\u{2}\n".to_owned();
    let nginx = answer("400 Bad Request", "<center>The plain HTTP request was sent to HTTPS port</center>");
    let go = answer("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n");
    for (bytes, shown) in [(alert, "this is no HTTP"), (nginx, "400 Bad Request"), (go, "400 Bad Request")] {
        let front = Front::answering(&[&bytes]).await;
        for (command, what) in
            [(["publish", "1"].as_slice(), "not published at"), (&["tail"], "no token from")]
        {
            let ended = at(&front.base).run(command).await;
            let words = format!("{what} {}: {shown}", front.base);
            assert_gave_up_at_once(&ended, &[&words, "use https://"]);
        }
    }
}

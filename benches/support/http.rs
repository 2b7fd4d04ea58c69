//! The least of an HTTP client: one connection, one request at a time, bodies of known length.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Path for issuing tokens.
pub(crate) const ISSUE: &str = "/operator/api/events/sse-token";

/// A connection to a server, with its principal's credential.
pub(crate) struct Client {
    connection: BufReader<TcpStream>,
    principal: String,
}

impl Client {
    /// Connects to the server at an address, with a credential.
    pub(crate) fn connect((address, principal): (SocketAddr, &str)) -> Self {
        let connection = TcpStream::connect(address).expect("the server accepts");
        connection.set_nodelay(true).expect("a connected socket takes options");
        Self { connection: BufReader::new(connection), principal: principal.to_owned() }
    }

    /// Sends a request, named as `METHOD /path`, and does not wait for its answer.
    pub(crate) fn send(&mut self, request: &str, content_type: &str, body: &str) {
        self.send_with(request, &format!("Content-Type: {content_type}"), body);
    }

    /// The same with these headers, each but the last followed by a line end.
    pub(crate) fn send_with(&mut self, request: &str, headers: &str, body: &str) {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {}\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}",
            self.principal,
            body.len()
        );
        let sent = self.connection.get_mut().write_all(request.as_bytes());
        sent.expect("the server takes a request");
    }

    /// Waits for the answer to the last request and returns its head, with the line ends, and its
    /// body. Anything but success ends the benchmark.
    pub(crate) fn receive(&mut self) -> (String, String) {
        let (head, body) = self.answer();
        assert!(head.starts_with("HTTP/1.1 20"), "the server answered {head}{body}");
        (head, body)
    }

    /// The same, whatever the answer is.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.connection.read_line(&mut head).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
        }
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.parse().ok())
            .expect("the answer has a length");
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("the body arrives");
        (head, String::from_utf8(body).expect("the body is text"))
    }

    /// Issues a token.
    pub(crate) fn issue(&mut self) -> String {
        self.issue_with("")
    }

    /// Issues a token with the grant that this body asks for.
    pub(crate) fn issue_with(&mut self, body: &str) -> String {
        self.send(&format!("POST {ISSUE}"), "application/json", body);
        let (_, body) = self.receive();
        let body: serde_json::Value = serde_json::from_str(&body).expect("issuing answers JSON");
        let token = body["sse_token"].as_str();
        token.expect("the answer holds the token").to_owned()
    }
}

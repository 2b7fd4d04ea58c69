//! Cost of an open stream for nginx.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::memory::resident_bytes;
use crate::progress::say;
use crate::report::Row;
use crate::testbed::{MOST, Testbed};

/// So many, each a file here, two in nginx and one in an instance.
const STREAMS: u32 = 5000;

pub(crate) fn measure(testbed: &Testbed) -> Vec<Row> {
    say(&format!("{STREAMS} streams through nginx"));
    rlimit::increase_nofile_limit(u64::from(STREAMS) + 1000).expect("the limit of open files can be read");
    let (address, _) = testbed.balancer(MOST);
    let workers = || testbed.workers().iter().map(|worker| resident_bytes(&worker.to_string())).sum::<f64>();
    let before = workers();
    let mut token = (testbed.token(), Instant::now());
    let mut streams = Vec::new();
    let started = Instant::now();
    for _ in 0..STREAMS {
        // One token opens many streams while it lives, which is 12 seconds here.
        if token.1.elapsed().as_secs() > 5 {
            token = (testbed.token(), Instant::now());
        }
        let mut stream = TcpStream::connect(address).expect("nginx accepts");
        let request = format!(
            "GET /operator/api/events/stream?token={} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
            token.0
        );
        stream.write_all(request.as_bytes()).expect("nginx takes a request");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("nginx answers");
        assert_eq!(&answer, b"HTTP/1.1 200");
        streams.push(stream);
    }
    let opened = started.elapsed().as_secs_f64();
    let memory = (workers() - before) / f64::from(STREAMS);
    vec![
        Row::figure("memory of nginx for a stream", memory / 1024.0, "KB"),
        Row::figure("streams opened a second, one after the other", f64::from(STREAMS) / opened, ""),
    ]
}

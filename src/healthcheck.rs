//! `vx11-operator healthcheck`: asks the instance on this machine whether it is ready, for
//! container images without curl.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(3);

/// Exit code 0 when `/health/ready` answers 200 at `listen`, else 1 with the reason on standard
/// error.
pub(crate) fn run(listen: SocketAddr) -> ExitCode {
    match ask(listen) {
        Ok(status) if status.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(status) => {
            crate::print(format_args!("not ready: {status}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            crate::print(format_args!("no answer from {listen}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn ask(mut address: SocketAddr) -> std::io::Result<String> {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let mut connection = TcpStream::connect_timeout(&address, DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 64];
    let mut filled = 0;
    while filled < head.len() && !head[..filled].contains(&b'\n') {
        match connection.read(&mut head[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let text = String::from_utf8_lossy(&head[..filled]);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

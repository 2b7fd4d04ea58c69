//! The client's address, as the peer or trusted proxies report it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer's, or the one that trusted proxies report. From the right, it is
/// the first address in `X-Forwarded-For` that is not a trusted proxy's. Anybody may have written
/// the addresses left of it.
pub(in crate::http) fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer_address(request.peer_addr());
    if !is_trusted(&peer) {
        return peer;
    }
    let mut client = peer;
    let headers: Vec<_> =
        request.headers().get_all(X_FORWARDED_FOR).filter_map(|value| value.to_str().ok()).collect();
    for hop in headers.iter().rev().flat_map(|header| header.rsplit(',')) {
        match hop_address(hop.trim()) {
            Some(address) if is_trusted(&address) => client = address,
            Some(address) => return address,
            None => break,
        }
    }
    client
}

/// Parses an address in `X-Forwarded-For`. Some proxies add the port, `192.0.2.1:5678` or
/// `[2001:db8::1]:5678`, or only brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The peer's address. A socket that listens on `[::]` reports IPv4 addresses as
/// `::ffff:192.0.2.1`.
pub(in crate::http) fn peer_address(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_peers_only() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let address = |peer: &str, forwarded: &str| {
            let peer: IpAddr = peer.parse().unwrap();
            let request = TestRequest::default()
                .peer_addr((peer, 1).into())
                .insert_header(("X-Forwarded-For", forwarded))
                .to_http_request();
            client_address(&request, &trusted).to_string()
        };
        assert_eq!(address("192.0.2.1", "198.51.100.1"), "192.0.2.1");
        assert_eq!(address("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "nonsense"), "10.0.0.1");
        // With ports, as of some proxies.
        assert_eq!(address("10.0.0.1", "203.0.113.9, 198.51.100.1:5678, 10.0.0.2:80"), "198.51.100.1");
        assert_eq!(address("10.0.0.1", "[2001:db8::1]:5678, 10.0.0.2"), "2001:db8::1");
        assert_eq!(address("10.0.0.1", "[2001:db8::1],10.0.0.2"), "2001:db8::1");
        assert_eq!(address("10.0.0.1", "[::ffff:198.51.100.1]:1, 10.0.0.2"), "198.51.100.1");
        for nonsense in ["198.51.100.1:", "198.51.100.1:65536", "2001:db8::1]:1", "[2001:db8::1", "[]", ":1"]
        {
            assert_eq!(address("10.0.0.1", &format!("{nonsense}, 10.0.0.2")), "10.0.0.2", "{nonsense}");
        }
        // As a socket on [::] reports them.
        assert_eq!(address("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(address("::ffff:192.0.2.1", "198.51.100.1"), "192.0.2.1");
        assert_eq!(address("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2"), "198.51.100.1");
    }

    fn forwarded(peer: IpAddr, headers: &[Vec<u8>]) -> IpAddr {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut request = TestRequest::default().peer_addr((peer, 1).into());
        for header in headers {
            if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(header) {
                request = request.append_header((X_FORWARDED_FOR, value));
            }
        }
        client_address(&request.to_http_request(), &trusted)
    }

    fn trusted_hop() -> impl Strategy<Value = IpAddr> {
        let mapped = |last: u8| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d])),
            any::<u16>().prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
            any::<u8>().prop_map(move |last| IpAddr::from(mapped(last))),
        ]
    }

    fn stranger() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|last| IpAddr::from([198, 51, 100, last])),
            any::<u16>().prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
        ]
    }

    proptest! {
        #[test]
        fn a_stranger_is_itself_whatever_it_says_of_others(peer in stranger(), headers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3)) {
            prop_assert_eq!(forwarded(peer, &headers), peer);
        }

        #[test]
        fn behind_trusted_proxies_the_client_is_the_first_stranger_from_the_right(
            peer in trusted_hop(),
            lies in "[ -~]{0,40}",
            client in stranger(),
            hops in prop::collection::vec(trusted_hop(), 0..4),
            split in any::<bool>(),
            ports in any::<bool>(),
        ) {
            let written = |address: &IpAddr| {
                if ports { SocketAddr::from((*address, 5678)).to_string() } else { address.to_string() }
            };
            let proxies: Vec<_> = hops.iter().map(|hop| format!(" ,{} ", written(hop))).collect();
            let proxies = proxies.concat();
            let headers = if split {
                vec![format!("{lies},{}", written(&client)).into_bytes(), proxies.trim_start_matches(" ,").into()]
            } else {
                vec![format!("{lies},{}{proxies}", written(&client)).into_bytes()]
            };
            let headers: Vec<_> = headers.into_iter().filter(|header: &Vec<u8>| !header.is_empty()).collect();
            prop_assert_eq!(forwarded(peer, &headers), client);
        }
    }
}

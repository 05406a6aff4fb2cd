//! Probes of real ports and links.

use super::*;
use crate::netns::Netns;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

const SOON: Duration = Duration::from_secs(5);

fn probe(check: &str, place: &Place) -> Box<dyn Probe> {
    open(&check.parse().unwrap(), place).unwrap()
}

fn loopback(address: &str) -> (TcpListener, Place, u16) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let local = listener.local_addr().unwrap();
    (listener, Place::Host(SocketAddr::new(local.ip(), 0)), local.port())
}

#[test]
fn a_port_is_alive_while_somebody_listens() {
    for address in ["127.0.0.1", "::1"] {
        let (listener, place, port) = loopback(address);
        let mut tcp = probe(&format!("tcp:{port}"), &place);
        assert_eq!(tcp.attempt(SOON), Ok(()));
        drop(listener);
        assert_eq!(tcp.attempt(SOON), Err("connection refused".into()));
    }
}

#[test]
fn a_request_is_answered_by_2xx_and_a_sink_by_its_own_words() {
    for (answer, http, sink) in [
        ("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"up\"}", Ok(()), Ok(())),
        (
            "HTTP/1.1 204 No Content\r\n\r\n",
            Ok(()),
            Err("the answer is not that of a sink that is up"),
        ),
        ("HTTP/1.1 503 x\r\n\r\n", Err("HTTP status 503"), Err("HTTP status 503")),
        ("SSH-2.0-x\r\n", Err("the answer is not HTTP"), Err("the answer is not HTTP")),
        ("", Err("closed without an answer"), Err("closed without an answer")),
    ] {
        let (listener, place, port) = loopback("127.0.0.1");
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut bytes = [0; 512];
                while !request.ends_with(b"\r\n\r\n") {
                    let len = stream.read(&mut bytes).unwrap();
                    assert_ne!(len, 0, "the request is whole");
                    request.extend_from_slice(&bytes[..len]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                asked.push(String::from_utf8(request).unwrap());
            }
            asked
        });
        let expected = |result: Result<(), &str>| result.map_err(String::from);
        let got = probe(&format!("http:{port}/up?x"), &place).attempt(SOON);
        assert_eq!(got, expected(http), "{answer:?}");
        let got = probe(&format!("sink:{port}"), &place).attempt(SOON);
        assert_eq!(got, expected(sink), "{answer:?}");
        let asked = server.join().unwrap();
        assert!(asked[0].starts_with("GET /up?x HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked:?}");
        assert!(asked[1].starts_with("GET / HTTP/1.1\r\n"), "{asked:?}");
    }
}

#[test]
fn one_that_accepts_and_is_silent_is_given_no_more_than_its_time() {
    let (_listener, place, port) = loopback("127.0.0.1");
    let begun = Instant::now();
    let got = probe(&format!("http:{port}"), &place).attempt(Duration::from_millis(30));
    assert_eq!(got, Err("timed out".into()));
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[test]
fn links_and_neighbours() {
    if !rig::root_or_skip() {
        return;
    }
    let (here, there) = (Netns::new().unwrap(), Netns::new().unwrap());
    here.join("left", &there, "right").unwrap();
    there.ip("addr add 10.9.0.2/24 dev right").unwrap();
    there.ip("addr add fd09::2/64 dev right nodad").unwrap();
    let place = Place::Interface("left".into());
    let attempt = |check: &str, time| {
        let mut probe = probe(check, &place);
        here.run(|| probe.attempt(time)).unwrap()
    };
    // No address is needed here, whether IPv6 is on or off.
    for ipv6 in ["0", "1"] {
        let off = "/proc/sys/net/ipv6/conf/left/disable_ipv6";
        here.run(|| std::fs::write(off, ipv6).unwrap()).unwrap();
        assert_eq!(attempt("link", SOON), Ok(()));
        assert_eq!(attempt("neighbour:10.9.0.2", SOON), Ok(()));
        assert_eq!(attempt("neighbour:fd09::2", SOON), Ok(()), "IPv6 {ipv6}");
    }
    here.run(|| std::fs::write("/proc/sys/net/ipv6/conf/left/disable_ipv6", "0").unwrap()).unwrap();
    here.ip("addr add fd09::1/64 dev left nodad").unwrap();
    assert_eq!(attempt("neighbour:fd09::2", SOON), Ok(()), "from an address of its own");
    let short = Duration::from_millis(50);
    for nobody in ["neighbour:10.9.0.3", "neighbour:fd09::3"] {
        assert_eq!(attempt(nobody, short), Err("nobody answered".into()));
    }
    there.ip("link set right down").unwrap();
    assert_eq!(attempt("link", short), Err("its link is down".into()));
    assert_eq!(attempt("neighbour:10.9.0.2", short), Err("its link is down".into()));
    there.ip("link del right").unwrap();
    assert_eq!(attempt("link", short), Err("it is gone".into()));
    assert_eq!(attempt("neighbour:fd09::2", short), Err("it is gone".into()));
}

#[test]
fn a_check_that_does_not_suit_the_place_is_refused() {
    let interface = Place::Interface("lo".into());
    assert!(open(&"tcp:80".parse().unwrap(), &interface).is_err());
    let host = Place::Host("127.0.0.1:0".parse().unwrap());
    assert!(open(&"link".parse().unwrap(), &host).is_err());
}

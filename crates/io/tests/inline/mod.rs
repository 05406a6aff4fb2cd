//! A client, a next host, and a bump in the wire between them.

#![allow(dead_code, reason = "each test uses its part")]

use api::{InlineConfig, InlineFail, InlineRule, InlineTimeouts};
use io::Now;
use io::inline::{InlineStart, KernelInline};
use rig::{BpfFs, Host, Topology};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take.
pub const WAIT: Duration = Duration::from_secs(10);

/// The three hosts, and where the bump pins its table.
pub struct Bump {
    topology: Topology,
    pins: BpfFs,
}

impl Bump {
    /// The hosts `client`, `us` and `next` in a line; `None` without the rights.
    pub fn new() -> Option<Bump> {
        if !rig::root_or_skip() {
            return None;
        }
        let pins = BpfFs::new()?;
        Some(Bump { topology: Topology::line(["client", "us", "next"]).build(), pins })
    }

    pub fn client(&self) -> &Host {
        self.topology.host("client")
    }

    pub fn us(&self) -> &Host {
        self.topology.host("us")
    }

    pub fn next(&self) -> &Host {
        self.topology.host("next")
    }

    pub fn client_address(&self, is_v6: bool) -> IpAddr {
        address(self.client(), "us", is_v6)
    }

    /// Where the client sends.
    pub fn ours(&self, is_v6: bool) -> IpAddr {
        address(self.us(), "client", is_v6)
    }

    /// What the next host sees.
    pub fn source(&self, is_v6: bool) -> IpAddr {
        address(self.us(), "next", is_v6)
    }

    pub fn next_address(&self, is_v6: bool) -> IpAddr {
        address(self.next(), "us", is_v6)
    }

    pub fn pins(&self) -> PathBuf {
        self.pins.path()
    }

    /// A table of these rules.
    pub fn config(&self, rules: &[&str]) -> InlineConfig {
        InlineConfig {
            name: "test".into(),
            ingress: "client".into(),
            egress: "next".into(),
            fail: InlineFail::Open,
            sessions: 1000,
            timeouts: InlineTimeouts::default(),
            rules: rules.iter().map(|rule| rule.parse::<InlineRule>().expect("a rule")).collect(),
        }
    }

    pub fn open_config(&self, config: &InlineConfig) -> (KernelInline, InlineStart) {
        let open = || KernelInline::open(config, &self.pins(), Now::read());
        let opened = self.us().netns.run(open).expect("the namespace is there");
        opened.unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn open(&self, rules: &[&str]) -> KernelInline {
        self.open_config(&self.config(rules)).0
    }

    /// Has a table do what is due, a second later.
    pub fn tick(&self, table: &mut KernelInline) {
        let ticked = self.us().netns.run(|| table.tick(Now::read().after(Duration::from_secs(1))));
        ticked.expect("the namespace is there").unwrap_or_else(|e| panic!("{e}"));
    }

    /// Sends bytes over a TCP connection to `to`, which arrive at `at`, and as many back.
    pub fn transfer(&self, to: SocketAddr, at: SocketAddr, bytes: usize) {
        let listener = self.next().netns.run(|| TcpListener::bind(at)).expect("inside");
        let listener = listener.unwrap_or_else(|e| panic!("listen on {at}: {e}"));
        let near = self.client().netns.run(|| TcpStream::connect_timeout(&to, WAIT));
        let near = near.expect("inside").unwrap_or_else(|e| panic!("connect to {to}: {e}"));
        let (far, _) = listener.accept().expect("the connection stands");
        let content: Vec<u8> = (0..bytes as u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        std::thread::scope(|scope| {
            for stream in [&near, &far] {
                stream.set_read_timeout(Some(WAIT)).expect("the time is not 0");
                let content = &content;
                scope.spawn(move || {
                    let mut stream = stream;
                    stream.write_all(content).expect("it is taken");
                    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
                });
                scope.spawn(move || {
                    let (mut got, mut stream) = (Vec::new(), stream);
                    stream.read_to_end(&mut got).expect("it comes");
                    assert!(got == *content, "{} bytes of {}", got.len(), content.len());
                });
            }
        });
    }

    /// Has the client ping an address once, with so many bytes.
    pub fn ping(&self, to: IpAddr, bytes: usize) -> bool {
        let words = ["-c", "1", "-W", "2", "-s", &bytes.to_string(), &to.to_string()];
        let output = self.client().netns.command("ping").args(words).output();
        output.expect("ping is there").status.success()
    }
}

/// A UDP socket of a host; receiving takes no longer than [`WAIT`].
pub fn udp(host: &Host, at: SocketAddr) -> UdpSocket {
    let socket = host.netns.run(|| UdpSocket::bind(at)).expect("inside");
    let socket = socket.unwrap_or_else(|e| panic!("bind {at}: {e}"));
    socket.set_read_timeout(Some(WAIT)).expect("the time is not 0");
    socket
}

fn address(host: &Host, neighbour: &str, is_v6: bool) -> IpAddr {
    if is_v6 { host.v6(neighbour).into() } else { host.v4(neighbour).into() }
}

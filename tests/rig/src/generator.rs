//! UDP packets at a set pace, each with a number.
//!
//! ```text
//! offset  bytes  payload
//!      0      8  [`MAGIC`]
//!      8      8  number, big endian, from 0
//!     16      n  filler: the number's low byte
//! ```

use crate::wait_for_turn;
use io::netns::Netns;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What a numbered payload begins with.
pub const MAGIC: [u8; 8] = *b"tapl#num";

/// Shortest payload: the magic and the number, bytes.
pub const PAYLOAD_BYTES_MIN: usize = MAGIC.len() + size_of::<u64>();

/// How often in a row a full device queue may refuse one packet.
const REFUSALS_MAX: u32 = 100_000;

/// A sender of numbered packets.
#[derive(Debug, Clone)]
pub struct Generator {
    /// Packets a second; 0: as fast as the kernel takes them.
    pub pps: u64,
    /// Packets in all.
    pub count: u64,
    /// Bytes of UDP payload, from [`PAYLOAD_BYTES_MIN`] to 65,507. More than the path's MTU less
    /// the headers makes IP fragments, and only the first of them has the number.
    pub payload_bytes: usize,
    /// Source ports, at least 1; packet n goes out by port n modulo this.
    pub flows: usize,
}

/// What a [`Generator`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Packets that the kernel accepted: the numbers `0..accepted`, in order.
    pub accepted: u64,
    /// Time from the first packet to behind the last.
    pub elapsed: Duration,
}

impl Sent {
    /// Packets a second that were reached.
    pub fn pps(&self) -> u64 {
        (self.accepted as f64 / self.elapsed.as_secs_f64().max(1e-9)) as u64
    }
}

impl Generator {
    /// A generator of one flow with 64-byte payloads.
    pub fn new(pps: u64, count: u64) -> Generator {
        Generator { pps, count, payload_bytes: 64, flows: 1 }
    }

    /// Sets [`Self::payload_bytes`].
    pub fn payload_bytes(self, payload_bytes: usize) -> Generator {
        Generator { payload_bytes, ..self }
    }

    /// Sets [`Self::flows`].
    pub fn flows(self, flows: usize) -> Generator {
        Generator { flows, ..self }
    }

    /// Sends from inside a namespace, and waits until all is sent.
    ///
    /// # Panics
    /// Like [`Self::run`], or if the namespace cannot be entered.
    pub fn run_in(&self, netns: &Netns, to: SocketAddr) -> Sent {
        netns.run(|| self.run(to)).expect("a namespace that was made can be entered")
    }

    /// Sends from inside a namespace until `goes_on` says no, or all is sent.
    ///
    /// # Panics
    /// Like [`Self::run_in`].
    pub fn run_while(
        &self,
        netns: &Netns,
        to: SocketAddr,
        goes_on: impl Fn() -> bool + Send,
    ) -> Sent {
        let run = || self.send_while(to, goes_on);
        netns.run(run).expect("a namespace that was made can be entered")
    }

    /// Sends from the calling thread's namespace; blocks until all is sent.
    ///
    /// The pace is that of [`wait_for_turn`]. A packet that a full queue refuses is offered again, so that no number is left out.
    ///
    /// # Panics
    /// If the settings are out of range, or the kernel refuses a packet for another reason.
    pub fn run(&self, to: SocketAddr) -> Sent {
        self.send_while(to, || true)
    }

    fn send_while(&self, to: SocketAddr, goes_on: impl Fn() -> bool) -> Sent {
        assert!(self.flows >= 1, "a generator needs at least 1 flow");
        assert!(
            self.payload_bytes >= PAYLOAD_BYTES_MIN,
            "{} bytes of payload hold no number: at least {PAYLOAD_BYTES_MIN}",
            self.payload_bytes
        );
        let sockets: Vec<UdpSocket> = (0..self.flows).map(|_| socket(to)).collect();
        let mut packet = payload(0, self.payload_bytes);
        let start = Instant::now();
        let mut accepted = 0;
        while accepted < self.count && goes_on() {
            wait_for_turn(start, accepted, self.pps);
            renumber(&mut packet, accepted);
            send(&sockets[(accepted % self.flows as u64) as usize], &packet, to, accepted);
            accepted += 1;
        }
        Sent { accepted, elapsed: start.elapsed() }
    }
}

/// A numbered payload of some length.
pub(crate) fn payload(number: u64, payload_bytes: usize) -> Vec<u8> {
    let mut payload = vec![0; payload_bytes];
    payload[..MAGIC.len()].copy_from_slice(&MAGIC);
    renumber(&mut payload, number);
    payload
}

fn renumber(payload: &mut [u8], number: u64) {
    let number = number.to_be_bytes();
    payload[MAGIC.len()..PAYLOAD_BYTES_MIN].copy_from_slice(&number);
    payload[PAYLOAD_BYTES_MIN..].fill(number[7]);
}

/// A socket that is not connected, so that an ICMP error for one packet is not the next one's.
fn socket(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).unwrap_or_else(|e| panic!("no UDP socket to send to {to}: {e}"))
}

fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddr, number: u64) {
    for _ in 0..REFUSALS_MAX {
        match socket.send_to(packet, to) {
            Ok(_) => return,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                std::thread::yield_now();
            }
            Err(e) => panic!("packet {number} to {to}: {e}"),
        }
    }
    panic!("packet {number} to {to}: the device's queue stayed full");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Topology, duplicates, missing, reordered, root_or_skip};

    /// Receives until `count` datagrams are there or none comes for a second.
    fn receive(socket: &UdpSocket, count: u64) -> Vec<(u64, usize, SocketAddr)> {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut buffer = [0; 2000];
        let mut received = Vec::new();
        while (received.len() as u64) < count {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { break };
            assert_eq!(buffer[..8], MAGIC);
            let number = u64::from_be_bytes(buffer[8..16].try_into().unwrap());
            received.push((number, len, from));
        }
        received
    }

    #[test]
    fn all_numbers_arrive_at_the_set_pace_through_a_veth() {
        if !root_or_skip() {
            return;
        }
        let net = Topology::line(["client", "server"]).build();
        let (client, server) = (net.host("client"), net.host("server"));
        for address in [server.v4("client").into(), IpAddr::from(server.v6("client"))] {
            let socket = server.netns.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
            let to = socket.local_addr().unwrap();
            let generator = Generator::new(5_000, 1_000).payload_bytes(100).flows(4);
            let (received, sent) = std::thread::scope(|scope| {
                let receiver = scope.spawn(|| receive(&socket, 1_000));
                let sent = generator.run_in(&client.netns, to);
                (receiver.join().unwrap(), sent)
            });
            assert_eq!(sent.accepted, 1_000);
            // Never faster than asked for; slower only if the machine is busy.
            assert!((4_000..=5_010).contains(&sent.pps()), "{sent:?}");
            let numbers: Vec<u64> = received.iter().map(|r| r.0).collect();
            assert_eq!(missing(&numbers, 1_000), [0; 0]);
            assert_eq!((duplicates(&numbers), reordered(&numbers)), (vec![], vec![]));
            assert!(received.iter().all(|r| r.1 == 100));
            for (number, _, from) in &received {
                assert_eq!(*from, received[(*number % 4) as usize].2, "packet {number}'s flow");
            }
            let mut ports: Vec<u16> = received[..4].iter().map(|r| r.2.port()).collect();
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), 4);
        }
    }

    #[test]
    fn nobody_listening_stops_nothing() {
        // The port was this test's own a moment ago, so nobody listens there.
        let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(Generator::new(0, 500).run(to).accepted, 500);
    }

    #[test]
    #[should_panic(expected = "15 bytes of payload hold no number")]
    fn a_payload_without_room_is_refused() {
        Generator::new(0, 1).payload_bytes(15).run("127.0.0.1:9".parse().unwrap());
    }
}

use super::*;
use crate::clock::Now;
use crate::underlay::Underlay;
use rig::{Host, Scratch, Tcpdump, Topology};
use std::net::UdpSocket;
use std::time::Duration;

const PORT: u16 = 4789;
const MTU: usize = 1500;

/// A datagram: its source port, and its UDP payload in two pieces, as headers and packets are.
struct Sample {
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl Sample {
    fn new(port: u16, number: u32, len: usize) -> Sample {
        let mut header = vec![0; udp::HEADER_LEN];
        let length = (udp::HEADER_LEN + len) as u16;
        udp::Repr { src_port: port, dst_port: PORT, length, checksum: 0 }.emit(&mut header);
        header.extend(number.to_be_bytes());
        let payload = (header.len() - udp::HEADER_LEN..len).map(|n| (n * 7) as u8).collect();
        Sample { header, payload }
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.header[udp::HEADER_LEN..], &self.payload].concat()
    }
}

fn pairs(samples: &[Sample]) -> Vec<(&[u8], &[u8])> {
    samples.iter().map(|s| (&s.header[..], &s.payload[..])).collect()
}

#[test]
fn datagrams_of_a_flow_and_a_length_are_joined() {
    let counts = |samples: &[Sample], bytes_max| {
        let datagrams = pairs(samples);
        let (mut first, mut counts) = (0, Vec::new());
        while first < datagrams.len() {
            let run = join(&datagrams[first..], bytes_max);
            first += run.count;
            counts.push((run.count, run.total));
        }
        counts
    };
    let of = |shape: &[(u16, usize)]| -> Vec<Sample> {
        (0..).zip(shape).map(|(n, &(port, len))| Sample::new(port, n, len)).collect()
    };
    let shape = of(&[(1, 100), (1, 100), (1, 60), (1, 60), (2, 60), (2, 61), (1, 60)]);
    assert_eq!(counts(&shape, 65_507), [(3, 260), (1, 60), (1, 60), (1, 61), (1, 60)]);
    let shape = of(&[(1, 1000); 5]);
    assert_eq!(counts(&shape, 2_000), [(2, 2000), (2, 2000), (1, 1000)]);
    assert_eq!(counts(&shape, 2_999), [(2, 2000), (2, 2000), (1, 1000)]);
}

/// The far end of the tests' line, one family after the other.
fn remotes(left: &Host, right: &Host) -> [(SocketAddr, IpAddr); 2] {
    let remote = |ip: IpAddr| SocketAddr::from((ip, PORT));
    [
        (remote(right.v4("left").into()), left.v4("right").into()),
        (remote(right.v6("left").into()), left.v6("right").into()),
    ]
}

struct Sender {
    batched: BatchedSender,
    underlay: Underlay,
}

impl Sender {
    fn open(host: &Host, remote: SocketAddr, dscp: u8) -> Sender {
        let open = || Sender {
            batched: BatchedSender::open(remote, dscp, true, 4 << 20).unwrap(),
            underlay: Underlay::open(remote, None, dscp, Now::read()).unwrap(),
        };
        host.netns.run(open).unwrap()
    }

    fn send(&mut self, samples: &[Sample]) -> Result<usize, Refused> {
        let path = *self.underlay.path().unwrap();
        self.batched.send(&path, &path.frame.unwrap(), &pairs(samples))
    }
}

/// Runs of several flows and lengths, up to the largest that the path takes.
fn mixture(overhead: usize) -> Vec<Sample> {
    let largest = MTU - overhead - udp::HEADER_LEN;
    let lens = [largest; 40].into_iter().chain([9; 5]).chain([700, 700, 300, 300, 4]);
    let lens: Vec<usize> = lens.collect();
    (0..).zip(lens).map(|(n, len)| Sample::new(50_000 + (n / 11) as u16, n, len)).collect()
}

#[test]
fn what_is_sent_arrives_once_and_in_order() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    for (remote, source) in remotes(left, right) {
        let listener = right.netns.run(|| UdpSocket::bind(remote).unwrap()).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let samples = mixture(if remote.is_ipv4() { IPV4_LEN } else { IPV6_LEN });
        let mut sender = Sender::open(left, remote, 0);
        for joins in [true, false] {
            sender.batched.joins = joins;
            assert_eq!(sender.send(&samples).unwrap(), samples.len());
            for sample in &samples {
                let mut buffer = [0; 2000];
                let (len, from) = listener.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..len], sample.bytes());
                let port = u16::from_be_bytes([sample.header[0], sample.header[1]]);
                assert_eq!(from, SocketAddr::from((source, port)));
            }
        }
    }
}

#[test]
fn packets_are_well_formed_where_nothing_is_offloaded() {
    if !rig::root_or_skip() || !rig::tool_or_skip("tcpdump") || !rig::tool_or_skip("tshark") {
        return;
    }
    if !rig::tool_or_skip("ethtool") {
        return;
    }
    let line = Topology::line(["left", "right"]);
    let net = line.offloads_off("left", "right").offloads_off("right", "left").build();
    let (left, right) = (net.host("left"), net.host("right"));
    let scratch = Scratch::new("batched");
    for (remote, _) in remotes(left, right) {
        let file = scratch.path(if remote.is_ipv4() { "v4.pcap" } else { "v6.pcap" });
        let tcpdump = Tcpdump::start(right, "left", &file, "udp");
        let samples = mixture(if remote.is_ipv4() { IPV4_LEN } else { IPV6_LEN });
        assert_eq!(Sender::open(left, remote, 46).send(&samples).unwrap(), samples.len());
        assert_eq!(tcpdump.stop().len(), samples.len());
        let fields = [
            "udp.length",
            "udp.checksum.status",
            "ip.checksum.status",
            "ip.id",
            "ip.dsfield.dscp",
            "ip.ttl",
            "ip.flags.df",
            "ipv6.tclass.dscp",
            "ipv6.hlim",
        ];
        let options = ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
        let rows = rig::rows(&file, &options, &fields);
        for (number, (row, sample)) in rows.iter().zip(&samples).enumerate() {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            assert_eq!(row[0], (udp::HEADER_LEN + sample.bytes().len()).to_string());
            // 1 is good, 3 is "not there", as a single datagram over IPv4 may have it.
            let is_single = remote.is_ipv4() && row[1] == "3";
            assert!(row[1] == "1" || is_single, "packet {number}: {row:?}");
            if remote.is_ipv4() {
                let id = format!("{number:#06x}");
                assert_eq!(row[2..7], ["1", &id, "46", "64", "1"], "packet {number}");
            } else {
                assert_eq!(row[7..], ["46", "64"], "packet {number}");
            }
        }
    }
}

#[test]
fn a_refusal_says_how_many_it_is_about() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let left = net.host("left");
    let remote = SocketAddr::from((net.host("right").v4("left"), PORT));
    let mut sender = Sender::open(left, remote, 0);
    left.ip("link set right down");
    let samples: Vec<Sample> = (0..3).map(|n| Sample::new(50_000, n, 100)).collect();
    let refused = sender.send(&samples).unwrap_err();
    assert_eq!(refused.error.raw_os_error(), Some(libc::ENETDOWN));
    assert_eq!(refused.datagrams, 3);
    left.ip("link set right up mtu 1280");
    let samples = [Sample::new(50_000, 0, 1400)];
    let refused = sender.send(&samples).unwrap_err();
    assert_eq!(refused.error.raw_os_error(), Some(libc::EMSGSIZE));
}

//! What the tests of a bump in the wire share: TCP and UDP through it, a place for its pins, and what its
//! views hold.

use super::{SOON, Scene};
use rig::{Host, Running, rows, stats};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long anything that passes may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Options by which tshark judges checksums, and shows what is wrong. What an ICMP error quotes has come by
/// a veth, where nobody completes checksums of transports; and where TCP's comes to 0, Linux writes 0xffff
/// (`skb_checksum_help`), which is as right.
const CHECKED: [&str; 8] = [
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-Y",
    "ip.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || \
     (tcp.checksum.status == 0 && tcp.checksum != 0xffff || udp.checksum.status == 0) && \
     !icmp && !icmpv6 || _ws.malformed",
];

/// A mount namespace with a BPF file system of its own, which goes with the test.
pub struct Pins(Running);

impl Pins {
    pub fn new(host: &Host) -> Pins {
        Pins::by(host, "mount -t bpf bpf /sys/fs/bpf")
    }

    /// One that a shell's words prepare.
    pub fn by(host: &Host, words: &str) -> Pins {
        let script = format!("{words} && echo mounted >&2 && exec sleep 600");
        let mut command = host.netns.command("unshare");
        let running = Running::start(command.args(["-m", "sh", "-c", &script]));
        running.wait_for("mounted", SOON);
        Pins(running)
    }

    /// A program in it, on a host.
    pub fn command(&self, host: &Host, program: &str) -> Command {
        let mut command = host.netns.command("nsenter");
        command.args(["-m", "-t", &self.0.id().to_string(), program]);
        command
    }
}

/// A connection from a host to an address, as another accepts it at its own.
fn connect(near: &Host, ours: SocketAddr, far: &Host, next: SocketAddr) -> [TcpStream; 2] {
    let listen = || TcpListener::bind(next).expect("the address is there");
    let listener = far.netns.run(listen).expect("the namespace is there");
    let connect = || TcpStream::connect_timeout(&ours, PATIENCE).expect("the way is there");
    let near = near.netns.run(connect).expect("the namespace is there");
    let (far, _) = listener.accept().expect("who connects is accepted");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    }
    [near, far]
}

/// What goes over a connection: repeats itself nowhere near the size of a packet.
fn content() -> Vec<u8> {
    (0..1_000_003_u32).map(|n| (n ^ (n >> 8)) as u8).collect()
}

/// Sends bytes to a port of our address, which the next host sends back; gives whom that one saw.
pub fn echo(
    near: &Host,
    ours: SocketAddr,
    far: &Host,
    next: SocketAddr,
    bytes: usize,
) -> SocketAddr {
    let [near, mut far] = connect(near, ours, far, next);
    let seen = far.peer_addr().expect("it is connected");
    let content: Vec<u8> = content().into_iter().cycle().take(bytes).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            let mut left = bytes;
            while left > 0 {
                let len = far.read(&mut buffer).expect("it comes back in time");
                assert!(len > 0, "{left} bytes are missing");
                far.write_all(&buffer[..len]).expect("it is taken in time");
                left -= len;
            }
        });
        let (mut writer, content) = (&near, &content);
        scope.spawn(move || writer.write_all(content).expect("it is taken in time"));
        let mut back = vec![0; bytes];
        (&near).read_exact(&mut back).expect("it comes back in time");
        assert!(back == *content, "what came back is not what was sent");
    });
    seen
}

/// Bytes that the next host sends to the client, and of which it keeps the last tenth back until it is
/// told that what is to happen meanwhile has happened.
pub struct Download {
    may_end: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    threads: [JoinHandle<()>; 2],
}

impl Download {
    pub fn start(
        near: &Host,
        ours: SocketAddr,
        far: &Host,
        next: SocketAddr,
        bytes: usize,
    ) -> Download {
        let [mut near, mut far] = connect(near, ours, far, next);
        let (may_end, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let content = Arc::new(content());
        let writer = {
            let (may_end, content) = (Arc::clone(&may_end), Arc::clone(&content));
            move || {
                let mut left = bytes;
                while left > 0 {
                    if left < bytes / 10 && !may_end.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    let part = &content[..left.min(content.len())];
                    far.write_all(part).expect("it is taken in time");
                    left -= part.len();
                    if !may_end.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
        };
        let reader = {
            let arrived = Arc::clone(&arrived);
            move || {
                let mut buffer = vec![0; content.len()];
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(buffer.len());
                    near.read_exact(&mut buffer[..part]).expect("it arrives in time");
                    assert!(buffer[..part] == content[..part], "{left} bytes before the end");
                    left -= part;
                    arrived.fetch_add(part as u64, Ordering::Release);
                }
                assert_eq!(near.read(&mut buffer).expect("it ends"), 0);
            }
        };
        let threads = [std::thread::spawn(writer), std::thread::spawn(reader)];
        Download { may_end, arrived, threads }
    }

    /// How many bytes have arrived, each as it was sent.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Waits until so many bytes have arrived.
    pub fn wait_for(&self, bytes: u64) {
        rig::wait_until("the download goes on", PATIENCE, || self.arrived() >= bytes);
    }

    /// Lets it end, and waits until all has arrived.
    pub fn finish(self) {
        self.may_end.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().expect("all arrives as it was sent");
        }
    }
}

/// A UDP socket of a host; receiving takes no longer than [`PATIENCE`].
pub fn udp(host: &Host, at: impl Into<SocketAddr>) -> UdpSocket {
    let at = at.into();
    let bind = || UdpSocket::bind(at).expect("the address is there");
    let socket = host.netns.run(bind).expect("the namespace is there");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    socket
}

/// A datagram's text, and who sent it.
pub fn datagram(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, from) = socket.recv_from(&mut buffer).expect("it arrives in time");
    (String::from_utf8_lossy(&buffer[..len]).into_owned(), from)
}

/// What a program on a host prints.
pub fn said(host: &Host, program: &str, words: &[&str]) -> String {
    let mut command = host.netns.command(program);
    let output = command.args(words).stdin(Stdio::null()).output().expect("the program runs");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What `ping` says at the client.
pub fn ping(scene: &Scene, words: &[&str]) -> String {
    said(scene.host("client"), "ping", words)
}

/// Makes sure that a file has no wrong checksum and no packet that tshark cannot read.
pub fn assert_clean(path: &Path) {
    let fields =
        ["frame.number", "frame.interface_name", "tcp.checksum", "udp.checksum", "_ws.malformed"];
    let bad = rows(path, &CHECKED, &fields);
    assert!(bad.is_empty(), "{bad:?}");
}

/// The frames of a file, without the addresses of their links, by the name of their interface.
pub fn frames_by_interface(path: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let file = std::fs::File::open(path).expect("it was written");
    let mut reader = capfile::Reader::new(file).expect("it is a capture");
    let mut frames: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    while reader.advance().expect("it is whole") {
        let record = reader.record().expect("there is one");
        let (interface, bytes) = (record.interface, record.data[12..].to_vec());
        let name = reader.interfaces()[interface as usize].name.clone().unwrap_or_default();
        frames.entry(name).or_default().push(bytes);
    }
    assert!(reader.warning().is_none(), "{:?}", reader.warning());
    frames
}

/// Source and destination of an IP packet with its EtherType in front; `None` also of neighbour discovery.
pub fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| -> Option<IpAddr> { Some((*frame.get(at..)?.first_chunk::<4>()?).into()) };
    let v6 =
        |at: usize| -> Option<IpAddr> { Some((*frame.get(at..)?.first_chunk::<16>()?).into()) };
    match frame {
        [0x08, 0x00, ..] => Some((v4(14)?, v4(18)?)),
        [0x86, 0xdd, ..] if frame.get(8) == Some(&58) && matches!(frame.get(42)?, 130..=137) => {
            None
        }
        [0x86, 0xdd, ..] => Some((v6(10)?, v6(26)?)),
        _ => None,
    }
}

/// Stops a table that wrote its ledger into the scene's folder; all of it is accounted for.
pub fn stop(scene: &Scene, running: Running) -> api::Stats {
    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let ledger = stats(scene.path("ledger.json"));
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    ledger
}

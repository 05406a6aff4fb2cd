//! Packets as text: one line a packet, or one JSON object a line.

use crate::cli::Format;
use io::{Direction, Error, Interfaces, Outer, Packet, Selection, Sink, SinkCounters, Upstream};
use jiff::Timestamp;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write;
use wire::LinkType;
use wire::walk::{TransportKind, Walk, ethertype};

/// A sink that prints packets on standard output.
pub struct Printer {
    format: Format,
    interfaces: Interfaces,
    /// The lines of one batch.
    lines: String,
    counters: SinkCounters,
    closed: bool,
    failure: Option<Error>,
}

impl Printer {
    pub fn new(format: Format, interfaces: &Interfaces) -> Printer {
        Printer {
            format,
            interfaces: interfaces.clone(),
            lines: String::new(),
            counters: SinkCounters::default(),
            closed: false,
            failure: None,
        }
    }

    fn print(&mut self, packet: &Packet) -> std::io::Result<()> {
        let interface = self.interfaces.get(packet.meta.interface);
        let shown = Shown {
            ts_ns: packet.meta.ts_ns,
            source: None,
            interface: interface.name.as_deref(),
            direction: packet.meta.direction,
            outer: packet.meta.outer,
            origlen: packet.meta.origlen,
            link_type: packet.meta.link_type,
            frame: &packet.data,
        };
        shown.print(self.format, &mut self.lines)
    }

    /// Takes no more. A reader that has gone away has seen enough; anything else is a failure.
    fn close(&mut self, source: std::io::Error) {
        self.closed = true;
        if source.kind() != std::io::ErrorKind::BrokenPipe {
            let mend = "; make room where standard output leads to, or write packets with -w";
            let what = "print packets".into();
            self.failure.get_or_insert(Error::System { what, source, mend });
        }
    }
}

impl Sink for Printer {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        if self.closed {
            return 0;
        }
        self.lines.clear();
        let printed = packets.iter().try_for_each(|packet| self.print(packet));
        let mut out = std::io::stdout().lock();
        let mut bytes = 0;
        let outcome =
            printed.and_then(|()| write_counted(&mut out, self.lines.as_bytes(), &mut bytes));
        if let Err(error) = outcome {
            self.close(error);
        }
        let lines = self.lines.as_bytes()[..bytes].iter().filter(|&&byte| byte == b'\n').count();
        self.counters.add_sent(packets.first(lines));
        lines
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// A packet that is to be printed.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Nanoseconds since 1970 UTC.
    pub ts_ns: u64,
    /// The source in whose series it was recorded; of an archive's packets.
    pub source: Option<&'a str>,
    /// The name of its interface.
    pub interface: Option<&'a str>,
    pub direction: Direction,
    /// The tunnel that it came out of.
    pub outer: Option<Outer>,
    /// Bytes on the wire.
    pub origlen: u32,
    pub link_type: LinkType,
    /// The bytes present.
    pub frame: &'a [u8],
}

impl Shown<'_> {
    /// Appends a line.
    pub fn print(&self, format: Format, lines: &mut String) -> std::io::Result<()> {
        let summary = Summary::of(self);
        match format {
            Format::Text => summary.to_text(lines),
            Format::Json => *lines += &serde_json::to_string(&summary)?,
        }
        lines.push('\n');
        Ok(())
    }
}

/// Writes all bytes, or tells in `written` how many went out before it failed.
fn write_counted(out: &mut impl Write, bytes: &[u8], written: &mut usize) -> std::io::Result<()> {
    while *written < bytes.len() {
        match out.write(&bytes[*written..]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(some) => *written += some,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// What is printed of a packet. The JSON object has these fields; what is not there is left out.
#[derive(Serialize)]
struct Summary {
    /// UTC, RFC 3339 with nanoseconds.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    /// The tunnel that it came out of, and who had sent it into that.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<String>,
    caplen: usize,
    origlen: u32,
    link_type: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlan: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ethertype: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_flags: Option<String>,
    /// What the frame carries, in a few words.
    info: String,
}

impl Summary {
    fn of(shown: &Shown<'_>) -> Summary {
        let frame = shown.frame;
        let walk = Walk::new(shown.link_type, frame);
        let tuple = walk.five_tuple(frame);
        let ports = tuple.as_ref().and_then(|tuple| tuple.ports);
        Summary {
            time: time(shown.ts_ns),
            source: shown.source.map(printable),
            interface: shown.interface.map(printable),
            direction: match shown.direction {
                Direction::In => Some("in"),
                Direction::Out => Some("out"),
                Direction::Unknown => None,
            },
            tunnel: shown.outer.map(|outer| outer.to_string()),
            caplen: frame.len(),
            origlen: shown.origlen,
            link_type: shown.link_type.0,
            vlan: walk.vlans().iter().map(|tag| tag.vid()).collect(),
            ethertype: walk.ethertype,
            src: tuple.as_ref().map(|tuple| tuple.src.to_string()),
            dst: tuple.as_ref().map(|tuple| tuple.dst.to_string()),
            protocol: tuple.as_ref().map(|tuple| tuple.protocol),
            src_port: ports.map(|(src, _)| src),
            dst_port: ports.map(|(_, dst)| dst),
            tcp_flags: tcp_header(&walk, frame).map(|header| flags(header[13])),
            info: info(&walk, frame),
        }
    }

    /// Appends a line.
    fn to_text(&self, line: &mut String) {
        let mut put = |text: std::fmt::Arguments<'_>| {
            line.write_fmt(text).expect("writing to a String cannot fail");
        };
        put(format_args!("{}", self.time));
        // The series of a tunnel is named as its interface is.
        let source = self.source.as_deref().filter(|&name| self.interface.as_deref() != Some(name));
        let place = source.into_iter().chain(self.interface.as_deref()).chain(self.direction);
        for word in place.chain(self.tunnel.as_deref()) {
            put(format_args!(" {word}"));
        }
        for vid in &self.vlan {
            put(format_args!(" vlan {vid}"));
        }
        if let (Some(src), Some(dst)) = (&self.src, &self.dst) {
            match (self.src_port, self.dst_port) {
                (Some(from), Some(to)) => put(format_args!(" {src}.{from} > {dst}.{to}:")),
                _ => put(format_args!(" {src} > {dst}:")),
            }
        }
        put(format_args!(" {}, length {}", self.info, self.origlen));
        if self.caplen != self.origlen as usize {
            put(format_args!(" ({} captured)", self.caplen));
        }
    }
}

/// A name out of a file, which may hold anything: a line break would make two lines of one, and an
/// escape would command the reader's terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// RFC 3339 in UTC, with nanoseconds.
pub fn time(ts_ns: u64) -> String {
    let time =
        Timestamp::from_nanosecond(i128::from(ts_ns)).expect("64 bits of nanoseconds end in 2554");
    format!("{}.{:09}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), ts_ns % 1_000_000_000)
}

/// The fixed part of a TCP header, if it is there.
fn tcp_header<'a>(walk: &Walk, frame: &'a [u8]) -> Option<&'a [u8]> {
    let transport = walk.transport.as_ref().filter(|t| t.kind == TransportKind::Tcp)?;
    let at = transport.at as usize;
    frame.get(at..at + 20)
}

/// What a frame carries, in a few words.
fn info(walk: &Walk, frame: &[u8]) -> String {
    if let Some(header) = tcp_header(walk, frame) {
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let payload = walk.payload(frame).len();
        return format!(
            "tcp [{}] seq {} ack {} win {} payload {payload}",
            flags(header[13]),
            word(4),
            word(8),
            u16::from_be_bytes([header[14], header[15]])
        );
    }
    if let Some(transport) = &walk.transport {
        let at = transport.at as usize;
        return match (transport.kind, frame.get(at..at + 2)) {
            (TransportKind::Tcp, _) => "tcp, cut short".into(),
            (TransportKind::Udp, _) => format!("udp payload {}", walk.payload(frame).len()),
            (TransportKind::Icmp, Some(header)) => {
                format!("icmp type {} code {}", header[0], header[1])
            }
            (TransportKind::Icmpv6, Some(header)) => {
                format!("icmp6 type {} code {}", header[0], header[1])
            }
            (TransportKind::Icmp | TransportKind::Icmpv6, None) => "icmp, cut short".into(),
        };
    }
    match &walk.network {
        Some(network) if walk.is_fragment() => format!("fragment of protocol {}", network.protocol),
        Some(network) => format!("protocol {}", network.protocol),
        None => match walk.ethertype {
            Some(ethertype::ARP) => "arp".into(),
            Some(number) => format!("ethertype {number:#06x}"),
            None => format!("{} ({:?})", walk.stop.layer, walk.stop.why),
        },
    }
}

/// tcpdump's letters: S, F, R, P, `.` for ACK, U, E, W.
pub fn flags(bits: u8) -> String {
    let letters =
        [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')];
    letters.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect()
}

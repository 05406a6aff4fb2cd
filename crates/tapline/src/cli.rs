//! The command line: one declaration, from which help comes too.

use api::{DSCP_MAX, DirectionChoice, Endpoint, Group, Oversize, RingSize, Sending, Workers};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use io::decap::EVERY_LAYER;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use wire::LinkType;
use wire::tunnel::Kind;

/// Default of `receive -B`.
const LISTEN_BUFFER_SIZE: &str = "64MiB";
/// Lowest bound on an archive: a few packets of any size fit into each of its segments.
const ARCHIVE_BYTES_MIN: u64 = 100_000;

/// What a file of taps says for each of them.
const OPTIONS_OF_ONE_TAP: [&str; 10] = [
    "to",
    "direction",
    "snapshot_length",
    "oversize",
    "dscp",
    "promiscuous",
    "buffer_size",
    "workers",
    "rules",
    "expression",
];

/// A virtual network TAP: copies traffic at a NIC, carries it over IP, records it, and never loses
/// a packet without saying so.
#[derive(Debug, Parser)]
#[command(name = "tapline", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub verbosity: Verbosity,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Verbosity {
    /// Say only what went wrong: no start line, no ledger
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture packets of an interface or a file: print them, or write them to a file
    Capture(Capture),
    /// Copy packets of an interface or a file to one or more targets
    Mirror(Mirror),
    /// Take packets out of tunnels and record them
    Receive(Receive),
    /// Check a capture filter, show the program that it becomes, and try it on a capture file
    #[command(subcommand)]
    Filter(FilterCommand),
    /// Say what of this host or its network bears on a tap
    #[command(subcommand)]
    Diag(DiagCommand),
    /// Show the whole line on one machine: HTTP traffic between network namespaces is mirrored,
    /// recorded and checked. DEMO_SECONDS (20) and DEMO_DIR in the environment. Needs root
    Demo,
    /// Write the manual pages, which are made from the same declaration as --help
    Man(Man),
    /// Print the completions of a shell on standard output
    Completions(Completions),
}

#[derive(Debug, Args)]
pub struct Man {
    /// Folder for tapline.1 and a page for each command; without it tapline.1 is printed
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell that they are for
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: CompletingShell,
}

/// The shells whose completions are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletingShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["interface", "read"])))]
pub struct Capture {
    /// Interface to capture on; any: all of them, each packet with its own
    #[arg(short, long, value_name = "IF")]
    pub interface: Option<String>,
    /// Capture file to read, pcap or pcapng; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// Write packets to a file instead of printing them: pcapng, or pcap if its name ends in .pcap;
    /// - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Keep the first N bytes of each packet; 0 keeps all. The original length is recorded
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub snapshot_length: u32,
    /// Stop after N packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub rotation: Rotation,
    /// Write each packet at once rather than when a buffer is full
    #[arg(short = 'U', long)]
    pub packet_buffered: bool,
    /// Which packets: received, sent, or both
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both")]
    pub direction: DirectionChoice,
    /// Do not have the interface take frames for other hosts
    #[arg(short = 'p', long)]
    pub no_promiscuous_mode: bool,
    /// Size of the kernel's ring; a bare number means KiB. auto: 100 ms of the link at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    /// Threads that share the interface's packets by flow, each on a core of its own; auto: one for
    /// each core
    #[arg(long, value_name = "N|auto", default_value_t, conflicts_with = "read")]
    pub workers: Workers,
    /// Cut the super-packets of a file, which TSO, GSO and GRO had made, into the packets that the
    /// wire carried. An interface's packets are so without it
    #[arg(long)]
    pub wire_true: bool,
    /// MTU of the link, for connections whose beginning the file does not hold; the packets they are
    /// cut into are marked as estimated
    #[arg(long, value_name = "N", default_value_t = 1500, requires = "wire_true", conflicts_with = "interface", value_parser = clap::value_parser!(u16).range(576..))]
    pub mtu: u16,
    /// Take packets out of up to N tunnels, one inside the other; all: of every one. VXLAN, GENEVE, GRE,
    /// GRETAP, ERSPAN and L2TPv3, at the ports assigned to them. EXPR, --rules and -s are about what
    /// comes out. What is no tunnel goes on as it came
    #[arg(long, value_name = "N|all", value_parser = layers)]
    pub decap: Option<u8>,
    /// A UDP port at which there is a tunnel too: vxlan, geneve, gre or l2tp; may be given more than
    /// once
    #[arg(long, value_name = "KIND=PORT", value_parser = decap_port, requires = "decap")]
    pub decap_port: Vec<(Kind, u16)>,
    /// Names are never looked up; taken for those whose fingers type it
    #[arg(short = 'n', action = ArgAction::Count, hide = true)]
    pub numeric: u8,
    #[command(flatten)]
    pub filter_place: FilterPlace,
    #[command(flatten)]
    pub report: Report,
    /// How packets are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets to keep,
    /// instead of EXPR. Hits are counted for each rule
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets to keep
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["interface", "read", "config"])))]
pub struct Mirror {
    /// TOML file of several taps, each `[[tap]]` with what the options say of one: interface or read,
    /// to, direction, snapshot_length and so on; paths are relative to it
    #[arg(short, long, value_name = "FILE", conflicts_with_all = OPTIONS_OF_ONE_TAP)]
    pub config: Option<PathBuf>,
    /// Interface to tap; may be given more than once. any: all of them
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Capture file to send, as fast as the targets take it; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// Where to: a tunnel, such as vxlan://HOST:PORT?vni=N; nic:IF, tap:NAME, pcap:PATH, null:. Each
    /// --to gets every packet; endpoints joined by commas share them by flow
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]", required_unless_present = "config")]
    pub to: Vec<Group>,
    /// Which packets: received, sent, or both
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both")]
    pub direction: DirectionChoice,
    /// Send the first N bytes of each packet; 0 sends all
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = mirror_snapshot)]
    pub snapshot_length: u32,
    /// What copies the packets: the kernel, or a ring read by this process
    #[arg(long, value_enum, default_value_t)]
    pub datapath: Datapath,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// Have the interface take frames for other hosts too
    #[arg(long)]
    pub promiscuous: bool,
    /// Size of the kernel's ring; a bare number means KiB. auto: 100 ms of the link at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    /// Threads that share the interface's packets by flow, each on a core of its own; auto: one for
    /// each core
    #[arg(long, value_name = "N|auto", default_value_t, conflicts_with = "read")]
    pub workers: Workers,
    #[command(flatten)]
    pub filter_place: FilterPlace,
    #[command(flatten)]
    pub report: Report,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets to mirror,
    /// instead of EXPR. Hits are counted for each rule
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets to mirror
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}

/// How packets go into tunnels.
#[derive(Debug, Clone, Copy, Args)]
pub struct SendingOptions {
    /// What becomes of packets too large for the path once they are encapsulated; auto: cut where the
    /// tunnel carries the original length, else fragment
    #[arg(long, value_name = "auto|fragment|cut|drop", default_value = "auto")]
    pub oversize: Oversize,
    /// Class of the tunnels' packets on the way (DSCP), 0 to 63
    #[arg(long, value_name = "N", default_value_t, value_parser = value_parser!(u8).range(0..=DSCP_MAX.into()))]
    pub dscp: u8,
}

impl From<SendingOptions> for Sending {
    fn from(SendingOptions { oversize, dscp }: SendingOptions) -> Sending {
        Sending { oversize, dscp }
    }
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("place").required(true).multiple(true).args(["write", "archive", "to"])))]
pub struct Receive {
    /// Where to listen: vxlan://ADDRESS:PORT?vni=N; without the port 4789, without vni every VNI
    #[arg(long, value_name = "ENDPOINT", required = true, value_parser = Endpoint::listener)]
    pub listen: Vec<Endpoint>,
    /// Write all packets to one series of files; - is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "archive")]
    pub write: Option<PathBuf>,
    /// Write a series of segments for each VNI and sender below this folder. They are closed at
    /// 100 MB and after 60 s unless -C and -G say otherwise
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Keep the archive within SIZE (10MB, 2GiB): the oldest closed segments are removed to make
    /// room. At least two segments must fit; without -C they are closed at an eighth of it
    #[arg(long, value_name = "SIZE", value_parser = archive_bound, conflicts_with = "write")]
    pub max_bytes: Option<u64>,
    /// Listen for health checks there, by TCP or HTTP, only while packets are received and can be
    /// written
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = health_address)]
    pub health: Option<SocketAddr>,
    #[command(flatten)]
    pub rotation: Rotation,
    /// Write each packet at once rather than when a buffer is full
    #[arg(short = 'U', long)]
    pub packet_buffered: bool,
    /// Where else to, or instead of files: as --to of mirror
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]")]
    pub to: Vec<Group>,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// How packets are received: from a ring, which costs least and needs CAP_NET_RAW and CAP_BPF, or
    /// from sockets; auto takes the ring where it may
    #[arg(long, value_enum, default_value_t)]
    pub datapath: ReceiveDatapath,
    /// Take packets out of up to N tunnels, one inside the other; all: of every one; 0: of none, so that
    /// the tunnel packets are recorded as they came (from a ring only)
    #[arg(long, value_name = "0|N|all", value_parser = receive_layers, default_value = "1")]
    pub decap: u8,
    /// Size of the ring, or of each socket's receive buffer; a bare number means KiB
    #[arg(short = 'B', long, value_parser = kib, value_name = "SIZE", default_value = LISTEN_BUFFER_SIZE)]
    pub buffer_size: u64,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Say what a filter is, which rules never decide, and whether the kernel takes it; or what is
    /// wrong with it, and where
    Check(FilterCheck),
    /// Print the program that a filter becomes, as tcpdump -d does. It returns the number of the
    /// rule that matched, from 1; rules look past VLAN tags and IPv6 extension headers
    Explain(FilterExplain),
    /// Run a filter over a capture file: how much it keeps, which rules decide, which never do
    Test(FilterTest),
}

#[derive(Debug, Subcommand)]
pub enum DiagCommand {
    /// List the offloads of interfaces and what is done about each, so that packets are the wire's;
    /// with --to also what fits the way to a tunnel's far end. Nothing is changed
    Offload(DiagOffload),
}

#[derive(Debug, Args)]
pub struct DiagOffload {
    /// Interface to look at; may be given more than once. Without it all are listed
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Tunnel to look up the way to: route, path MTU, headers, and a warning if the interfaces'
    /// frames do not fit
    #[arg(long, value_name = "ENDPOINT", value_parser = tunnel_target)]
    pub to: Vec<Endpoint>,
    /// How the answer is printed; json: one object a line for each interface, then for each tunnel
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A filter in one of the two languages.
#[derive(Debug, Args)]
#[group(id = "filter", required = true, multiple = false)]
pub struct FilterChoice {
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}

#[derive(Debug, Args)]
pub struct FilterCheck {
    /// What the frames begin with: EN10MB (Ethernet), RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4,
    /// IPV6, or the number of another link type
    #[arg(long, value_parser = link_type, value_name = "NAME", default_value = "EN10MB")]
    pub link_type: LinkType,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}

#[derive(Debug, Args)]
pub struct FilterExplain {
    /// Print numbers, as tcpdump -ddd does: for iptables, tc and programs of your own
    #[arg(long = "ddd", conflicts_with_all = ["ebpf", "format"])]
    pub decimal: bool,
    /// Print the eBPF program that the kernel runs on an interface's ring
    #[arg(long)]
    pub ebpf: bool,
    /// The program of which packets, where received and sent ones have programs of their own
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both", conflicts_with = "ebpf")]
    pub direction: DirectionChoice,
    /// What the frames begin with: EN10MB (Ethernet), RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4,
    /// IPV6, or the number of another link type
    #[arg(long, value_parser = link_type, value_name = "NAME", default_value = "EN10MB")]
    pub link_type: LinkType,
    /// How the program is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}

#[derive(Debug, Args)]
pub struct FilterTest {
    /// Capture file to run the filter over, pcap or pcapng; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: PathBuf,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}

/// When a file is closed and the next one begun: whichever comes first.
#[derive(Debug, Args)]
pub struct Rotation {
    /// Begin a new file after SIZE: millions of bytes, or a number with kB, MB, GB, KiB, MiB, GiB
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = api::parse_size_tcpdump)]
    pub file_size: Option<u64>,
    /// Begin a new file after SEC seconds (or 250ms, 5m, 1h); % fields of strftime in the name are
    /// filled in, in UTC
    #[arg(short = 'G', long, value_name = "SEC", value_parser = api::parse_duration)]
    pub rotate_seconds: Option<Duration>,
    /// With -C: keep N files, the oldest replaced. With -G: end after N files
    #[arg(short = 'W', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub file_count: Option<u32>,
}

/// Where an interface's packets are filtered.
#[derive(Debug, Clone, Copy, Args)]
pub struct FilterPlace {
    /// Where the filter of an interface runs. In the kernel (eBPF) it stops what is not wanted before
    /// it costs a copy, and counts in wire packets; auto falls back to user space, and says why
    #[arg(long, value_enum, default_value_t)]
    pub filter_in: FilterIn,
    /// For hosts that refuse eBPF: also stop packets by a classic filter in the kernel, which cannot
    /// count. What was seen and filtered is then not known (n/a)
    #[arg(long, conflicts_with = "filter_in", requires = "interface")]
    pub prefilter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FilterIn {
    /// In the kernel where it can be
    #[default]
    Auto,
    /// In the kernel, or not at all
    Kernel,
    /// In this process
    User,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Write the ledger as JSON at the end, and on SIGUSR1
    #[arg(long, value_name = "FILE")]
    pub stats_json: Option<PathBuf>,
    /// Exit with 3 if any packet was dropped
    #[arg(long)]
    pub fail_on_drop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One line a packet
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Datapath {
    /// The best that can carry the tap
    #[default]
    Auto,
    /// A ring read by this process
    Ring,
    /// The kernel itself
    Kernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ReceiveDatapath {
    /// A ring where the process may, else sockets
    #[default]
    Auto,
    /// A ring for all endpoints. It sees packets before the firewall does
    Ring,
    /// A socket for each address and port, or protocol
    Socket,
}

fn direction(text: &str) -> Result<DirectionChoice, String> {
    match text {
        "both" | "inout" => Ok(DirectionChoice::Both),
        "in" => Ok(DirectionChoice::In),
        "out" => Ok(DirectionChoice::Out),
        _ => Err("write both, in or out".into()),
    }
}

/// A link type by its name, as tcpdump lists them, or by its number.
fn link_type(text: &str) -> Result<LinkType, String> {
    let named = filter::SUPPORTED_LINK_TYPES.into_iter();
    let named = named.chain([LinkType::ETHERNET]).find(|link_type| {
        let is_ethernet = *link_type == LinkType::ETHERNET && text.eq_ignore_ascii_case("ethernet");
        is_ethernet || link_type.to_string().eq_ignore_ascii_case(text)
    });
    named.or_else(|| text.parse().ok().map(LinkType)).ok_or_else(|| {
        "write EN10MB, RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4, IPV6, or a number".into()
    })
}

/// How many layers of tunnels.
fn layers(text: &str) -> Result<u8, String> {
    layers_from(1, text)
}

/// How many layers of tunnels a receiver takes off.
fn receive_layers(text: &str) -> Result<u8, String> {
    layers_from(0, text)
}

fn layers_from(least: u8, text: &str) -> Result<u8, String> {
    match text {
        "all" => Ok(EVERY_LAYER),
        _ => text
            .parse()
            .ok()
            .filter(|layers| (least..EVERY_LAYER).contains(layers))
            .ok_or_else(|| format!("write a number of layers from {least} to 254, or all")),
    }
}

/// A kind of tunnel at a UDP port.
fn decap_port(text: &str) -> Result<(Kind, u16), String> {
    const KINDS: [Kind; 4] = [Kind::Vxlan, Kind::Geneve, Kind::Gre, Kind::L2tp];
    let mend = "write vxlan=PORT, geneve=PORT, gre=PORT or l2tp=PORT";
    let (kind, port) = text.split_once('=').ok_or(mend)?;
    let kind = KINDS.into_iter().find(|known| known.name() == kind).ok_or_else(|| match kind {
        "gretap" | "erspan" => format!("{kind} over UDP is GRE: write gre=PORT"),
        _ => mend.to_owned(),
    })?;
    let port = port.parse().ok().filter(|&port: &u16| port != 0);
    Ok((kind, port.ok_or("a UDP port is a number from 1 to 65535")?))
}

fn tunnel_target(text: &str) -> Result<Endpoint, String> {
    match Endpoint::target(text).map_err(|error| error.to_string())? {
        endpoint @ Endpoint::Tunnel(_) => Ok(endpoint),
        _ => Err("write a tunnel, such as `vxlan://HOST?vni=N`: nothing else has a far end".into()),
    }
}

/// A slice must leave the Ethernet header that the far end reads.
fn mirror_snapshot(text: &str) -> Result<u32, String> {
    let bytes = text.parse().map_err(|_| "write a number of bytes, 0 for all".to_owned())?;
    Ok(api::snapshot_length(bytes)?)
}

fn health_address(text: &str) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() != 0).ok_or_else(|| {
        "write an address of this host and a port, such as 127.0.0.1:8080 or [::]:8080".into()
    })
}

/// A bound within which an archive is of use.
fn archive_bound(text: &str) -> Result<u64, api::Error> {
    match api::parse_size(text)? {
        bytes if bytes >= ARCHIVE_BYTES_MIN => Ok(bytes),
        _ => Err(api::Error::Unit {
            what: "size",
            text: text.into(),
            reason: "an archive needs 100kB at least".into(),
        }),
    }
}

fn ring_size(text: &str) -> Result<RingSize, api::Error> {
    match text {
        "auto" => Ok(RingSize::Auto),
        _ => kib(text).map(|bytes| RingSize::Bytes(bytes as usize)),
    }
}

/// tcpdump's `-B`: KiB, or a size with a unit.
fn kib(text: &str) -> Result<u64, api::Error> {
    match text.parse::<u64>() {
        Ok(_) => api::parse_buffer_size(&format!("{text}KiB")),
        Err(_) => api::parse_buffer_size(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn refused(arguments: &str) -> String {
        let words = std::iter::once("tapline").chain(arguments.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments}");
        error.to_string()
    }

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_s_forms_are_understood() {
        for arguments in [
            "capture -i eth0 -w x.pcapng -s 200 -c 10 -C 1 -G 60 -W 3 -U tcp port 80",
            "capture -r - --format json",
            "capture -i any -B auto -w any.pcapng --workers auto",
            "capture -r big.pcap --wire-true --mtu 9000 -w true.pcapng",
            "capture -i eth0 --wire-true",
            "capture -r x.pcap --decap all --decap-port vxlan=8472 --decap-port gre=9 -w y.pcapng",
            "capture -i any --decap 2 --format json tcp",
            "capture -i eth0 -nn -p -B 4096 -Q inout not port 22",
            "mirror -i eth0 --to vxlan://10.0.0.2?vni=7 --direction in -s 128 tcp",
            "mirror -r f --to vxlan://a?vni=1,vxlan://b?vni=1 --to null: --oversize drop --dscp 46 --datapath ring",
            "receive --listen vxlan://0.0.0.0 --archive d -C 10MB -G 30s --stats-json s.json",
            "receive --listen vxlan://[::]:4790?vni=7 -w - -q",
            "receive --listen gre://[::] --datapath ring --decap 0 -B 16MiB -w outer.pcapng",
            "receive --listen l2tp+udp://0.0.0.0 --datapath socket --decap all -w x.pcapng",
            "receive --listen vxlan://0.0.0.0 --archive d --max-bytes 10GB --health [::]:8080",
            "receive --listen vxlan://0.0.0.0 --to nic:eth1 --to tap:a,tap:b --oversize drop",
            "receive --listen vxlan://0.0.0.0 --archive d --to vxlan://h?vni=1 -G 5",
            "diag offload -i eth0 -i eth1 --to geneve://10.0.0.2?vni=7 --format json",
            "filter check --rules f",
            "filter check --link-type raw --format json tcp port 80",
            "filter explain --ddd --link-type 1 -Q in --rules f",
            "filter explain --ebpf not port 22",
            "filter test -r x.pcap --rules f",
            "filter test -r - tcp and not port 22",
        ] {
            let words = std::iter::once("tapline").chain(arguments.split(' '));
            Cli::try_parse_from(words).unwrap();
        }
    }

    #[test]
    fn mistakes_say_the_mend() {
        assert!(refused("capture").contains("--interface"));
        assert!(refused("mirror -i eth0").contains("--to"));
        assert!(refused("mirror -i eth0 --to vxlan://h").contains("vni=N"));
        assert!(refused("mirror -i eth0 --to null: -s 13").contains("14 or more"));
        assert!(
            refused("mirror -i eth0 --to null: --oversize x")
                .contains("auto, fragment, cut or drop")
        );
        assert!(refused("mirror -i eth0 --to null: --dscp 64").contains("0..=63"));
        assert!(refused("receive --listen vxlan://0.0.0.0").contains("--archive"));
        assert!(refused("receive --listen null: -w x").contains("listen"));
        let receive = "receive --listen vxlan://0.0.0.0";
        assert!(refused(&format!("{receive} --archive d --max-bytes 10")).contains("100kB"));
        assert!(refused(&format!("{receive} -w f --max-bytes 1GB")).contains("--write"));
        assert!(refused(&format!("{receive} -w f --archive d")).contains("cannot be used with"));
        assert!(refused(&format!("{receive} --to vxlan://h")).contains("vni=N"));
        assert!(refused(&format!("{receive} -w f --decap 255")).contains("0 to 254, or all"));
        assert!(refused(&format!("{receive} -w f --health 8080")).contains("127.0.0.1:8080"));
        assert!(refused("capture -i e --workers 0").contains("1 to 64, or auto"));
        assert!(refused("capture -r f --workers 2").contains("--read"));
        assert!(refused("capture -r f --mtu 1400").contains("--wire-true"));
        assert!(refused("capture -r f --wire-true --mtu 500").contains("576"));
        assert!(refused("capture -i e --wire-true --mtu 1400").contains("--interface"));
        assert!(refused("capture -i e -B 1").contains("64KiB"));
        assert!(refused("capture -i e -c 0").contains("0"));
        assert!(refused("capture -i e -Q sideways").contains("both, in or out"));
        assert!(refused("capture -r f --decap 0").contains("1 to 254, or all"));
        assert!(refused("capture -r f --decap-port vxlan=1").contains("--decap"));
        let capture = "capture -r f --decap all --decap-port";
        assert!(refused(&format!("{capture} nvgre=1")).contains("geneve=PORT"));
        assert!(refused(&format!("{capture} gretap=1")).contains("gre=PORT"));
        assert!(refused(&format!("{capture} vxlan=0")).contains("1 to 65535"));
        assert!(refused("diag offload --to null:").contains("write a tunnel"));
        assert!(refused("filter check").contains("--rules"));
        assert!(refused("filter check --rules f tcp").contains("cannot be used with"));
        assert!(refused("filter test --rules f").contains("--read"));
        assert!(refused("filter explain --ddd --ebpf tcp").contains("cannot be used with"));
        assert!(refused("filter check --link-type ether tcp").contains("EN10MB"));
    }
}

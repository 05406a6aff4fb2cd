//! Those who mirror one interface into a tunnel by the same rules.

use super::super::process::refuses_to_start;
use super::super::trial::Subject;
use super::super::why_not;
use super::rules::{List, bytecode};
use rig::Host;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The peer that all are compared with.
pub const TC: &str = "tc cBPF + mirred + vxlan";
pub const TC_TCPDUMP: &str = "tc, tcpdump's cBPF";
pub const TC_U32: &str = "tc u32";
pub const NFT: &str = "nft dup + vxlan";
/// The tunnel's id of the first tap.
const VNI: usize = 7;

/// The interface that is tapped, where its copies go, and by which rules.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub tapline: &'a Path,
    pub folder: &'a Path,
    /// The tapped host, and its interface.
    pub host: &'a Host,
    pub interface: &'a str,
    /// The interface that the copies leave by, and where to.
    pub underlay: &'a str,
    pub remote: SocketAddr,
    /// Where the traffic goes to.
    pub to: SocketAddr,
    pub list: List,
    /// Taps on the interface, all alike but for the tunnel's id.
    pub taps: usize,
}

/// What is peculiar to a tap of ours.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    pub name: &'a str,
    /// `kernel` or `ring`.
    pub datapath: &'a str,
    /// Bytes kept of each packet; 0: all.
    pub snaplen: u32,
    /// Into GENEVE with metadata, not into VXLAN.
    pub metadata: bool,
}

impl<'a> Scene<'a> {
    /// A tap of ours.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn ours(self, ours: Ours<'_>) -> anyhow::Result<Subject<'a>> {
        let file = self.write_taps(ours)?;
        let datapath = ours.datapath.to_owned();
        let start = move || {
            let mut command = self.host.netns.command(self.tapline);
            command.args(["mirror", "--datapath", &datapath, "-c"]).arg(&file);
            command
        };
        let absent = refuses_to_start(&mut start());
        let subject = Subject::program(ours.name, self.to, start).copies(self.taps as u64);
        Ok(Subject { absent, ..subject })
    }

    fn write_taps(&self, ours: Ours<'_>) -> anyhow::Result<PathBuf> {
        let name = format!("{}-{}-{}", self.list.0, self.taps, ours.name.replace([' ', ','], ""));
        let file = format!("{name}.rules.toml");
        std::fs::write(self.folder.join(&file), self.list.toml())?;
        // Beside the file of taps, which is read from its own folder.
        let rules = match self.list.0 {
            0 => String::new(),
            _ => format!("rules = \"{file}\"\n"),
        };
        let (interface, snaplen) = (self.interface, ours.snaplen);
        let mut text = String::new();
        for vni in VNI..VNI + self.taps {
            let address = self.remote.ip();
            let endpoint = match ours.metadata {
                true => format!("geneve://{address}?vni={vni}"),
                false => format!("vxlan://{}?vni={vni}", self.remote),
            };
            write!(
                text,
                "[[tap]]\nname = \"tap{vni}\"\ninterface = \"{interface}\"\nto = [\"{endpoint}\"]\n\
                 snapshot_length = {snaplen}\n{rules}"
            )?;
        }
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// tc, with the program that our compiler makes of the rules.
    ///
    /// # Errors
    /// As [`List::program`].
    pub fn tc(self) -> anyhow::Result<Subject<'a>> {
        let bytecode = bytecode(&self.list.program()?);
        Ok(self.tc_with(TC, &|vx| vec![Filter::bytecode(&bytecode, vx)]))
    }

    /// tc, with the program that tcpdump makes of the rules as an expression.
    pub fn tc_tcpdump(self) -> Subject<'a> {
        if why_not("tcpdump").is_some() {
            let subject = Subject::nothing(self.to).needs("tcpdump");
            return Subject { name: TC_TCPDUMP.into(), ..subject };
        }
        let mut tcpdump = self.host.netns.command("tcpdump");
        tcpdump.args(["-i", self.interface, "-ddd"]).arg(self.list.expression());
        let listing = tcpdump.output().map(|output| output.stdout).unwrap_or_default();
        let bytecode = String::from_utf8_lossy(&listing).trim().replace('\n', ",");
        self.tc_with(TC_TCPDUMP, &|vx| vec![Filter::bytecode(&bytecode, vx)])
    }

    /// tc, with a match for each rule.
    pub fn tc_u32(self) -> Subject<'a> {
        let filters = |vx: &str| {
            let filters = self.list.u32(&mirred(vx)).into_iter();
            filters.map(|filter| Filter { protocol: "ip", kind: format!("u32 {filter}") }).collect()
        };
        self.tc_with(TC_U32, &filters)
    }

    fn tc_with(self, name: &str, filters: &dyn Fn(&str) -> Vec<Filter>) -> Subject<'a> {
        let interface = self.interface;
        let mut up = self.vxlan_up();
        let _ = writeln!(up, "tc qdisc add dev {interface} clsact");
        for hook in ["ingress", "egress"] {
            for tap in 0..self.taps {
                let priority = tap + 1;
                for Filter { protocol, kind } in filters(&format!("vx{tap}")) {
                    let _ = writeln!(
                        up,
                        "tc filter add dev {interface} {hook} protocol {protocol} prio {priority} \
                         {kind}"
                    );
                }
            }
        }
        let down = format!("tc qdisc del dev {interface} clsact\n{}", self.vxlan_down());
        let subject = Subject::kernel(name, self.to, self.host, &up, &down);
        subject.copies(self.taps as u64).needs("tc").tried()
    }

    /// nft, which copies where tc's hooks are, too.
    pub fn nft(self) -> Subject<'a> {
        let interface = self.interface;
        let mut table = String::from("table netdev bench {\n");
        for hook in ["ingress", "egress"] {
            for tap in 0..self.taps {
                let rules = self.list.nft(&format!("dup to \"vx{tap}\""));
                let _ = write!(
                    table,
                    "chain {hook}{tap} {{\ntype filter hook {hook} device \"{interface}\" \
                     priority {tap};\n{rules}}}\n"
                );
            }
        }
        let up = format!("{}nft -f - <<'END'\n{table}}}\nEND\n", self.vxlan_up());
        let down = format!("nft delete table netdev bench\n{}", self.vxlan_down());
        let subject = Subject::kernel(NFT, self.to, self.host, &up, &down);
        subject.copies(self.taps as u64).needs("nft").tried()
    }

    fn vxlan_up(&self) -> String {
        let (remote, port) = (self.remote.ip(), self.remote.port());
        let mut text = String::new();
        for tap in 0..self.taps {
            let (vni, underlay) = (VNI + tap, self.underlay);
            let _ = writeln!(
                text,
                "ip link add vx{tap} mtu 1500 type vxlan id {vni} remote {remote} dstport {port} \
                 dev {underlay}\nip link set vx{tap} addrgenmode none up"
            );
        }
        text
    }

    fn vxlan_down(&self) -> String {
        (0..self.taps).map(|tap| format!("ip link del vx{tap}\n")).collect()
    }
}

/// A filter of tc: frames of a protocol, and how it looks at them.
struct Filter {
    protocol: &'static str,
    kind: String,
}

impl Filter {
    fn bytecode(bytecode: &str, vx: &str) -> Filter {
        Filter { protocol: "all", kind: format!("bpf bytecode '{bytecode}' {}", mirred(vx)) }
    }
}

/// The action that copies, and has the next tap look too.
fn mirred(vx: &str) -> String {
    format!("action mirred egress mirror dev {vx} continue")
}

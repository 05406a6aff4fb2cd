//! The stage that takes headers off: tags, labels, tunnels.
//!
//! ```text
//! MACs · tags · EtherType · ───────────────── packet    VLAN: the tags go
//! MACs · EtherType · labels ─┬─────────────── IP        MPLS: the labels go, EtherType becomes IP's
//!                            └ control word ─ Ethernet  MPLS: all in front goes
//! Ethernet · IP · UDP · VXLAN ─────────────── Ethernet  a tunnel: all in front goes
//! ```
//!
//! Only what stands outermost goes, again and again: a tunnel inside of one that is not listed stays. A
//! tunnel packet that came in fragments is none here; a source with `decap` puts them together.

use super::{Stage, Work, edit};
use api::Layer;
use io::{Interfaces, Outer, Packet, Relinked};
use wire::LinkType;
use wire::decap::{Content, Rules};
use wire::mpls;
use wire::tunnel::Kind;
use wire::vlan::{self, TAG_LEN};
use wire::walk::{Walk, Why, ethertype};

/// Takes headers off.
pub(super) struct Strip {
    vlan: bool,
    mpls: bool,
    tunnels: Vec<Kind>,
    rules: Rules,
    relinked: Relinked,
    touched: u64,
}

impl Strip {
    /// Takes these layers off, tunnels at their assigned ports. `interfaces` is the table that the
    /// packets refer to: what had an Ethernet header and has none afterwards is of another interface.
    pub(super) fn new(layers: &[Layer], interfaces: &Interfaces) -> Strip {
        let kinds = layers.iter().flat_map(|layer| match layer {
            Layer::Vlan | Layer::Mpls => &[][..],
            Layer::Vxlan => &[Kind::Vxlan],
            Layer::Gre => &[Kind::Gre, Kind::Gretap],
            Layer::Erspan => &[Kind::Erspan],
            Layer::Geneve => &[Kind::Geneve],
        });
        Strip {
            vlan: layers.contains(&Layer::Vlan),
            mpls: layers.contains(&Layer::Mpls),
            tunnels: kinds.copied().collect(),
            rules: Rules::default(),
            relinked: Relinked::new(interfaces),
            touched: 0,
        }
    }

    /// Takes one layer off; returns whether it stood there. Each makes the packet shorter.
    #[inline]
    fn strip(&self, packet: &mut Packet) -> bool {
        (self.vlan && strip_vlan(packet))
            || (self.mpls && strip_mpls(packet))
            || (!self.tunnels.is_empty() && self.strip_tunnel(packet))
    }

    fn strip_tunnel(&self, packet: &mut Packet) -> bool {
        let found = self.rules.in_frame(packet.meta.link_type, &packet.data);
        let Ok(Some(found)) = found else {
            return false;
        };
        let Content::Packet(inner) = &found.content else {
            return false;
        };
        let listed = self.tunnels.contains(&found.tunnel.kind);
        if listed {
            packet.open(Outer::of(&found), inner, false);
        }
        listed
    }
}

impl Stage for Strip {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            let link_type = packet.meta.link_type;
            if !self.strip(packet) {
                return Ok(());
            }
            while self.strip(packet) {}
            self.touched += 1;
            let meta = &mut packet.meta;
            if meta.link_type != link_type {
                meta.interface = self.relinked.find(meta.interface, meta.link_type);
            }
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        true
    }

    fn touched(&self) -> u64 {
        self.touched
    }
}

fn strip_vlan(packet: &mut Packet) -> bool {
    if packet.meta.link_type != LinkType::ETHERNET {
        return false;
    }
    let tags = vlan::count(&packet.data);
    if tags > 0 {
        edit::remove(packet, vlan::AT, tags * TAG_LEN);
    }
    tags > 0
}

fn strip_mpls(packet: &mut Packet) -> bool {
    const LABELS: [u32; 2] = [mpls::ETHERTYPE as u32, mpls::ETHERTYPE_MULTICAST as u32];
    let walk = Walk::new(packet.meta.link_type, &packet.data);
    let labelled = matches!(walk.stop.why, Why::UnknownEtherType(n) if LABELS.contains(&n));
    let Some(ethertype_at) = walk.ethertype_at.filter(|_| labelled && walk.network.is_none())
    else {
        return false;
    };
    let stack_at = walk.payload_at as usize;
    let Some(carried) = mpls::carried(&packet.data[stack_at..]) else {
        return false;
    };
    if carried.link_type == LinkType::ETHERNET {
        let len = stack_at + carried.at;
        packet.data.trim_front(len);
        packet.meta.origlen = packet.meta.origlen.saturating_sub(len as u32);
        (packet.meta.link_type, packet.meta.gso) = (carried.link_type, None);
    } else {
        let version = packet.data[stack_at + carried.at] >> 4;
        let ethertype = if version == 4 { ethertype::IPV4 } else { ethertype::IPV6 };
        let at = ethertype_at as usize;
        packet.data[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
        edit::remove(packet, stack_at, carried.at);
    }
    packet.meta.flow_hash = None;
    true
}

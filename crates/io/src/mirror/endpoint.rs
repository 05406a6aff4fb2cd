//! Endpoints as the kernel's programs know them.

use super::ways::Way;
use crate::tunnel::SendOptions;
use api::Oversize;
use kernel::mirror::Outer;
use kernel::mirror::layout::{Member, Shape, TooBig, WayState};
use wire::tunnel::{Encap, Gre};

const HOP_LIMIT: u8 = 64;

/// Why an endpoint cannot be served in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its tunnel is of a kind that no program writes.
    #[error("the kernel's programs write VXLAN, GENEVE, GRE and GRETAP, not {0}")]
    Kind(&'static str),
    /// GRE with numbers or a checksum.
    #[error("the kernel's programs write GRE without sequence and checksum")]
    GreOptions,
    /// GRE in UDP, or a tunnel over UDP without.
    #[error("the kernel's programs write VXLAN and GENEVE over UDP, and GRE over IP alone")]
    Carrier,
}

/// Which headers an endpoint's packets have.
///
/// # Errors
/// Why the kernel cannot serve it.
pub fn shape(options: &SendOptions) -> Result<Shape, Unfit> {
    let SendOptions { remote, carrier, encap, .. } = options;
    let is_plain = |gre: &Gre| !gre.checksum && !gre.sequence;
    Shape::of(remote.is_ipv6(), *carrier, encap).ok_or(match encap {
        Encap::Erspan(_) => Unfit::Kind("ERSPAN"),
        Encap::L2tp(_) => Unfit::Kind("L2TPv3"),
        Encap::Gre(gre) | Encap::Gretap(gre) if !is_plain(gre) => Unfit::GreOptions,
        _ => Unfit::Carrier,
    })
}

/// What becomes of a target's packets that do not fit: what all its endpoints say, or else user space
/// decides.
pub(super) fn too_big(members: &[SendOptions]) -> TooBig {
    let settled = |options: &SendOptions| match options
        .sending
        .oversize
        .settled(options.encap.carries_length())
    {
        Oversize::Drop => TooBig::Drop,
        Oversize::Cut => TooBig::Cut,
        Oversize::Auto | Oversize::Fragment => TooBig::HandUp,
    };
    let mut policies = members.iter().map(settled);
    let first = policies.next().unwrap_or(TooBig::Drop);
    if policies.all(|policy| policy == first) { first } else { TooBig::HandUp }
}

/// The entry of an endpoint whose way is known so far.
pub(super) fn member(options: &SendOptions, shape: Shape, way: Way) -> Member {
    let without = |state| Member { state, interface: 0, shape, mtu: 0, header: Vec::new() };
    let path = match way {
        Way::Unreachable => return without(WayState::Unreachable),
        Way::ByIp => return without(WayState::HandUp),
        Way::Frames(path) => path,
    };
    let (Some(frame), Ok(mtu)) = (path.frame, u32::try_from(path.mtu)) else {
        return without(WayState::HandUp);
    };
    let outer = Outer {
        destination_mac: frame.destination,
        source_mac: frame.source,
        source: path.source,
        destination: options.remote.ip(),
        dscp: options.sending.dscp,
        hop_limit: HOP_LIMIT,
        // What is too large goes in fragments, so routers may fragment the others, too.
        dont_fragment: too_big(std::slice::from_ref(options)) != TooBig::HandUp,
    };
    let template = outer.template(options.carrier, &options.encap, options.lane);
    let Some((_, header)) = template else {
        return without(WayState::Unreachable);
    };
    let interface = path.interface.cast_unsigned();
    Member { state: WayState::Known, interface, shape, mtu, header }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Sending;
    use wire::metadata::Lane;
    use wire::tunnel::{Carrier, Erspan};
    use wire::{Vni, gre};

    fn options(carrier: Carrier, encap: Encap, oversize: Oversize) -> SendOptions {
        SendOptions {
            remote: ([10, 0, 0, 2], 0).into(),
            source: None,
            carrier,
            encap,
            sending: Sending { oversize, dscp: 0 },
            lane: Lane { epoch: 0, tap: 0, target: 0, lane: 0 },
            keep_alive: None,
        }
    }

    #[test]
    fn what_no_program_writes_is_refused_with_the_reason() {
        let ip = Carrier::Ip { protocol: gre::IP_PROTOCOL };
        let udp = Carrier::Udp { port: 4754 };
        let numbered = Encap::Gre(Gre { sequence: true, ..Gre::default() });
        for (carrier, encap, wanted) in [
            (ip, Encap::Erspan(Erspan::I), Unfit::Kind("ERSPAN")),
            (ip, numbered, Unfit::GreOptions),
            (udp, Encap::Gre(Gre::default()), Unfit::Carrier),
        ] {
            assert_eq!(shape(&options(carrier, encap, Oversize::Auto)), Err(wanted));
        }
        assert!(shape(&options(ip, Encap::Gretap(Gre::default()), Oversize::Auto)).is_ok());
    }

    #[test]
    fn user_space_decides_where_endpoints_differ() {
        let vni = Vni::new(1).expect("24 bits");
        let udp = Carrier::Udp { port: 4789 };
        let of = |encap, oversize| options(udp, encap, oversize);
        let (vxlan, geneve) = (Encap::Vxlan { vni }, Encap::Geneve { vni, metadata: true });
        for (members, wanted) in [
            (vec![of(vxlan, Oversize::Drop)], TooBig::Drop),
            (vec![of(geneve, Oversize::Auto)], TooBig::Cut),
            (vec![of(vxlan, Oversize::Auto)], TooBig::HandUp),
            (vec![of(vxlan, Oversize::Auto), of(geneve, Oversize::Auto)], TooBig::HandUp),
            (vec![of(vxlan, Oversize::Cut), of(geneve, Oversize::Auto)], TooBig::Cut),
        ] {
            assert_eq!(too_big(&members), wanted);
        }
    }
}

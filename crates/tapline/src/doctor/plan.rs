//! What is to be tapped, and where the packets are to go.

use super::finding::Finding;
use super::network::is_strict;
use crate::diag::{Effect, KNOWN};
use crate::failure::Failure;
use crate::fit::{ETHERNET_LEN, Way};
use api::{Endpoint, Oversize, TunnelEndpoint};
use io::bpf::list::{Hook, attached};
use io::offloads::{Offloads, interface_name};

/// Checks of each interface, then of each tunnel with them.
pub fn check(named: &[String], to: &[Endpoint]) -> Result<Vec<Finding>, Failure> {
    let (mut findings, mut tapped) = (Vec::new(), Vec::new());
    for name in named {
        match Offloads::read(name) {
            Ok(offloads) => {
                findings.extend(of_interface(&offloads));
                tapped.push(offloads);
            }
            Err(error) => findings.push(Finding::fault(
                "interface",
                error.to_string(),
                "a tap waits until it is there",
                "name another one, or create it",
            )),
        }
    }
    for tunnel in to.iter().filter_map(Endpoint::tunnel) {
        findings.extend(of_tunnel(tunnel, &tapped)?);
    }
    Ok(findings)
}

fn of_interface(of: &Offloads) -> Vec<Finding> {
    let name = &of.interface;
    let state = if of.is_up { "up" } else { "down" };
    let what = format!("{name}: {state}, MTU {}", of.mtu);
    let mut findings = vec![match of.is_up {
        true => Finding::ok("interface", what),
        false => Finding::warning(
            "interface",
            what,
            "no packets come until it is up",
            format!("ip link set {name} up"),
        ),
    }];
    let unlike = KNOWN.iter().filter(|known| known.is_on(of) == Some(true));
    let unlike = unlike.filter(|known| matches!(known.effect, Effect::NotUndone | Effect::Unseen));
    findings.extend(unlike.map(|known| {
        Finding::warning("interface", format!("{name}: {} is on", known.title), known.note, "")
    }));
    // Without the right to ask it is nothing that is known.
    let attached = attached(name).unwrap_or_default();
    let xdp = attached.iter().filter(|attached| attached.hook == Hook::Xdp);
    findings.extend(xdp.map(|program| {
        Finding::warning(
            "interface",
            format!("{name}: XDP program `{}`", program.name),
            "no tap sees what it drops or redirects",
            format!("ip link set {name} xdp off, if it may go"),
        )
    }));
    let before = attached.iter().filter(|a| a.hook != Hook::Xdp && !a.is_ours());
    let before: Vec<String> =
        before.map(|a| format!("{} {} `{}`", a.way.name(), a.hook.name(), a.name)).collect();
    if !before.is_empty() {
        findings.push(Finding::warning(
            "interface",
            format!("{name}: programs or filters of others: {}", before.join(", ")),
            "taps in the kernel do not see what those in front of them drop or redirect",
            format!("tapline diag taps -i {name} says who they are of"),
        ));
    }
    findings
}

fn of_tunnel(tunnel: &TunnelEndpoint, tapped: &[Offloads]) -> Result<Vec<Finding>, Failure> {
    let encap = tunnel
        .encap()
        .ok_or_else(|| Failure::Usage(format!("{tunnel}: the tunnel id is missing")))?;
    let way = Way::of(tunnel, &encap, 0)?;
    let Some(path) = way.path else {
        return Ok(vec![Finding::fault(
            "target",
            format!("{tunnel}: there is no route to {}", way.remote.ip()),
            "all that is sent there is dropped (unreachable)",
            "ip route add …",
        )]);
    };
    let by = interface_name(path.interface).unwrap_or_else(|| path.interface.to_string());
    let what = format!("{tunnel}: by {by}, from {}, path MTU {}", path.source, path.mtu);
    let mut findings = vec![match (path.is_up, way.frame_bytes_max()) {
        (false, _) => Finding::fault(
            "target",
            format!("{what}: {by} is down"),
            "all that is sent there is lost",
            format!("ip link set {by} up"),
        ),
        (true, None) => Finding::fault(
            "target",
            format!("{what}: no room for the headers"),
            "nothing fits",
            format!("ip link set {by} mtu 1500"),
        ),
        (true, Some(bytes)) => {
            Finding::ok("target", format!("{what}, takes frames of {bytes} bytes"))
        }
    }];
    if is_strict(&by) {
        findings.push(Finding::warning(
            "target",
            format!("{by}: rp_filter is strict"),
            "answers of the far end (health checks, path MTU) that come by another way are lost",
            format!("sysctl -w net.ipv4.conf.{by}.rp_filter=2"),
        ));
    }
    let auto = way.becomes(Oversize::Auto);
    for of in tapped.iter().filter(|of| of.is_ethernet) {
        let misfit = way.misfit(of.mtu as usize + ETHERNET_LEN);
        findings.push(match misfit {
            Some(why) => Finding::warning(
                "target",
                format!("{tunnel}: frames of {} are too long", of.interface),
                format!("{why}; --oversize auto: {auto}"),
                format!(
                    "ip link set {by} mtu {}, and along the path",
                    way.outer_bytes(of.mtu as usize + ETHERNET_LEN)
                ),
            ),
            None => Finding::ok("target", format!("{tunnel}: frames of {} fit", of.interface)),
        });
    }
    Ok(findings)
}

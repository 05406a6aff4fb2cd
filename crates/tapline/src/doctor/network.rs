//! The network's settings: buffers, reverse path filter, IPv6, firewall.

use super::finding::Finding;
use io::host::{Chain, Passing, filter_chains, setting_number};
use io::offloads::interfaces;

/// Bytes of an eBPF instruction, of which a filter before a ring takes so many of optmem_max.
const INSTRUCTION_BYTES: u64 = 8;
/// What newer kernels have by default.
const OPTMEM_WANTED_BYTES: u64 = 131_072;
/// What receivers without CAP_NET_ADMIN get at most.
const RMEM_WANTED_BYTES: u64 = 4 << 20;
/// The kernel's default.
const BACKLOG_WANTED: u64 = 1000;
/// `rp_filter`: the way back must be the same.
const STRICT: u64 = 1;

pub fn check() -> Vec<Finding> {
    let mut findings = vec![optmem(), rmem(), backlog(), reverse_path(), ipv6()];
    findings.extend(firewall());
    findings
}

fn optmem() -> Finding {
    at_least("net/core/optmem_max", OPTMEM_WANTED_BYTES, |bytes| {
        format!(
            "filters before a ring may have {} instructions; longer ones run in user space",
            bytes / INSTRUCTION_BYTES
        )
    })
}

fn rmem() -> Finding {
    at_least("net/core/rmem_max", RMEM_WANTED_BYTES, |_| {
        "a receiver without CAP_NET_ADMIN loses packets of short bursts (socket_buffer)".into()
    })
}

fn backlog() -> Finding {
    at_least("net/core/netdev_max_backlog", BACKLOG_WANTED, |_| {
        "packets that cross a veth device in a burst are lost, and those of a mirror that leaves by one".into()
    })
}

/// A setting that should not be less.
fn at_least(name: &str, wanted: u64, why: impl Fn(u64) -> String) -> Finding {
    let dotted = name.replace('/', ".");
    match setting_number(name) {
        Some(value) if value < wanted => Finding::warning(
            "network",
            format!("{dotted} = {value}"),
            why(value),
            format!("sysctl -w {dotted}={wanted}"),
        ),
        Some(value) => Finding::ok("network", format!("{dotted} = {value}")),
        // Some settings are seen only from the host's first network namespace.
        None => Finding::ok("network", format!("{dotted}: not told in this network namespace")),
    }
}

fn reverse_path() -> Finding {
    let names = interfaces().into_iter().filter(|name| name != "lo");
    let strict: Vec<String> = names.filter(|name| is_strict(name)).collect();
    if strict.is_empty() {
        return Finding::ok("network", "rp_filter: strict on no interface");
    }
    let settings = strict.iter().map(|name| format!("net.ipv4.conf.{name}.rp_filter=2"));
    Finding::warning(
        "network",
        format!("rp_filter: strict on {}", strict.join(", ")),
        "a receiver loses tunnel packets that come by another interface than answers would take",
        format!("sysctl -w {}", settings.collect::<Vec<_>>().join(" ")),
    )
}

/// Whether packets must come by the way on which answers would leave: the stricter of two settings
/// counts.
pub fn is_strict(interface: &str) -> bool {
    let of = |name: &str| setting_number(&format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    of("all").max(of(interface)) == STRICT
}

fn ipv6() -> Finding {
    match setting_number("net/ipv6/conf/all/disable_ipv6") {
        Some(0) => Finding::ok("network", "IPv6 is on"),
        Some(_) => Finding::warning(
            "network",
            "IPv6 is switched off",
            "tunnels to IPv6 addresses cannot be sent or received; IPv6 packets are tapped all the same",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
        ),
        None => Finding::warning(
            "network",
            "this kernel has no IPv6",
            "tunnels to IPv6 addresses cannot be sent or received; IPv6 packets are tapped all the same",
            "start it without ipv6.disable=1",
        ),
    }
}

fn firewall() -> Vec<Finding> {
    let chains = match filter_chains() {
        Ok(chains) => chains,
        Err(_) => {
            let what = "firewall: not told (no right, or no nf_tables)";
            return vec![Finding::ok("network", what)];
        }
    };
    let findings: Vec<Finding> = chains.iter().filter_map(judged).collect();
    match findings.is_empty() {
        true => {
            vec![Finding::ok("network", "firewall: no chain drops packets of this host unasked")]
        }
        false => findings,
    }
}

/// A chain that may drop tunnel packets.
fn judged(chain: &Chain) -> Option<Finding> {
    let Chain { table, name, passing, drops_by_default, rules } = chain;
    let what = format!("firewall: chain `{name}` of table `{table}` with {rules} rules");
    match (passing, drops_by_default) {
        (Passing::Input, true) => Some(Finding::warning(
            "network",
            format!("{what} drops what comes in by default"),
            "a receiver gets no tunnel packets that no rule lets in; taps see packets before it",
            "let in UDP 4789 (VXLAN), 6081 (GENEVE), 1701 (L2TP), or IP protocol 47 (GRE), 115 (L2TP)",
        )),
        (Passing::Output, true) => Some(Finding::warning(
            "network",
            format!("{what} drops what goes out by default"),
            "tunnel packets that are sent by a raw socket (fragments, loopback) are dropped; frames are \
             not judged by it",
            "let out UDP 4789 (VXLAN), 6081 (GENEVE), or IP protocol 47 (GRE), 115 (L2TP)",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn a_setting_that_is_too_small_says_what_to_set() {
        let found = at_least("net/core/rmem_max", u64::MAX, |_| "it is small".into());
        assert_eq!(found.state, State::Warning);
        assert_eq!(found.mend, format!("sysctl -w net.core.rmem_max={}", u64::MAX));
        assert_eq!(at_least("net/core/rmem_max", 1, |_| String::new()).state, State::Ok);
        assert_eq!(at_least("net/core/nothing", 1, |_| String::new()).state, State::Ok);
    }

    #[test]
    fn only_chains_that_drop_by_default_are_told() {
        let chain = |passing, drops_by_default| Chain {
            table: "t".into(),
            name: "c".into(),
            passing,
            drops_by_default,
            rules: 2,
        };
        let said = judged(&chain(Passing::Input, true)).unwrap();
        assert!(said.what.contains("chain `c` of table `t` with 2 rules"), "{said:?}");
        assert!(judged(&chain(Passing::Output, true)).is_some());
        assert_eq!(judged(&chain(Passing::Input, false)), None);
    }
}

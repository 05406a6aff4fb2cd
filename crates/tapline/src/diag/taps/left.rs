//! What a process has left behind, and how it is removed. A mirror leaves nothing: its programs,
//! devices and namespaces are gone with it. What may be there is pinned on purpose, or was attached by
//! clsact on a kernel without tcx.

use super::People;
use super::place::{self, Place};
use crate::failure::Failure;
use io::bpf::list::pinned_link;
use io::host::{device_kind, folders_in};
use io::inline::PINS;
use io::offloads::interfaces;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What private devices are called, with a number behind it, and their kind.
const DEVICES: &str = "tapline";
const DEVICE_KIND: &str = "veth";

/// Something that is there without a process.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// `table`, `device` or `filter`.
    pub what: &'static str,
    /// A table, or an interface.
    pub name: String,
    /// Why it is there.
    pub why: &'static str,
    /// How it is removed.
    pub remove: String,
}

/// All of them; filters only on the places looked at.
pub fn all(places: &[Place], people: &People) -> Result<Vec<Leftover>, Failure> {
    let is_alone = |pins: &[PathBuf]| {
        let links = pins.iter().filter_map(|pin| pinned_link(pin));
        let mut holders = links.map(|link| people.named(people.holders.of_link(link)));
        !holders.any(|holders| people.has_ours(&holders))
    };
    let tables = folders_in(Path::new(PINS)).into_iter().filter(|(_, pins)| is_alone(pins));
    let mut found: Vec<Leftover> = tables
        .map(|(name, _)| Leftover {
            what: "table",
            why: "a forwarding table that goes on without its process",
            remove: format!("tapline inline stop --table {name}"),
            name,
        })
        .collect();
    for name in interfaces().into_iter().filter(|name| is_private(name)) {
        if device_kind(&name).as_deref() == Some(DEVICE_KIND) && !is_held(&name, people) {
            found.push(Leftover {
                what: "device",
                why: "no running tapline has a program on it",
                remove: format!("ip link delete {name}"),
                name,
            });
        }
    }
    for place in places {
        let filters = place.programs.iter().filter(|program| program.ours);
        for program in filters.filter(|p| p.hook == "clsact" && !people.has_ours(&p.processes)) {
            let interface = &place.interface;
            found.push(Leftover {
                what: "filter",
                name: format!("{interface} {}", program.way),
                why: "its process was killed on a kernel without tcx",
                remove: format!(
                    "the next `tapline mirror -i {interface}` does; or, if no filter of others is \
                     there: tc qdisc delete dev {interface} clsact"
                ),
            });
        }
    }
    Ok(found)
}

/// Whether a device has a name that the kernel has numbered for us.
fn is_private(name: &str) -> bool {
    let number = name.strip_prefix(DEVICES).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a running tapline holds a program on a device.
fn is_held(interface: &str, people: &People) -> bool {
    let programs = place::programs(interface, people).unwrap_or_default();
    programs.iter().any(|program| people.has_ours(&program.processes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_devices_are_told_by_their_numbers() {
        for (name, is) in [
            ("tapline0", true),
            ("tapline12", true),
            ("tapline", false),
            ("tapline-mon", false),
            ("tapline0x", false),
            ("eth0", false),
        ] {
            assert_eq!(is_private(name), is, "{name}");
        }
    }
}

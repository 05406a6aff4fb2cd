//! The programs' hold on the interfaces.

use super::maps::Maps;
use super::pins::Pins;
use crate::bpf::{Classifier, Link, Way, pin};
use crate::error::Error;
use kernel::inline::{Roles, program};
use std::os::fd::AsFd;

/// Names of links: where clients are, where next hosts are.
pub(super) const LINKS: [&str; 2] = ["ingress", "egress"];

/// Programs that run; without descriptors and pins they are gone.
#[derive(Debug)]
pub(super) struct Attached {
    /// As [`LINKS`]; one if both interfaces are the same.
    links: Vec<Link>,
}

impl Attached {
    /// Has the table's programs run: in the place of those that run, if they are of the same interfaces.
    pub(super) fn new(
        maps: &Maps,
        interfaces: [u32; 2],
        pins: Option<&Pins>,
        before: Option<Attached>,
    ) -> Result<Attached, Error> {
        let [ingress, egress] = interfaces;
        let parts: Vec<(u32, Roles)> = if ingress == egress {
            vec![(ingress, Roles { forward_to: Some(egress), reply_to: Some(ingress) })]
        } else {
            vec![
                (ingress, Roles { forward_to: Some(egress), reply_to: None }),
                (egress, Roles { forward_to: None, reply_to: Some(ingress) }),
            ]
        };
        let mut before = before.map_or(Vec::new(), |attached| attached.links).into_iter();
        let mut links = Vec::with_capacity(parts.len());
        for ((interface, roles), name) in parts.into_iter().zip(LINKS) {
            let code = program(roles).expect("it has as many instructions as it always has");
            let program = Classifier::load("that forwards", &code, &maps.descriptors())?;
            let found = match before.next() {
                Some(link) => Some(link),
                None => pins.map(|pins| pins.link(name)).transpose()?.flatten(),
            };
            if let Some(link) = found {
                match link.replace(&program) {
                    Ok(()) => {
                        links.push(link);
                        continue;
                    }
                    // Its interface is gone, and another has come in its place.
                    Err(error) => tracing::debug!("{error}"),
                }
                if let Some(pins) = pins {
                    pins.remove(name)?;
                }
            }
            let link = program.attach(interface.cast_signed(), Way::Ingress)?;
            if let Some(pins) = pins {
                pin(link.as_fd(), &pins.folder().join(name))?;
            }
            links.push(link);
        }
        Ok(Attached { links })
    }
}

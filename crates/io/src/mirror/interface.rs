//! A tapped interface: its dispatchers, and whether it is there.

use super::hold::{AttachBy, Hold};
use super::tables::Tables;
use super::taps::{Tap, Taps};
use crate::bpf::{Classifier, Map, Way, remove_leftovers};
use crate::error::Error;
use crate::link::{self, Link, Links};
use crate::netns::Netns;
use kernel::mirror::{DispatcherOptions, DispatcherTap, dispatcher};
use std::os::fd::{AsFd, BorrowedFd};
use wire::{Direction, LinkType};

/// What a dispatcher is made of, beside its taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub tables: &'a Tables,
    pub taps: &'a Taps,
    /// Where clones go.
    pub private: kernel::mirror::Private,
    /// Where the interface is.
    pub netns: &'a Netns,
}

/// An interface that has taps.
#[derive(Debug)]
pub(super) struct Interface {
    name: String,
    taps: Vec<Tap>,
    programs: Programs,
    /// `None` while it is not there.
    attached: Option<Attached>,
    /// Why one of its name is not tapped, which is said once.
    refused: Option<String>,
}

#[derive(Debug)]
struct Programs {
    ingress: Classifier,
    egress: Classifier,
    kind: Kind,
}

/// What programs have to know of an interface.
#[derive(Debug, Clone, Copy)]
struct Kind {
    is_loopback: bool,
    /// Whether super-packets may come that are longer than an IP packet can say.
    has_jumbo: bool,
}

#[derive(Debug)]
struct Attached {
    index: i32,
    ingress: Hold,
    egress: Hold,
}

impl Interface {
    /// Taps an interface.
    pub fn open(
        name: &str,
        taps: Vec<Tap>,
        has_jumbo: bool,
        parts: &Parts<'_>,
        links: &mut Links,
        attach_by: &mut AttachBy,
    ) -> Result<Interface, Error> {
        let link = find(name, links, parts.netns)?;
        let kind = Kind { is_loopback: is_loopback(link), has_jumbo };
        let programs = Programs::load(name, &taps, parts, kind)?;
        let attached = programs.attach(link.index, parts.netns, attach_by)?;
        let (name, refused) = (name.into(), None);
        Ok(Interface { name, taps, programs, attached: Some(attached), refused })
    }

    /// Exchanges the taps.
    pub fn set(&mut self, taps: Vec<Tap>, has_jumbo: bool, parts: &Parts<'_>) -> Result<(), Error> {
        let kind = Kind { has_jumbo, ..self.programs.kind };
        let programs = Programs::load(&self.name, &taps, parts, kind)?;
        if let Some(attached) = &mut self.attached {
            let before = attached.ingress.replace(&programs.ingress);
            let replaced = before.and_then(|()| attached.egress.replace(&programs.egress));
            match replaced {
                Ok(()) => {}
                // Waited for, with what is new.
                Err(error) if is_gone(&error) => {
                    tracing::warn!("{} is gone; waiting for it to return", self.name);
                    self.attached = None;
                }
                Err(error) => {
                    // Both as before.
                    let _ = attached.ingress.replace(&self.programs.ingress);
                    return Err(error);
                }
            }
        }
        (self.taps, self.programs) = (taps, programs);
        Ok(())
    }

    /// Its taps.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// Whether its programs expect super-packets that are longer than an IP packet can say.
    pub fn has_jumbo(&self) -> bool {
        self.programs.kind.has_jumbo
    }

    /// Its taps that judge behind the private interface.
    pub fn late(&self) -> impl Iterator<Item = &Tap> {
        self.taps.iter().filter(|tap| tap.has_late(self.has_jumbo()))
    }

    /// Whether it is there.
    pub fn is_present(&self) -> bool {
        self.attached.is_some()
    }

    /// Looks whether it has gone or come back.
    pub fn look(&mut self, netns: &Netns, links: &mut Links, attach_by: &mut AttachBy) {
        let found = match links.find(&self.name) {
            Ok(link) => Some(link),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
            Err(error) => {
                // Whether it is there is not known: all stays as it is.
                tracing::debug!("interface `{}`: look it up: {error}", self.name);
                return;
            }
        };
        let before = self.attached.as_ref().map(|attached| attached.index);
        if before.is_some() && before == found.map(|link| link.index) {
            return;
        }
        if before.is_some() {
            tracing::warn!("{} is gone; waiting for it to return", self.name);
            self.attached = None;
        }
        let Some(link) = found else { return };
        match self.attach_again(link, netns, attach_by) {
            Ok(()) => {
                tracing::info!("{} is back (index {})", self.name, link.index);
                self.refused = None;
            }
            Err(error) => {
                let error = error.to_string();
                if self.refused.as_ref() != Some(&error) {
                    tracing::warn!("{error}; waiting for it to change");
                    self.refused = Some(error);
                }
            }
        }
    }

    fn attach_again(
        &mut self,
        link: Link,
        netns: &Netns,
        attach_by: &mut AttachBy,
    ) -> Result<(), Error> {
        if !is_ethernet(link) || is_loopback(link) != self.programs.kind.is_loopback {
            return Err(Error::HardwareType { name: self.name.clone(), hardware: link.hardware });
        }
        self.attached = Some(self.programs.attach(link.index, netns, attach_by)?);
        Ok(())
    }
}

impl Programs {
    fn load(name: &str, taps: &[Tap], parts: &Parts<'_>, kind: Kind) -> Result<Programs, Error> {
        let maps = taps.iter().map(|tap| parts.taps.map(tap.id).map(Map::as_fd));
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let maps: Vec<BorrowedFd<'_>> = parts.tables.descriptors().chain(maps).collect();
        let load = |direction| {
            let way = match direction {
                Direction::Out => Way::Egress,
                _ => Way::Ingress,
            };
            let options = DispatcherOptions {
                link_type: LinkType::ETHERNET,
                direction,
                is_loopback: kind.is_loopback,
                private: parts.private,
                taps: (0..)
                    .zip(taps)
                    .map(|(number, tap)| dispatched(number, tap, direction, kind, parts.taps))
                    .collect(),
            };
            let what = format!("mirror the {} of interface `{name}`", way.name());
            let code = dispatcher(&options).map_err(|source| Error::Program {
                what: what.clone(),
                source: Box::new(source),
            })?;
            Classifier::load(&what, &code, &maps)
        };
        Ok(Programs { ingress: load(Direction::In)?, egress: load(Direction::Out)?, kind })
    }

    fn attach(
        &self,
        index: i32,
        netns: &Netns,
        attach_by: &mut AttachBy,
    ) -> Result<Attached, Error> {
        let removed = netns.run(|| remove_leftovers(index))?;
        match removed {
            Ok(0) => {}
            Ok(count) => tracing::info!("removed {count} filters that a killed process had left"),
            // A kernel without clsact has none.
            Err(error) => tracing::debug!("{error}"),
        }
        let ingress = attach_by.attach(&self.ingress, netns, index, Way::Ingress)?;
        let egress = attach_by.attach(&self.egress, netns, index, Way::Egress)?;
        Ok(Attached { index, ingress, egress })
    }
}

/// Removes what killed processes have left at the interfaces of the calling thread's network namespace.
pub(super) fn remove_all_leftovers() {
    let Ok(mut links) = Links::open() else { return };
    for name in link::names() {
        let removed = links.find(&name).ok().map(|link| remove_leftovers(link.index));
        match removed {
            None | Some(Ok(0)) => {}
            Some(Ok(count)) => {
                tracing::info!("{name}: removed {count} filters of a killed process")
            }
            Some(Err(error)) => tracing::warn!("{name}: {error}"),
        }
    }
}

/// A tap as a dispatcher knows it.
fn dispatched<'a>(
    number: usize,
    tap: &'a Tap,
    direction: Direction,
    kind: Kind,
    taps: &Taps,
) -> DispatcherTap<'a> {
    let is_sent = direction == Direction::Out;
    DispatcherTap {
        program: if is_sent { &tap.sent } else { &tap.received },
        verdicts: tap.verdicts(),
        scope: tap.scope(),
        tap: number,
        slots: tap.targets.iter().map(|target| target.slot()).collect(),
        late_slots: match tap.has_late(kind.has_jumbo) {
            true => tap.targets.iter().map(|target| target.late_slot()).collect(),
            false => Vec::new(),
        },
        bucket: taps.bucket(tap.id),
        skips_own_tunnels: tap.skips_own_tunnels,
    }
}

fn find(name: &str, links: &mut Links, netns: &Netns) -> Result<Link, Error> {
    let link = match links.find(name) {
        Ok(link) => link,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            let present = netns.run(link::names)?;
            return Err(Error::NoInterface { name: name.into(), present });
        }
        Err(error) => {
            return Err(Error::system(format!("interface `{name}`: look it up"), error));
        }
    };
    match is_ethernet(link) {
        true => Ok(link),
        false => Err(Error::HardwareType { name: name.into(), hardware: link.hardware }),
    }
}

/// Whether the kernel says that the interface of a program is gone.
fn is_gone(error: &Error) -> bool {
    let Error::System { source, .. } = error else { return false };
    matches!(source.raw_os_error(), Some(libc::ENOLINK | libc::ENODEV))
}

fn is_ethernet(link: Link) -> bool {
    link.hardware == libc::ARPHRD_ETHER || is_loopback(link)
}

fn is_loopback(link: Link) -> bool {
    link.hardware == libc::ARPHRD_LOOPBACK
}

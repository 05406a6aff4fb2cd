//! Where frames of a ring come from: the interface of each, as capture files describe it.
//!
//! A ring over all interfaces learns each at its first frame. One that went and came back under its
//! name with frames of the same kind is the same interface, whatever its index is now.

use crate::interface::{Interface, Interfaces};
use crate::link::Links;
use crate::packet::InterfaceId;
use std::collections::HashMap;
use wire::LinkType;

/// Interfaces that a process tells apart; frames of more stand under one name, by link type.
const INTERFACES_MAX: usize = 4096;
/// The name that they stand under.
const OTHERS: &str = "other interfaces";

/// What frames of a hardware type (`ARPHRD_…`) begin with; `None` if tapline cannot say.
pub(super) fn link_type(hardware: u16) -> Option<LinkType> {
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(LinkType::ETHERNET),
        libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => {
            Some(LinkType::RAW)
        }
        _ => None,
    }
}

/// The interface of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub interface: InterfaceId,
    pub link_type: LinkType,
    /// Each packet passes loopback twice: sent, then received.
    pub is_loopback: bool,
}

/// The kernel's index of an interface, and its hardware type.
type Key = (i32, u16);

/// The interfaces of a ring's frames.
pub(super) struct Places {
    /// The one interface that is tapped; `None`: all.
    name: Option<String>,
    snaplen: u32,
    interfaces: Interfaces,
    /// `None` for a hardware type that cannot be described.
    known: HashMap<Key, Option<Place>>,
    /// Most frames come from where the one before did.
    last: Option<(Key, Option<Place>)>,
}

impl Places {
    pub fn new(name: Option<String>, snaplen: u32, interfaces: &Interfaces) -> Places {
        let interfaces = interfaces.clone();
        Places { name, snaplen, interfaces, known: HashMap::new(), last: None }
    }

    /// The place of a frame's interface.
    #[inline]
    pub fn find(&mut self, index: i32, hardware: u16, links: &Links) -> Option<Place> {
        let key = (index, hardware);
        match self.last {
            Some((last, place)) if last == key => place,
            _ => self.find_other(key, links),
        }
    }

    fn find_other(&mut self, key: Key, links: &Links) -> Option<Place> {
        let place = match self.known.get(&key) {
            Some(place) => *place,
            None => self.learn(key, links),
        };
        self.last = Some((key, place));
        place
    }

    #[cold]
    fn learn(&mut self, key: Key, links: &Links) -> Option<Place> {
        let (index, hardware) = key;
        let name = self.name.clone().or_else(|| links.name(index));
        // Gone since: its index is all that is left of it.
        let name = name.unwrap_or_else(|| format!("interface {index}"));
        let place = link_type(hardware).map(|link_type| {
            let describe = |name: &str| Interface {
                name: Some(name.into()),
                snaplen: self.snaplen,
                ..Interface::new(link_type.0)
            };
            let interface = self.interfaces.find_or_add(describe(&name), INTERFACES_MAX);
            // Of these there are no more than there are link types.
            let others = || self.interfaces.find_or_add(describe(OTHERS), usize::MAX);
            let interface = interface.or_else(others).expect("without a bound there is room");
            Place { interface, link_type, is_loopback: hardware == libc::ARPHRD_LOOPBACK }
        });
        if place.is_none() {
            tracing::warn!(
                "{name} has hardware type {hardware} (ARPHRD), which is not read yet: its frames \
                 are dropped and counted as hardware_type"
            );
        }
        if self.known.len() >= INTERFACES_MAX {
            self.known.clear();
        }
        self.known.insert(key, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LO: Key = (1, libc::ARPHRD_LOOPBACK);

    fn find(places: &mut Places, (index, hardware): Key) -> Option<Place> {
        places.find(index, hardware, &Links::open().unwrap())
    }

    #[test]
    fn interfaces_are_learned_by_name_and_kind() {
        let interfaces = Interfaces::default();
        let mut any = Places::new(None, 96, &interfaces);
        let lo = find(&mut any, LO).unwrap();
        assert!(lo.is_loopback);
        let described = interfaces.get(lo.interface);
        assert_eq!((described.name.as_deref(), described.snaplen), (Some("lo"), 96));
        // One that is gone.
        let gone = find(&mut any, (i32::MAX, libc::ARPHRD_NONE)).unwrap();
        assert_eq!(gone.link_type, LinkType::RAW);
        let name = format!("interface {}", i32::MAX);
        assert_eq!(interfaces.get(gone.interface).name, Some(name));
        assert_eq!(find(&mut any, (2, 824)), None);
        assert_eq!(find(&mut any, LO), Some(lo));
        assert_eq!(count(&interfaces), 2);
    }

    #[test]
    fn one_that_came_back_is_the_same_unless_its_kind_changed() {
        let interfaces = Interfaces::default();
        let mut one = Places::new(Some("eth0".into()), 0, &interfaces);
        let before = find(&mut one, (7, libc::ARPHRD_ETHER)).unwrap();
        assert_eq!(find(&mut one, (8, libc::ARPHRD_ETHER)), Some(before));
        let other = find(&mut one, (9, libc::ARPHRD_NONE)).unwrap();
        assert_ne!(other.interface, before.interface);
        let names = [before, other].map(|place| interfaces.get(place.interface).name.clone());
        assert_eq!(names, [Some("eth0".into()), Some("eth0".into())]);
        assert_eq!(find(&mut one, (10, 772)).unwrap().interface, before.interface);
    }

    #[test]
    fn the_tables_have_bounds() {
        let interfaces = Interfaces::default();
        let links = Links::open().unwrap();
        let mut any = Places::new(None, 0, &interfaces);
        let mut find = |nth: i32| any.find(0x4000_0000 + nth, libc::ARPHRD_ETHER, &links).unwrap();
        let first = find(0);
        let others = (1..INTERFACES_MAX as i32 + 9).map(&mut find).last().unwrap();
        assert_eq!(interfaces.get(others.interface).name.as_deref(), Some(OTHERS));
        assert_eq!(count(&interfaces), INTERFACES_MAX + 1);
        assert_eq!(find(0), first);
        assert!(any.known.len() < INTERFACES_MAX);
    }

    /// How many interfaces there are, the next one left out.
    fn count(interfaces: &Interfaces) -> usize {
        interfaces.clone().add(Interface::new(0)).0 as usize
    }
}

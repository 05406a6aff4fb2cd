//! The interfaces that packets were captured on: a table that only grows.

use crate::packet::InterfaceId;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use wire::LinkType;

/// One interface of a source, as a capture file's interface block describes it.
pub use capfile::Interface;

/// The interfaces of a process. Cloning shares the table.
#[derive(Debug, Clone, Default)]
pub struct Interfaces {
    table: Arc<RwLock<Vec<Arc<Interface>>>>,
    filter: Option<Arc<str>>,
}

impl Interfaces {
    /// A table whose interfaces are said to be filtered by this expression, unless they come with a
    /// filter of their own.
    pub fn filtered(filter: &str) -> Interfaces {
        Interfaces { filter: Some(filter.into()), ..Interfaces::default() }
    }

    fn described(&self, mut interface: Interface) -> Interface {
        if interface.filter.is_none() {
            interface.filter = self.filter.as_deref().map(String::from);
        }
        interface
    }

    /// Adds an interface. Interfaces are never removed, so ids stay valid.
    pub fn add(&self, interface: Interface) -> InterfaceId {
        let mut table = self.table.write().expect("no holder of the lock panics");
        table.push(Arc::new(self.described(interface)));
        InterfaceId(u32::try_from(table.len() - 1).expect("fewer than 2³² interfaces"))
    }

    /// Finds the first interface that is described alike, or adds one if there are fewer than
    /// `bound`.
    pub fn find_or_add(&self, interface: Interface, bound: usize) -> Option<InterfaceId> {
        let interface = self.described(interface);
        let mut table = self.table.write().expect("no holder of the lock panics");
        let place = table.iter().position(|known| **known == interface).unwrap_or(table.len());
        if place == table.len() {
            if place >= bound {
                return None;
            }
            table.push(Arc::new(interface));
        }
        Some(InterfaceId(u32::try_from(place).expect("fewer than 2³² interfaces")))
    }

    /// Looks an interface up. Takes a lock: once per interface, not per packet.
    ///
    /// # Panics
    /// If the id is not of this table.
    pub fn get(&self, id: InterfaceId) -> Arc<Interface> {
        let table = self.table.read().expect("no holder of the lock panics");
        Arc::clone(&table[id.0 as usize])
    }
}

/// Interfaces as packets that came out of tunnels have them: a file says the link type once for each
/// interface, and one tunnel may carry packets of several.
pub struct Relinked {
    interfaces: Interfaces,
    known: HashMap<(InterfaceId, LinkType), InterfaceId>,
    /// Most packets are of the same as the one before.
    last: Option<((InterfaceId, LinkType), InterfaceId)>,
}

impl Relinked {
    /// Of the interfaces of this table; those that are missing are added to it.
    pub fn new(interfaces: &Interfaces) -> Relinked {
        Relinked { interfaces: interfaces.clone(), known: HashMap::new(), last: None }
    }

    /// The interface that is as this one, but has this link type.
    #[inline]
    pub fn find(&mut self, id: InterfaceId, link_type: LinkType) -> InterfaceId {
        let wanted = (id, link_type);
        if let Some((last, id)) = self.last
            && last == wanted
        {
            return id;
        }
        let interfaces = &self.interfaces;
        let found = *self.known.entry(wanted).or_insert_with(|| {
            let interface = interfaces.get(id);
            match interface.link_type == link_type.0 {
                true => id,
                false => interfaces
                    .add(Interface { link_type: link_type.0, ..Interface::clone(&interface) }),
            }
        });
        self.last = Some((wanted, found));
        found
    }
}

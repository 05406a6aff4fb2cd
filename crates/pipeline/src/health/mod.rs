//! Health of the members of groups: who is checked, and what follows from a change.
//!
//! ```text
//! check, a thread each ── try ─► judge (rise, fall) ── a change ─┐
//!                                                                ▼
//!       group: members up → table of slots ─► mailbox of each worker ─► taken between two batches
//! ```
//!
//! A check blocks, so each has a thread of its own, and none delays another. Equal checks of one place
//! are one, whichever groups they are for. A new table is computed on the thread of the check; the
//! worker looks at a flag once a batch and takes no lock unless there is one.
//!
//! A member begins as healthy, so that traffic flows from the start; one that is dead then is found
//! out after `fall` tries. Members without a check are healthy for ever.

mod check;
mod group;
mod judge;
#[cfg(test)]
mod tests;

pub use group::GroupHealth;
pub(crate) use group::Table;

use api::{Endpoint, Group};
use check::Checking;
use group::Members;
use io::probe::{Place, Probe};
use std::sync::{Arc, Weak};

/// Checks that run at once: each is a thread.
pub const CHECKS_MAX: usize = 256;

/// Why the members of a group cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// A member's name has no address.
    #[error(transparent)]
    Endpoint(#[from] api::Error),
    /// There would be more checks than [`CHECKS_MAX`].
    #[error(
        "{member}: {CHECKS_MAX} health checks run already, and each is a thread: check fewer members"
    )]
    TooMany {
        /// The member that would be one more.
        member: String,
    },
    /// The system has no thread left, or no such check.
    #[error("{member}: its health cannot be checked: {source}")]
    Start {
        /// The member.
        member: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// The health checks of a process. Those of a group run as long as one of its [`GroupHealth`] lives.
#[derive(Default)]
pub struct HealthChecks {
    running: Vec<Weak<Checking>>,
}

impl HealthChecks {
    /// Checks the members of a group as they say; `None` if none of them says so. Names are resolved,
    /// which may block.
    ///
    /// # Errors
    /// [`HealthError`].
    pub fn watch(&mut self, group: &Group) -> Result<Option<GroupHealth>, HealthError> {
        self.watch_by(group, |check, place| io::probe::open(&check.check, place))
    }

    fn watch_by(
        &mut self,
        Group(endpoints): &Group,
        mut open: impl FnMut(&api::Health, &Place) -> std::io::Result<Box<dyn Probe>>,
    ) -> Result<Option<GroupHealth>, HealthError> {
        if endpoints.iter().all(|endpoint| endpoint.membership().health.is_none()) {
            return Ok(None);
        }
        let mut members = Members::new(endpoints);
        let mut checks = Vec::new();
        for (position, endpoint) in endpoints.iter().enumerate() {
            let Some(health) = &endpoint.membership().health else { continue };
            let place = place(endpoint)?;
            let start = |source| HealthError::Start { member: endpoint.to_string(), source };
            let checking = match self.running_check(health, &place) {
                Some(checking) => checking,
                None if self.running.len() >= CHECKS_MAX => {
                    return Err(HealthError::TooMany { member: endpoint.to_string() });
                }
                None => {
                    let probe = open(health, &place).map_err(start)?;
                    let checking = Arc::new(Checking::start(health, &place, probe).map_err(start)?);
                    self.running.push(Arc::downgrade(&checking));
                    checking
                }
            };
            members.is_checked[position] = true;
            checks.push((position, checking));
        }
        Ok(Some(GroupHealth::new(members, checks)))
    }

    /// A check that runs, and is the same.
    fn running_check(&mut self, health: &api::Health, place: &Place) -> Option<Arc<Checking>> {
        self.running.retain(|checking| checking.strong_count() > 0);
        let mut running = self.running.iter().filter_map(Weak::upgrade);
        running.find(|checking| checking.is(health, place))
    }
}

fn place(endpoint: &Endpoint) -> Result<Place, api::Error> {
    match endpoint {
        Endpoint::Tunnel(tunnel) => tunnel.resolve().map(Place::Host),
        Endpoint::Nic { interface: name, .. } | Endpoint::Tap { name, .. } => {
            Ok(Place::Interface(name.clone()))
        }
        // They say no check; whoever made up one is told by the probe.
        Endpoint::Pcap { .. } | Endpoint::Null => Ok(Place::Interface(endpoint.to_string())),
    }
}

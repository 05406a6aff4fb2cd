//! A group whose members are checked: its table, and the mailboxes of its workers.

use super::check::Checking;
use crate::group::{GroupTable, Member};
use api::Endpoint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What a worker steers by.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Who gets which flow: the healthy members; all of them where none is healthy.
    pub slots: Arc<GroupTable>,
    /// Whether nobody gets anything: each member drops what the table gives it.
    pub is_closed: bool,
}

/// Who is in a group.
pub(super) struct Members {
    members: Vec<Member>,
    pub is_checked: Vec<bool>,
}

impl Members {
    pub fn new(endpoints: &[Endpoint]) -> Members {
        let member = |of: &Endpoint| Member { key: of.canonical(), weight: of.weight() };
        let members: Vec<Member> = endpoints.iter().map(member).collect();
        Members { is_checked: vec![false; members.len()], members }
    }
}

/// A group that is told of its members' states.
pub(super) struct Watched {
    of: Members,
    /// The table of all members.
    full: Arc<GroupTable>,
    is_up: Box<[AtomicBool]>,
    /// Whether all are used where nobody is healthy.
    fail_open: AtomicBool,
    /// Also keeps two changes apart.
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

/// Where a worker finds its next table.
struct Mailbox {
    is_fresh: AtomicBool,
    /// The next table while it is fresh; after that the one before, to be freed by who puts the next in.
    table: Mutex<Table>,
}

impl Watched {
    /// What its messages call a member.
    pub fn member(&self, position: usize) -> &str {
        &self.of.members[position].key
    }

    /// Sets a member's state, and gives workers the table that follows; says what that means.
    pub fn set(&self, position: usize, is_up: bool) -> String {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_up[position].swap(is_up, Ordering::Relaxed) != is_up {
            self.put_table(&mut mailboxes);
        }
        let others = self.states().enumerate().filter(|&(at, is_up)| is_up && at != position);
        match (is_up, others.count(), self.fail_open.load(Ordering::Relaxed)) {
            (true, 0, false) => "it gets all flows, as nobody else is healthy".into(),
            (true, 0, true) => "it gets all flows: the others, not healthy either, no more".into(),
            (true, ..) => "its flows come back".into(),
            (false, 0, false) => "nobody is healthy: packets are dropped".into(),
            (false, 0, true) => "nobody is healthy, so all members are used".into(),
            (false, 1, _) => "its flows move to 1 other".into(),
            (false, others, _) => format!("its flows move to {others} others"),
        }
    }

    fn put_table(&self, mailboxes: &mut Vec<Weak<Mailbox>>) {
        let table = self.table();
        mailboxes.retain(|mailbox| mailbox.upgrade().map(|to| to.put(&table)).is_some());
    }

    fn states(&self) -> impl Iterator<Item = bool> {
        self.is_up.iter().map(|state| state.load(Ordering::Relaxed))
    }

    /// The table that follows from the states.
    fn table(&self) -> Table {
        let up: Vec<bool> = self.states().collect();
        let is_closed = !up.contains(&true) && !self.fail_open.load(Ordering::Relaxed);
        let slots = match up.contains(&false) {
            true => GroupTable::among(&self.of.members, &up).map(Arc::new),
            false => None,
        };
        Table { slots: slots.unwrap_or_else(|| Arc::clone(&self.full)), is_closed }
    }
}

impl Mailbox {
    fn put(&self, table: &Table) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table.clone();
        self.is_fresh.store(true, Ordering::Release);
    }
}

/// The health of a group's members, as one worker follows it. Checks end with the last of these.
pub struct GroupHealth {
    group: Arc<Watched>,
    mailbox: Arc<Mailbox>,
    checks: Arc<[Arc<Checking>]>,
}

impl GroupHealth {
    pub(super) fn new(of: Members, checks: Vec<(usize, Arc<Checking>)>) -> GroupHealth {
        let group = Arc::new(Watched {
            full: Arc::new(GroupTable::new(&of.members)),
            is_up: of.members.iter().map(|_| AtomicBool::new(true)).collect(),
            fail_open: AtomicBool::new(true),
            mailboxes: Mutex::default(),
            of,
        });
        for (position, checking) in &checks {
            checking.tell(&group, *position);
        }
        let checks = checks.into_iter().map(|(_, checking)| checking).collect();
        let mailbox = GroupHealth::mailbox(&group);
        GroupHealth { group, mailbox, checks }
    }

    /// The same for another worker.
    pub fn for_another_worker(&self) -> GroupHealth {
        let (group, checks) = (Arc::clone(&self.group), Arc::clone(&self.checks));
        GroupHealth { mailbox: GroupHealth::mailbox(&group), group, checks }
    }

    fn mailbox(group: &Arc<Watched>) -> Arc<Mailbox> {
        let mut mailboxes = group.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_fresh, table) = (AtomicBool::new(true), Mutex::new(group.table()));
        let mailbox = Arc::new(Mailbox { is_fresh, table });
        mailboxes.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// Whether a member is healthy; `None` if it is not checked.
    pub fn is_healthy(&self, position: usize) -> Option<bool> {
        let is_checked = *self.group.of.is_checked.get(position)?;
        is_checked.then(|| self.group.is_up[position].load(Ordering::Relaxed))
    }

    /// What has changed since it was last asked: who gets which flow, and whether nobody gets any.
    /// For one who steers elsewhere than in a [`TargetGroup`](crate::TargetGroup).
    pub fn news(&self) -> Option<(Arc<GroupTable>, bool)> {
        let is_fresh = self.mailbox.is_fresh.load(Ordering::Acquire);
        is_fresh.then(|| {
            let table = self.mailbox.table.lock().unwrap_or_else(PoisonError::into_inner);
            self.mailbox.is_fresh.store(false, Ordering::Relaxed);
            (Arc::clone(&table.slots), table.is_closed)
        })
    }

    /// How many of the members are healthy, those without a check among them.
    pub fn healthy(&self) -> usize {
        self.group.states().filter(|is_up| *is_up).count()
    }

    /// Says whether all members are used where none is healthy. For all workers.
    pub fn set_fail_open(&self, fail_open: bool) {
        let mut mailboxes = self.group.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.group.fail_open.swap(fail_open, Ordering::Relaxed) != fail_open {
            self.group.put_table(&mut mailboxes);
        }
    }

    /// The keys of the members, in their order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.group.of.members.iter().map(|member| &*member.key)
    }

    /// Takes the next table, if there is one. Never waits: if just now the next one is put in, it is
    /// taken with the next batch.
    pub(crate) fn refresh(&self, table: &mut Table) {
        if self.mailbox.is_fresh.load(Ordering::Acquire)
            && let Ok(mut next) = self.mailbox.table.try_lock()
        {
            self.mailbox.is_fresh.store(false, Ordering::Relaxed);
            std::mem::swap(&mut *next, table);
        }
    }
}

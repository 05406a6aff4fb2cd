//! A forwarding table in the kernel: its programs on interfaces, its maps, and what outlives a process.
//!
//! ```text
//! PINS/TABLE/            PINS is /sys/fs/bpf/tapline/inline
//!   ingress  egress      links: the programs' hold on the interfaces; one if both are the same
//!   sessions rules hops counters views settings fragments
//! ```
//!
//! A table that fails open is pinned: without tapline its programs go on, and the next process adopts
//! it, sessions and counters included. One that fails closed is gone with its last descriptor.
//!
//! Everything acts in the network namespace of the calling thread.

mod attach;
mod copies;
mod exceptions;
mod hops;
mod maps;
mod pins;
mod sweep;
mod sys;

use crate::clock::Now;
use crate::error::Error;
use crate::link::{self, Links};
use crate::packet::Packet;
use crate::tun::Drain;
use api::{InlineConfig, InlineFail, InlineRule, InlineTimeouts, InlineView, RingSize};
use attach::Attached;
use exceptions::Exceptions;
use hops::Hops;
use kernel::inline::layout::{
    Counter, HOP_BY_KERNEL, Hop, InlineMap, Leg, Match, RULES_MAX, Rule, Settings, Tuple,
    counter_place,
};
use maps::Maps;
use pins::Pins;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use sweep::{Led, Sweep};

pub use copies::InlineCopies;
pub use exceptions::ExceptionCounters;
pub use kernel::inline::layout::View;
pub use pins::PINS;
pub use sweep::InlineSession;

/// How often ways are written as fresh, interfaces looked for, and sessions swept.
const TICK_NS: u64 = 500_000_000;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A forwarding table that runs in the kernel.
#[derive(Debug)]
pub struct KernelInline {
    config: InlineConfig,
    links: Links,
    maps: Maps,
    pins: Option<Pins>,
    attached: Option<Attached>,
    rules: Vec<Installed>,
    hops: Hops,
    sweep: Sweep,
    settings: Settings,
    /// Where copies go, while somebody takes them.
    copies: Weak<Drain>,
    /// What each number had shown when it began to be shown to us, and what those had shown since that
    /// then began anew.
    shown_from: HashMap<u32, Shown>,
    shown_before: Shown,
    exceptions: Exceptions,
    handled: HashMap<(u32, Leg), ExceptionCounters>,
    /// MTUs of both interfaces.
    mtus: [u32; 2],
    ticked_ns: u64,
}

/// A rule that programs know.
#[derive(Debug)]
struct Installed {
    matched: Match,
    /// As it was written; `None` while no source address is known.
    entry: Option<Rule>,
    number: u32,
    rule: InlineRule,
}

/// How a table began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InlineStart {
    /// There was none.
    New,
    /// One of its name was there, and goes on with its sessions.
    Adopted,
    /// One of its name was there and could not be taken over, for this reason.
    Rebuilt(String),
}

/// What one direction of a rule has counted. Units: wire packets, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InlineCounters {
    /// Forwarded.
    pub forwarded: u64,
    /// Bytes of these, as the kernel has them: a super-packet's headers count once.
    pub forwarded_bytes: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Went to user space instead, which answers them or sends them another way.
    pub handed_up: u64,
    /// Copies that went to user space.
    pub shown: u64,
    /// Copies that could not be made.
    pub not_shown: u64,
    /// Dropped: no room for another session.
    pub table_full: u64,
    /// Dropped: no port was free.
    pub no_port: u64,
    /// Dropped: the time to live was over, and nobody was there to say so.
    pub time_to_live: u64,
    /// Dropped: larger than the path takes, and nobody was there to say so.
    pub oversize: u64,
    /// Dropped: a fragment whose first one was not seen.
    pub fragment: u64,
    /// Dropped: the kernel refused a change.
    pub refused: u64,
    /// Dropped: no way to the next host, and nobody was there to say so.
    pub unreachable: u64,
}

/// Copies for views. Unit: packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Copies that were made.
    pub made: u64,
    /// Copies that could not be made.
    pub lost: u64,
}

impl Shown {
    fn plus(self, other: Shown) -> Shown {
        Shown { made: self.made + other.made, lost: self.lost + other.lost }
    }

    fn since(self, from: Shown) -> Shown {
        let Shown { made, lost } = self;
        Shown { made: made.saturating_sub(from.made), lost: lost.saturating_sub(from.lost) }
    }
}

impl KernelInline {
    /// Starts a table, or takes over the one of its name that is pinned in a folder, [`PINS`] as a rule.
    /// Its rules are those of the configuration from then on.
    ///
    /// # Errors
    /// [`Error::NoInterface`]; [`Error::System`] where a right is missing, where the kernel is older
    /// than 6.6, where no BPF file system is mounted and the table is to fail open, or where another
    /// network namespace has a table of this name.
    pub fn open(
        config: &InlineConfig,
        pins: &Path,
        now: Now,
    ) -> Result<(KernelInline, InlineStart), Error> {
        let mut links = Links::open().map_err(|e| Error::system("open a netlink socket", e))?;
        let interfaces = find_interfaces(config, &mut links)?;
        let settings = Settings {
            sessions: config.sessions,
            interfaces,
            netns: pins::netns_number()?,
            ..Settings::default()
        };
        let (found, pins) = match config.fail {
            InlineFail::Open => {
                let pins = Pins::open(pins, &config.name)?;
                let found = pins.find(&settings);
                (found.inspect_err(|_| pins.remove_if_empty())?, Some(pins))
            }
            InlineFail::Closed => {
                // One that was pinned before would go on beside this one.
                stop(pins, &config.name)?;
                (pins::Found::Nothing, None)
            }
        };
        // Its folder alone would be taken for a table.
        let give_up = |_: &Error| pins.iter().for_each(Pins::remove_if_empty);
        let new = || Maps::new(config.sessions).inspect_err(give_up);
        let (maps, start) = match found {
            pins::Found::Maps(maps) => (maps, InlineStart::Adopted),
            pins::Found::Nothing => (new()?, InlineStart::New),
            pins::Found::Unfit(why) => (new()?, InlineStart::Rebuilt(why)),
        };
        let exceptions = Exceptions::open().inspect_err(give_up)?;
        let mut table = KernelInline {
            config: config.clone(),
            links,
            maps,
            pins,
            attached: None,
            rules: Vec::new(),
            hops: Hops::default(),
            sweep: Sweep::default(),
            settings,
            copies: Weak::new(),
            shown_from: HashMap::new(),
            shown_before: Shown::default(),
            exceptions,
            handled: HashMap::new(),
            mtus: [0; 2],
            ticked_ns: 0,
        };
        match table.begin(&start, now) {
            Ok(()) => Ok((table, start)),
            Err(error) => {
                table.give_up(&start);
                Err(error)
            }
        }
    }

    fn begin(&mut self, start: &InlineStart, now: Now) -> Result<(), Error> {
        if let (Some(pins), false) = (&self.pins, *start == InlineStart::Adopted) {
            pins.clear()?;
            self.maps.pin(pins.folder())?;
        }
        let rules = self.config.rules.clone();
        self.set_rules(&rules, now)?;
        self.attach()?;
        self.tick(now)
    }

    /// Takes back a start that has failed: nothing of it forwards, or stays, but what was there before.
    pub(crate) fn give_up(self, start: &InlineStart) {
        if *start != InlineStart::Adopted
            && let Err(error) = self.stop()
        {
            tracing::error!("{error}");
        }
    }

    /// The rules' numbers, in their order.
    pub fn numbers_of_rules(&self) -> Vec<u32> {
        self.rules.iter().map(|rule| rule.number).collect()
    }

    /// Changes the rules; those that match the same as before keep their counters. Sessions go on whose
    /// packets a rule leads where they went; others end. Returns the rules' numbers, in their order.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, or there are more than 4096 rules; none is changed
    /// where the source of one is no address of this host.
    pub fn set_rules(&mut self, rules: &[InlineRule], now: Now) -> Result<Vec<u32>, Error> {
        let mut numbers = self.numbers()?;
        if rules.len() > RULES_MAX as usize {
            let source = io::Error::from_raw_os_error(libc::E2BIG);
            return Err(Error::System {
                what: format!("forward by {} rules", rules.len()),
                source,
                mend: "; a table has room for 4096",
            });
        }
        // Before anything is changed: one that cannot be followed leaves all as it was.
        for rule in rules {
            if let Err(error) = self.hops.find(rule.next_host, rule.source, now) {
                self.keep_ways()?;
                return Err(error);
            }
        }
        let matches: Vec<Match> = rules.iter().map(matched).collect();
        let wanted: HashSet<Match> = matches.iter().copied().collect();
        let gone: HashMap<Match, u32> =
            numbers.extract_if(|matched, _| !wanted.contains(matched)).collect();
        // What has gone goes last, so that a change that is refused half way can be taken back, counters
        // and all; unless there is no room for both.
        if numbers.len() + gone.len() + matches.len() > RULES_MAX as usize {
            self.remove_rules(&gone)?;
        }
        // Copies of what has gone may be on their way: its numbers are the last that others get.
        let numbers_of = |rules: &HashMap<Match, u32>| rules.values().copied().collect();
        let (used, left): (HashSet<u32>, HashSet<u32>) = (numbers_of(&numbers), numbers_of(&gone));
        let unused = (1..=RULES_MAX).filter(|number| !used.contains(number));
        let (left, never): (Vec<u32>, Vec<u32>) = unused.partition(|number| left.contains(number));
        let mut free = never.into_iter().chain(left);
        self.rules.clear();
        for (rule, matched) in rules.iter().zip(matches) {
            let number = match numbers.get(&matched) {
                Some(number) => *number,
                None => {
                    let number = free.next().expect("there are as many numbers as rules");
                    self.forget_counters(number)?;
                    number
                }
            };
            self.rules.push(Installed { matched, entry: None, number, rule: rule.clone() });
        }
        self.settings.levels = self.rules.iter().fold(0, |all, rule| all | rule.matched.level());
        self.write_settings()?;
        self.write_rules(now)?;
        self.remove_rules(&gone)?;
        let lead = leading(&self.rules);
        self.sweep.whole(&self.maps, &self.config.timeouts, &lead, now.monotonic_ns)?;
        drop(lead);
        self.keep_ways()?;
        Ok(self.numbers_of_rules())
    }

    /// Takes rules out of what programs know, those that are in it.
    fn remove_rules(&self, rules: &HashMap<Match, u32>) -> Result<(), Error> {
        let map = self.maps.of(InlineMap::Rules);
        rules.keys().try_for_each(|matched| map.remove(&matched.bytes()).map(drop))
    }

    /// Forgets the ways that no rule needs.
    fn keep_ways(&mut self) -> Result<(), Error> {
        let of = |installed: &Installed| (installed.rule.next_host, installed.rule.source);
        let ways: HashSet<_> = self.rules.iter().map(of).collect();
        self.hops.keep(&self.maps, |next_host, source| ways.contains(&(next_host, source)))
    }

    /// Does what is due: next hops, interfaces that come and go, sessions whose time is over. To be called
    /// each 100 ms or so; takes some milliseconds every half second.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn tick(&mut self, now: Now) -> Result<(), Error> {
        if now.monotonic_ns < self.ticked_ns.saturating_add(TICK_NS) {
            return Ok(());
        }
        self.ticked_ns = now.monotonic_ns;
        self.follow_interfaces()?;
        self.listen(now)?;
        let egress = self.settings.interfaces[1].cast_signed();
        if self.hops.tick(&self.maps, egress, now)? {
            self.write_rules(now)?;
        }
        self.end_sessions(now)
    }

    /// Opens the way by which copies for views, and packets that the kernel cannot forward, come to user
    /// space. Without it there are no views, and such packets are dropped.
    ///
    /// # Errors
    /// [`Error::System`] and [`Error::RingMemory`], as for any ring.
    pub fn copies(&mut self, ring_size: RingSize, now: Now) -> Result<InlineCopies, Error> {
        let (copies, drain) = InlineCopies::open(ring_size)?;
        self.settings.private = drain.index().cast_unsigned();
        self.copies = Arc::downgrade(&drain);
        for number in self.numbers_of_rules() {
            self.shown_from.insert(number, self.shown_of(number)?);
        }
        self.listen(now)?;
        Ok(copies)
    }

    /// Copies for views since [`Self::copies`], of rules that have gone, too.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn shown(&self) -> Result<Shown, Error> {
        self.shown_from.iter().try_fold(self.shown_before, |sum, (number, from)| {
            Ok(sum.plus(self.shown_of(*number)?.since(*from)))
        })
    }

    fn shown_of(&self, number: u32) -> Result<Shown, Error> {
        let [there, back] = self.counters(number)?;
        Ok(Shown { made: there.shown + back.shown, lost: there.not_shown + back.not_shown })
    }

    /// Has programs show nothing more, and hand nothing more up.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn show_no_more(&mut self, now: Now) -> Result<(), Error> {
        self.copies = Weak::new();
        self.listen(now)
    }

    /// Sets how long sessions may say nothing.
    pub fn set_timeouts(&mut self, timeouts: InlineTimeouts) {
        self.config.timeouts = timeouts;
    }

    /// Deals with a packet of [`View::Exception`]: answers its sender as a router does, or cuts it. One that
    /// is sent is shown whole as received and as if nothing stood in between, and in its pieces as sent.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn handle(
        &mut self,
        packet: &Packet,
        number: u32,
        now: Now,
        show: &mut dyn FnMut(View, &[u8]),
    ) -> Result<(), Error> {
        let is_reply = packet.meta.direction == crate::Direction::Out;
        let (leg, mut mtu) = match is_reply {
            true => (Leg::Reply, self.mtus[0]),
            false => (Leg::Forward, self.mtus[1]),
        };
        let mut is_lost = false;
        let rule = self.rules.iter().find(|rule| rule.number == number);
        if let (Some(Installed { rule, .. }), Leg::Forward) = (rule, leg) {
            mtu = self.hops.mtu(rule.next_host, rule.source).unwrap_or(mtu);
            is_lost = self.hops.is_lost(rule.next_host, rule.source);
        }
        let counters = self.handled.entry((number, leg)).or_default();
        self.exceptions.handle(&packet.data, (leg, mtu, is_lost), &self.maps, counters, now, show)
    }

    /// What [`Self::handle`] has done for a rule, from the client to the next host and back.
    pub fn exceptions(&self, number: u32) -> [ExceptionCounters; 2] {
        let of = |leg| self.handled.get(&(number, leg)).copied().unwrap_or_default();
        [of(Leg::Forward), of(Leg::Reply)]
    }

    /// What a rule has counted, from the client to the next host and back; by its number.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn counters(&self, number: u32) -> Result<[InlineCounters; 2], Error> {
        let of = |leg| {
            let words = self.maps.of(InlineMap::Counters).words(counter_place(number, leg))?;
            let of = |counter: Counter| words[counter as usize];
            Ok::<_, Error>(InlineCounters {
                forwarded: of(Counter::Forwarded),
                forwarded_bytes: of(Counter::ForwardedBytes),
                sessions: of(Counter::Sessions),
                handed_up: of(Counter::HandedUp),
                shown: of(Counter::Shown),
                not_shown: of(Counter::NotShown),
                table_full: of(Counter::TableFull),
                no_port: of(Counter::NoPort),
                time_to_live: of(Counter::TimeToLive),
                oversize: of(Counter::Oversize),
                fragment: of(Counter::Fragment),
                refused: of(Counter::Refused),
                unreachable: of(Counter::Unreachable),
            })
        };
        Ok([of(Leg::Forward)?, of(Leg::Reply)?])
    }

    /// Sessions, at most so many.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn sessions(&self, sessions_max: usize) -> Result<Vec<InlineSession>, Error> {
        sweep::list(&self.maps, sessions_max)
    }

    /// How many sessions there were when all were last looked at.
    pub fn session_count(&self) -> usize {
        self.sweep.sessions().values().sum::<u64>() as usize
    }

    /// How many sessions each rule had, by its number, when all were last looked at.
    pub fn session_counts(&self) -> &HashMap<u32, u64> {
        self.sweep.sessions()
    }

    /// Ends the table: nothing of it stays.
    ///
    /// # Errors
    /// [`Error::System`] if a pin cannot be removed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.attached = None;
        self.pins.as_ref().map_or(Ok(()), Pins::clear_away)
    }

    /// The numbers of the rules that programs know.
    fn numbers(&self) -> Result<HashMap<Match, u32>, Error> {
        let map = self.maps.of(InlineMap::Rules);
        let mut numbers = HashMap::new();
        for key in map.keys()? {
            let entry = map.get(&key)?.and_then(|value| Rule::parse(&value));
            if let (Some(matched), Some(entry)) = (Match::parse(&key), entry) {
                numbers.insert(matched, entry.number);
            }
        }
        // A rule without a source address is not in the map, and has its number all the same.
        numbers.extend(self.rules.iter().map(|rule| (rule.matched, rule.number)));
        Ok(numbers)
    }

    fn forget_counters(&mut self, number: u32) -> Result<(), Error> {
        self.handled.retain(|(handled, _), _| *handled != number);
        if let Some(from) = self.shown_from.get(&number) {
            self.shown_before = self.shown_before.plus(self.shown_of(number)?.since(*from));
        }
        self.shown_from.insert(number, Shown::default());
        let map = self.maps.of(InlineMap::Counters);
        for leg in [Leg::Forward, Leg::Reply] {
            let place = counter_place(number, leg).to_ne_bytes();
            if let Some(value) = map.get(&place)? {
                map.put(&place, &vec![0; value.len()])?;
            }
        }
        Ok(())
    }

    /// Writes rules as their ways are now.
    fn write_rules(&mut self, now: Now) -> Result<(), Error> {
        for installed in &mut self.rules {
            let InlineRule { next_host, next_port, source, ref views, .. } = installed.rule;
            let found = self.hops.find(next_host, source, now)?;
            let views = views.iter().fold(0, |bits, view| bits | shown(*view).bit());
            let place = installed.number.to_ne_bytes();
            self.maps.of(InlineMap::Views).put(&place, &u64::from(views).to_ne_bytes())?;
            // Without a route there is no source address yet; until then it is as if it were not there.
            let Some(source) = found.source else {
                if installed.entry.take().is_some() {
                    self.maps.of(InlineMap::Rules).remove(&installed.matched.bytes())?;
                }
                continue;
            };
            let entry =
                Rule { number: installed.number, hop: found.number, next_host, source, next_port };
            if installed.entry != Some(entry) {
                self.maps.of(InlineMap::Rules).put(&installed.matched.bytes(), &entry.bytes())?;
                installed.entry = Some(entry);
            }
        }
        Ok(())
    }

    fn write_settings(&self) -> Result<(), Error> {
        let map = self.maps.of(InlineMap::Settings);
        map.put(&0u32.to_ne_bytes(), &self.settings.bytes())
    }

    /// Tells programs whether somebody takes copies.
    fn listen(&mut self, now: Now) -> Result<(), Error> {
        match self.copies.strong_count() {
            0 => self.settings.private = 0,
            _ => self.settings.fresh_ns = now.monotonic_ns,
        }
        self.write_settings()
    }

    fn end_sessions(&mut self, now: Now) -> Result<(), Error> {
        let lead = leading(&self.rules);
        self.sweep.go_on(&self.maps, &self.config.timeouts, &lead, now.monotonic_ns)
    }

    /// Puts the programs on the interfaces as they are now.
    fn attach(&mut self) -> Result<(), Error> {
        let before = self.attached.take();
        let interfaces = self.settings.interfaces;
        self.attached = Some(Attached::new(&self.maps, interfaces, self.pins.as_ref(), before)?);
        Ok(())
    }

    /// An interface that has gone may come back under another number.
    fn follow_interfaces(&mut self) -> Result<(), Error> {
        let interfaces = match find_interfaces(&self.config, &mut self.links) {
            Ok(interfaces) => interfaces,
            Err(Error::NoInterface { name, .. }) => {
                tracing::debug!("interface `{name}` is not there");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if interfaces != self.settings.interfaces || self.attached.is_none() {
            self.settings.interfaces = interfaces;
            self.write_settings()?;
            // Holds of interfaces that are gone hold nothing.
            self.attached = None;
            if let Some(pins) = &self.pins {
                pins.clear_links()?;
            }
            self.attach()?;
        }
        self.follow_mtus()
    }

    /// Tells programs how much an interface takes where only it is known of a way.
    fn follow_mtus(&mut self) -> Result<(), Error> {
        let names = [&self.config.ingress, &self.config.egress];
        for ((number, name), known) in HOP_BY_KERNEL.iter().zip(names).zip(&mut self.mtus) {
            let mtu = match self.links.mtu(name) {
                Ok(mtu) => mtu,
                Err(error) => {
                    tracing::debug!("interface `{name}`: ask for its MTU: {error}");
                    continue;
                }
            };
            if mtu != *known {
                let hop = Hop { whose: *number, fresh_ns: 0, mtu, is_lost: false, macs: [0; 12] };
                self.maps.of(InlineMap::Hops).put(&number.to_ne_bytes(), &hop.bytes())?;
                *known = mtu;
            }
        }
        Ok(())
    }
}

/// Ends a table of which no process may be left; returns whether there was one.
///
/// # Errors
/// [`Error::System`] if a pin cannot be removed.
pub fn stop(pins: &Path, table: &str) -> Result<bool, Error> {
    match Pins::existing(pins, table) {
        Some(pins) => pins.clear_away().map(|()| true),
        None => Ok(false),
    }
}

/// Whether a table is pinned, so that it may forward without a process.
pub fn is_pinned(pins: &Path, table: &str) -> bool {
    Pins::existing(pins, table).is_some_and(|pins| pins.has_links())
}

fn find_interfaces(config: &InlineConfig, links: &mut Links) -> Result<[u32; 2], Error> {
    let mut index = |name: &str| link::find(name, links).map(|link| link.index.cast_unsigned());
    Ok([index(&config.ingress)?, index(&config.egress)?])
}

/// Which of the rules leads packets, as programs look for it.
fn leading(rules: &[Installed]) -> impl Fn(&Tuple, &Tuple) -> Option<Led> {
    let by_match: HashMap<Match, &Installed> =
        rules.iter().map(|rule| (rule.matched, rule)).collect();
    move |client, sent| {
        let address = client.destination;
        let (protocol, port) = (Some(client.protocol), Some(client.destination_port));
        let narrowest_first = [(protocol, port), (protocol, None), (None, None)];
        let installed = narrowest_first
            .into_iter()
            .find_map(|(protocol, port)| by_match.get(&Match { address, protocol, port }))?;
        let rule = &installed.rule;
        let has_port = !matches!(client.protocol, ICMP | ICMPV6);
        let port = rule.next_port.unwrap_or(client.destination_port);
        // Without a source of its own, what was the route's is as good while packets come.
        let leads_there = sent.destination == rule.next_host
            && rule.source.is_none_or(|source| source == sent.source)
            && (!has_port || sent.destination_port == port);
        let hop = installed.entry.map(|entry| entry.hop);
        leads_there.then_some(Led { rule: installed.number, hop })
    }
}

fn matched(rule: &InlineRule) -> Match {
    let is_ipv6 = rule.address.is_ipv6();
    Match {
        address: rule.address,
        protocol: rule.protocol.map(|protocol| protocol.number(is_ipv6)),
        port: rule.port,
    }
}

const fn shown(view: InlineView) -> View {
    match view {
        InlineView::Ingress => View::Ingress,
        InlineView::Egress => View::Egress,
        InlineView::Inline => View::Inline,
    }
}

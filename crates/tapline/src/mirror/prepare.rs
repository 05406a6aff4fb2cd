//! Opening taps: all of them, before any of them takes the place of another one.

use super::carrier::{KernelReady, RingReady, Startable, Unstarted};
use super::ceiling::Ceilings;
use super::kernel::{self, KernelTap, NewTap};
use super::live::{HAND_UP_LANE, Live};
use super::paths::warn_of_long_frames;
use super::place::netns_of;
use super::plan::{self, Wanted};
use super::{must_fit, source};
use crate::failure::Failure;
use crate::targets::has_tunnels;
use api::{Datapath, TapConfig, TapSource};
use io::netns::Netns;
use pipeline::{Ceiling, FarEnd, OwnTunnels, Tap};
use std::sync::Arc;

/// A tap of which all but the files is open.
pub(super) struct Ready<'a> {
    config: &'a TapConfig,
    how: How<'a>,
}

pub(super) enum How<'a> {
    Ring(Box<RingReady<'a>>),
    Kernel(Box<KernelReady>),
}

impl Ready<'_> {
    fn kernel(&self) -> Option<&KernelTap> {
        match &self.how {
            How::Ring(_) => None,
            How::Kernel(ready) => Some(&ready.tap),
        }
    }

    pub(super) fn far_ends(&self) -> &[FarEnd] {
        match &self.how {
            How::Ring(ready) => &ready.opening.far_ends,
            How::Kernel(ready) => &ready.far_ends,
        }
    }

    pub(super) fn announcement(&self) -> String {
        let (name, what) = match &self.how {
            How::Ring(ready) => (&ready.opened.name, ready.announcement()),
            How::Kernel(ready) => (&ready.interface, ready.announcement.clone()),
        };
        match self.config.name == *name {
            true => what,
            false => format!("tap {}: {what}", self.config.name),
        }
    }
}

impl Live {
    /// Opens those taps that are to be opened. Whatever may fail comes before any file is replaced. Taps
    /// that the kernel carries have taken the place of those of the same name when it returns.
    pub(super) fn prepare<'a>(
        &mut self,
        configs: &'a [TapConfig],
        ceilings: &Ceilings,
        all: usize,
        is_new: impl Fn(&TapConfig) -> bool,
    ) -> Result<Vec<Ready<'a>>, Failure> {
        let mut ready = Vec::new();
        let prepared = configs
            .iter()
            .filter(|config| is_new(config))
            .try_for_each(|config| {
                let how =
                    self.prepare_one(config, ceilings).map_err(|failure| (config, failure))?;
                ready.push(Ready { config, how });
                Ok(())
            })
            .and_then(|()| self.place(&mut ready, ceilings));
        let Err((config, failure)) = prepared else { return Ok(ready) };
        self.undo(ready);
        // Of one tap it is clear what is meant.
        Err(match all {
            1 => failure,
            _ => failure.of(&format!("tap {}", config.name)),
        })
    }

    fn prepare_one<'a>(
        &mut self,
        config: &'a TapConfig,
        ceilings: &Ceilings,
    ) -> Result<How<'a>, Failure> {
        let netns = netns_of(config)?;
        let asked = plan::asked(config, self.places.datapath);
        if asked == Datapath::Ring {
            return self.by_ring(config, ceilings, Vec::new());
        }
        match self.in_kernel(config, ceilings, &netns, asked)? {
            Ok(ready) => Ok(How::Kernel(Box::new(ready))),
            Err(why) => self.not_in_kernel(config, ceilings, why),
        }
    }

    /// Has workers carry a tap that the kernel cannot, unless the kernel was to.
    fn not_in_kernel<'a>(
        &mut self,
        config: &'a TapConfig,
        ceilings: &Ceilings,
        why: Vec<String>,
    ) -> Result<How<'a>, Failure> {
        match plan::asked(config, self.places.datapath) {
            Datapath::Kernel => Err(Failure::CouldNot(format!(
                "the kernel cannot carry {}: {}; use --datapath ring or auto",
                config.name,
                plan::reasons(&why)
            ))),
            Datapath::Auto | Datapath::Ring => self.by_ring(config, ceilings, why),
        }
    }

    fn by_ring<'a>(
        &mut self,
        config: &'a TapConfig,
        ceilings: &Ceilings,
        why_not_kernel: Vec<String>,
    ) -> Result<How<'a>, Failure> {
        let netns = netns_of(config)?;
        let opened = source(config, netns.clone(), self.places.filter, &self.interfaces)?;
        must_fit(config, &opened.link_types)?;
        warn_of_long_frames(config, netns.as_deref());
        let ceiling = ceilings.rate(config).map(|(rate, leaving)| Ceiling::new(rate, leaving));
        self.opened = self.opened.wrapping_add(1);
        let workers = opened.shares.len();
        let opening = self.targets.open(&config.to, config.sending, self.opened, workers)?;
        Ok(How::Ring(Box::new(RingReady { opened, ceiling, opening, why_not_kernel })))
    }

    /// Puts the taps of the kernel on their interfaces, in the place of those of the same name.
    fn place<'a>(
        &mut self,
        ready: &mut [Ready<'a>],
        ceilings: &Ceilings,
    ) -> Result<(), (&'a TapConfig, Failure)> {
        let placed: Vec<(usize, &KernelTap, Option<&KernelTap>)> = (0..)
            .zip(ready.iter())
            .filter_map(|(at, of)| Some((at, of.kernel()?, self.before(of.config))))
            .collect();
        let pairs: Vec<_> = placed.iter().map(|(_, tap, before)| (*tap, *before)).collect();
        let results = kernel::place(&pairs);
        let refused: Vec<(usize, io::Error)> = placed
            .iter()
            .zip(results)
            .filter_map(|((at, ..), result)| Some((*at, result.err()?)))
            .collect();
        for (at, error) in refused {
            let Ready { config, how } = &mut ready[at];
            let why = Failure::from(error).message().unwrap_or_default().to_owned();
            let instead =
                self.not_in_kernel(config, ceilings, vec![why]).map_err(|e| (*config, e))?;
            if let How::Kernel(refused) = std::mem::replace(how, instead) {
                refused.tap.end();
            }
        }
        Ok(())
    }

    /// The tap in the kernel that runs by the name of one.
    fn before(&self, config: &TapConfig) -> Option<&KernelTap> {
        let before = self.taps.iter().find(|before| before.config.name == config.name);
        before.and_then(|before| before.carrier.kernel())
    }

    /// Makes a tap for the kernel to carry; or says all that stands in the way.
    fn in_kernel(
        &mut self,
        config: &TapConfig,
        ceilings: &Ceilings,
        netns: &Option<Arc<Netns>>,
        asked: Datapath,
    ) -> Result<Result<KernelReady, Vec<String>>, Failure> {
        let wanted = match plan::in_kernel(config, netns.as_deref(), self.places.filter, asked)? {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Err(why)),
        };
        let TapSource::Interface(interface) = &config.source else {
            return Ok(Err(Vec::new()));
        };
        match self.make_for_kernel(config, ceilings, interface, wanted, netns) {
            Ok(ready) => Ok(Ok(ready)),
            Err(failure) => {
                let why = failure.message().unwrap_or_default().to_owned();
                Ok(Err(vec![why]))
            }
        }
    }

    fn make_for_kernel(
        &mut self,
        config: &TapConfig,
        ceilings: &Ceilings,
        interface: &str,
        wanted: Wanted,
        netns: &Option<Arc<Netns>>,
    ) -> Result<KernelReady, Failure> {
        let mirror = self.kernel.mirror(netns.as_ref())?;
        self.opened = self.opened.wrapping_add(1);
        let (to, sending, number) = (&config.to, config.sending, self.opened);
        let mut opening = self.targets.open_lanes(to, sending, number, HAND_UP_LANE, 1)?;
        let new = NewTap {
            config,
            interface,
            wanted,
            is_fragmented: warn_of_long_frames(config, netns.as_deref()),
            ceiling: ceilings.rate(config),
            sending: self.targets.in_kernel(to, sending, number)?,
        };
        let tap = KernelTap::new(mirror, new, &mut opening, &self.interfaces)?;
        Ok(KernelReady {
            tap,
            far_ends: opening.far_ends,
            interface: interface.into(),
            announcement: format!(
                "listening on {interface}, link type {}, in the kernel",
                wire::LinkType::ETHERNET
            ),
        })
    }

    /// Gives up taps that were prepared; those whose place they have taken get it back.
    fn undo(&mut self, ready: Vec<Ready<'_>>) {
        let (mut back, mut off) = (Vec::new(), Vec::new());
        for of in &ready {
            let Some(tap) = of.kernel().filter(|tap| tap.is_placed()) else { continue };
            match self.before(of.config) {
                Some(before) if !before.is_placed() => back.push((of.config, before, Some(tap))),
                _ => off.push(tap),
            }
        }
        let pairs: Vec<_> = back.iter().map(|(_, before, tap)| (*before, *tap)).collect();
        for ((config, ..), result) in back.iter().zip(kernel::place(&pairs)) {
            if let Err(error) = result {
                tracing::error!("tap {}: it does not go on as before: {error}", config.name);
            }
        }
        if let Err(error) = kernel::take_off(&off) {
            tracing::error!("taps that were to begin are not ended: {error}");
        }
        for Ready { how, .. } in ready {
            let How::Kernel(ready) = how else { continue };
            ready.tap.end().0.gone().add_to(&mut self.gone);
        }
        self.kernel.keep_used();
    }

    /// Replaces the files of taps, which are then ready to run. If that fails, none of them goes on.
    pub(super) fn finish(&mut self, ready: Vec<Ready<'_>>) -> Result<Vec<Startable>, Failure> {
        let running = self.taps.iter().flat_map(|tap| &tap.far_ends);
        let far_ends = running.chain(ready.iter().flat_map(Ready::far_ends));
        let far_ends: Vec<FarEnd> = far_ends.copied().collect();
        let mut taps = Vec::new();
        let mut failed = None;
        for Ready { config, how } in ready {
            let config = config.clone();
            match how {
                How::Kernel(ready) => {
                    let KernelReady { tap, far_ends, .. } = *ready;
                    taps.push(Startable::kernel(config, tap, far_ends));
                }
                How::Ring(ready) if failed.is_none() => {
                    match finish_ring(config, *ready, &far_ends) {
                        Ok(tap) => taps.push(tap),
                        Err(failure) => failed = Some(failure),
                    }
                }
                How::Ring(_) => {}
            }
        }
        let Some(failure) = failed else { return Ok(taps) };
        // Their packets have gone into tunnels since they were prepared.
        self.end_kernel_taps(taps.into_iter().filter_map(|tap| match tap.carrier {
            Unstarted::Kernel(tap) => Some(*tap),
            Unstarted::Ring { .. } => None,
        }));
        self.kernel.keep_used();
        Err(failure)
    }
}

/// Makes the shares of a tap that is read by rings, and replaces its files. `all` far ends are left out.
fn finish_ring(
    config: TapConfig,
    ready: RingReady<'_>,
    all: &[FarEnd],
) -> Result<Startable, Failure> {
    let RingReady { opened, ceiling, mut opening, .. } = ready;
    let mut shares = Vec::with_capacity(opened.shares.len());
    for (worker, (input, filter)) in opened.shares.into_iter().enumerate() {
        let is_live = input.source.is_live();
        let groups = opening.groups(worker, opened.first, is_live)?;
        let mut tap = Tap::new(config.name.clone(), vec![input], groups);
        tap.filter = filter;
        tap.ceiling = ceiling.clone();
        tap.snaplen = (config.snapshot_length > 0).then_some(config.snapshot_length as usize);
        if has_tunnels(&config.to) {
            tap.needs_flow_hash = true;
            // Those of all taps are left out.
            tap.own = OwnTunnels::new(all.to_vec(), opened.sees_loopback);
        }
        shares.push(tap);
    }
    Ok(Startable::ring(config, shares, opening.far_ends, opened.sees_loopback, ceiling))
}

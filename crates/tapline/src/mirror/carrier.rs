//! What carries a tap: workers that read rings, or the kernel.

use super::kernel::KernelTap;
use super::lines::Lines;
use super::plan;
use crate::opened::Opened;
use crate::targets::Opening;
use api::{Rate, TapConfig};
use kernel::mirror::layout::Leaving;
use pipeline::{Ceiling, Crew, CrewReport, FarEnd, Tap};

/// A tap that workers are to carry, of which all but the files is open.
pub struct RingReady<'a> {
    pub opened: Opened,
    pub ceiling: Option<Ceiling>,
    pub opening: Opening<'a>,
    /// Why the kernel does not carry it; nothing if it was not to.
    pub why_not_kernel: Vec<String>,
}

/// A tap that the kernel is to carry.
pub struct KernelReady {
    pub tap: KernelTap,
    pub far_ends: Vec<FarEnd>,
    pub interface: String,
    pub announcement: String,
}

/// A tap that can be started.
pub struct Startable {
    pub config: TapConfig,
    pub carrier: Unstarted,
    pub far_ends: Vec<FarEnd>,
}

/// A carrier before it runs.
pub enum Unstarted {
    Ring { shares: Vec<Tap>, sees_loopback: bool, ceiling: Option<Ceiling> },
    Kernel(Box<KernelTap>),
}

/// What carries a tap.
pub enum Carrier {
    /// Workers, each with a ring or a file.
    Ring { crew: Crew, sees_loopback: bool, ceiling: Option<Ceiling> },
    /// The kernel.
    Kernel(Box<KernelTap>),
}

impl RingReady<'_> {
    /// What to say when it begins.
    pub fn announcement(&self) -> String {
        match self.opened.first.is_some() && !self.why_not_kernel.is_empty() {
            true => format!(
                "{}; not in the kernel: {}",
                self.opened.announcement,
                plan::reasons(&self.why_not_kernel)
            ),
            false => self.opened.announcement.clone(),
        }
    }
}

impl Startable {
    pub fn ring(
        config: TapConfig,
        shares: Vec<Tap>,
        far_ends: Vec<FarEnd>,
        sees_loopback: bool,
        ceiling: Option<Ceiling>,
    ) -> Startable {
        let carrier = Unstarted::Ring { shares, sees_loopback, ceiling };
        Startable { config, carrier, far_ends }
    }

    pub fn kernel(config: TapConfig, tap: KernelTap, far_ends: Vec<FarEnd>) -> Startable {
        Startable { config, carrier: Unstarted::Kernel(Box::new(tap)), far_ends }
    }
}

impl Unstarted {
    /// Starts its workers.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(self) -> std::io::Result<Carrier> {
        Ok(match self {
            Unstarted::Ring { shares, sees_loopback, ceiling } => {
                Carrier::Ring { crew: Crew::start(shares)?, sees_loopback, ceiling }
            }
            Unstarted::Kernel(mut tap) => {
                tap.start()?;
                Carrier::Kernel(tap)
            }
        })
    }
}

impl Carrier {
    /// The workers: of a tap in the kernel those of what it hands up.
    pub fn crews(&self) -> Vec<&Crew> {
        match self {
            Carrier::Ring { crew, .. } => vec![crew],
            Carrier::Kernel(tap) => tap.crews().collect(),
        }
    }

    /// The tap's lines; `reports` are those of [`Self::crews`].
    pub fn lines(&self, reports: Vec<CrewReport>) -> Option<Lines> {
        match self {
            Carrier::Ring { .. } => reports.first().and_then(Lines::of),
            Carrier::Kernel(tap) => tap.lines(reports),
        }
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        match self {
            Carrier::Ring { crew, .. } => crew.is_finished(),
            Carrier::Kernel(tap) => tap.is_finished(),
        }
    }

    /// Stops workers that read rings: what has come in is carried to its end.
    pub fn stop_ring(&self) {
        if let Carrier::Ring { crew, .. } = self {
            crew.stop();
        }
    }

    /// Stops the workers of a tap that the kernel carries no more.
    pub fn stop_kernel(&mut self) {
        if let Carrier::Kernel(tap) = self {
            tap.stop();
        }
    }

    /// Gives it another ceiling, as what leaves stays the same; one without keeps on having none.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn set_ceiling(&self, rate: Option<(Rate, Leaving)>) -> Result<(), io::Error> {
        match self {
            Carrier::Ring { ceiling, .. } => {
                if let Some(ceiling) = ceiling {
                    ceiling.set(rate.map(|(rate, _)| rate));
                }
                Ok(())
            }
            Carrier::Kernel(tap) => tap.set_ceiling(rate),
        }
    }

    /// The tap in the kernel, if it is there.
    pub fn kernel(&self) -> Option<&KernelTap> {
        match self {
            Carrier::Ring { .. } => None,
            Carrier::Kernel(tap) => Some(tap),
        }
    }

    /// Waits for its end; gives its last lines.
    pub fn end(self) -> (Option<Lines>, Vec<Result<(), io::Error>>) {
        match self {
            Carrier::Ring { crew, .. } => {
                let (reports, result) = crew.join();
                (Lines::of(&reports), vec![result])
            }
            Carrier::Kernel(tap) => {
                let (lines, results) = tap.end();
                (Some(lines), results)
            }
        }
    }
}

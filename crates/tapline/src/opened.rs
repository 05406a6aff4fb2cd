//! Sources that are ready: an interface or a file, opened for `capture` and `mirror` alike.

use crate::cli::{FilterIn, FilterPlace};
use crate::failure::Failure;
use api::{DirectionChoice, FileError, FilterConfig};
use io::decap::{Decap, DecapOptions, DecapStatus, EVERY_LAYER};
use io::file::FileSource;
use io::ring::{ANY, Description, KernelFilter, RingOptions, RingSource, describe};
use io::{InterfaceId, Interfaces, Source};
use pipeline::{CaptureFilter, Input};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use wire::LinkType;

/// Which packets of a source are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Those that a filter of the user keeps.
    Filter(&'a FilterConfig),
    /// Segments that open TCP connections.
    Syn,
}

impl<'a> From<&'a FilterConfig> for Wanted<'a> {
    fn from(filter: &'a FilterConfig) -> Wanted<'a> {
        Wanted::Filter(filter)
    }
}

/// A source that is ready, and what is to be known of it.
pub struct Opened {
    /// Its name in the ledger.
    pub name: String,
    /// For each worker its source, and which of its packets are wanted, as far as the kernel has not
    /// decided it.
    pub shares: Vec<(Input, CaptureFilter)>,
    /// An interface that is known before the first packet.
    pub first: Option<InterfaceId>,
    /// Its link types, as far as they are known.
    pub link_types: Vec<LinkType>,
    /// Whether packets that were sent may come in again.
    pub sees_loopback: bool,
    /// What to say when it begins.
    pub announcement: String,
}

impl Opened {
    /// Taps an interface; the options' own filter is replaced by what is wanted.
    pub fn interface<'a>(
        mut options: RingOptions,
        workers: usize,
        direction: DirectionChoice,
        wanted: impl Into<Wanted<'a>>,
        place: FilterPlace,
        interfaces: &Interfaces,
    ) -> Result<Opened, Failure> {
        let wanted = wanted.into();
        let is_any = options.interface == ANY;
        if is_any && options.promiscuous {
            tracing::warn!("{ANY}: no interface is set to promiscuous mode; name one for that");
        }
        let described = if is_any { None } else { Some(described(&options)?) };
        // Each packet passes loopback twice, sent and then received; one of them is enough.
        let direction = match direction {
            DirectionChoice::Both if described.is_some_and(|of| of.is_loopback) => {
                DirectionChoice::In
            }
            direction => direction,
        };
        // Most interfaces are Ethernet; what an expression means to others shows as they come.
        let link_types = vec![described.map_or(LinkType::ETHERNET, |of| of.link_type)];
        let filter = compiled(wanted, direction, &link_types)?;
        let in_kernel = match described {
            Some(_) => place.for_kernel(&filter, link_types[0]),
            None => place.for_any(),
        };
        let matters = !matches!(wanted, Wanted::Filter(FilterConfig::All));
        let (sources, filtered) =
            place.open(&mut options, workers, in_kernel, matters, interfaces)?;
        let link_type = match described {
            Some(of) => format!("link type {}", of.link_type),
            None => "link types by interface".into(),
        };
        let announcement = format!(
            "listening on {}, {link_type}, {} of {} KiB{}",
            options.interface,
            if workers == 1 { "ring".into() } else { format!("{workers} workers, each a ring") },
            sources[0].ring_bytes() >> 10,
            if matters { filtered } else { "" }
        );
        let (first, sees_loopback) = (sources[0].interface_id(), sources[0].sees_loopback());
        // The first filter has told that it can be compiled, and where it runs.
        let mut filter = Some(filter);
        let mut shares = Vec::with_capacity(workers);
        for source in sources {
            let input = Input { name: options.interface.clone(), source: Box::new(source) };
            let filter =
                filter.take().map_or_else(|| compiled(wanted, direction, &link_types), Ok)?;
            shares.push((input, filter));
        }
        Ok(Opened {
            name: options.interface,
            shares,
            first,
            link_types,
            sees_loopback,
            announcement,
        })
    }

    /// Takes packets out of their tunnels from now on; gives what tells how many, for each worker.
    pub fn decapsulate(
        &mut self,
        options: &DecapOptions,
        interfaces: &Interfaces,
    ) -> Vec<Arc<DecapStatus>> {
        self.announcement += &match options.layers {
            EVERY_LAYER => ", out of every tunnel".to_owned(),
            1 => ", out of one layer of tunnels".to_owned(),
            layers => format!(", out of up to {layers} layers of tunnels"),
        };
        // Which link types there are inside shows with the packets, which name them in the file.
        self.first = None;
        let mut statuses = Vec::with_capacity(self.shares.len());
        for (Input { name, source }, filter) in std::mem::take(&mut self.shares) {
            let decap = Decap::new(source, options.clone(), interfaces);
            statuses.push(decap.status());
            self.shares.push((Input { name, source: Box::new(decap) }, filter));
        }
        statuses
    }

    pub fn file<'a>(
        path: &Path,
        direction: DirectionChoice,
        wanted: impl Into<Wanted<'a>>,
        interfaces: &Interfaces,
    ) -> Result<Opened, Failure> {
        let source = FileSource::open(path, interfaces)?;
        let ids = source.interface_ids().to_vec();
        let mut link_types: Vec<LinkType> =
            ids.iter().map(|&id| LinkType(interfaces.get(id).link_type)).collect();
        link_types.sort_unstable();
        link_types.dedup();
        let name = path.display().to_string();
        let source: Box<dyn Source> = Box::new(source);
        let input = Input { name: name.clone(), source };
        Ok(Opened {
            first: ids.first().copied(),
            announcement: format!("reading {name}"),
            shares: vec![(input, compiled(wanted.into(), direction, &link_types)?)],
            name,
            link_types,
            sees_loopback: false,
        })
    }
}

/// Describes an interface where it is.
fn described(options: &RingOptions) -> Result<Description, Failure> {
    Ok(match &options.netns {
        Some(netns) => netns.run(|| describe(&options.interface))??,
        None => describe(&options.interface)?,
    })
}

/// Compiles a filter of a broker's maps and targets.
pub fn compile(
    wanted: &FilterConfig,
    direction: DirectionChoice,
    link_types: &[LinkType],
) -> Result<CaptureFilter, Failure> {
    compiled(wanted.into(), direction, link_types)
}

/// Whether a filter can be compiled for Ethernet; the error says what is wrong.
pub fn compiles(filter: &FilterConfig) -> Result<(), String> {
    match filter {
        FilterConfig::Expression(text) => io::libpcap::compile(text, LinkType::ETHERNET, 0)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        FilterConfig::All | FilterConfig::Rules(_) => Ok(()),
    }
}

/// Compiles a filter for link types that are known beforehand.
fn compiled(
    wanted: Wanted<'_>,
    direction: DirectionChoice,
    link_types: &[LinkType],
) -> Result<CaptureFilter, Failure> {
    let filter = match wanted {
        Wanted::Filter(FilterConfig::All) => Ok(CaptureFilter::all(direction)),
        Wanted::Filter(FilterConfig::Rules(rules)) => {
            CaptureFilter::rules(direction, link_types, rules.clone())
        }
        Wanted::Filter(FilterConfig::Expression(expression)) => {
            let expression = expression.clone();
            let compile = move |link_type: LinkType| {
                io::libpcap::compile(&expression, link_type, 0).map_err(|e| e.to_string())
            };
            CaptureFilter::expression(direction, link_types, Box::new(compile))
        }
        Wanted::Syn => {
            let compile = |link_type: LinkType| {
                filter::tcp_syn(link_type).ok_or("TCP is not looked for in such frames".to_owned())
            };
            CaptureFilter::expression(direction, link_types, Box::new(compile))
        }
    };
    filter.map_err(Failure::Usage)
}

/// What a command line says of its filter: a file of rules, or the words of an expression.
pub fn filter_config(rules: Option<&Path>, words: &[String]) -> Result<FilterConfig, FileError> {
    match rules {
        Some(path) => FilterConfig::rules(path),
        None => Ok(FilterConfig::expression(&words.join(" "))),
    }
}

impl FilterPlace {
    /// The filter for the kernel, or why there is none.
    fn for_kernel(
        self,
        filter: &CaptureFilter,
        link_type: LinkType,
    ) -> Result<KernelFilter, String> {
        match self.filter_in {
            _ if self.prefilter => filter.as_prefilter(link_type),
            FilterIn::User => Ok(KernelFilter::Absent),
            FilterIn::Auto | FilterIn::Kernel => filter.for_kernel(link_type),
        }
    }

    /// The same for all interfaces, whose frames begin in different ways.
    fn for_any(self) -> Result<KernelFilter, String> {
        match self.filter_in == FilterIn::Kernel || self.prefilter {
            true => Err("each interface may have frames of its own kind".into()),
            false => Ok(KernelFilter::Absent),
        }
    }

    /// Opens a ring for each worker with a filter before it, or without one if that may be; and says where the filter
    /// is. One that keeps everything only counts, and does not matter much.
    fn open(
        self,
        options: &mut RingOptions,
        workers: usize,
        filter: Result<KernelFilter, String>,
        matters: bool,
        interfaces: &Interfaces,
    ) -> Result<(Vec<RingSource>, &'static str), Failure> {
        let name = options.interface.clone();
        let may_fall_back = self.filter_in == FilterIn::Auto && !self.prefilter;
        let refused = |why: String| match self.prefilter {
            true => Failure::CouldNot(format!(
                "{name}: no filter before the ring: {why}; leave --prefilter out"
            )),
            false => Failure::CouldNot(format!(
                "{name}: no filter in the kernel: {why}; leave --filter-in out"
            )),
        };
        let why = match filter {
            Ok(filter) => {
                let place = match &filter {
                    KernelFilter::Counting(_) => ", filter in the kernel",
                    KernelFilter::Hiding(_) => ", filter before the ring",
                    KernelFilter::Absent => ", filter in user space",
                };
                options.filter = filter;
                match RingSource::open_all(options, workers, interfaces) {
                    Ok(sources) => return Ok((sources, place)),
                    Err(io::Error::KernelFilter { source, .. }) => source.to_string(),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(why) => why,
        };
        if !may_fall_back {
            return Err(refused(why));
        }
        if matters {
            tracing::warn!("{name}: the filter runs in user space, not in the kernel: {why}");
        } else {
            tracing::debug!("{name}: what the ring loses is counted in frames: {why}");
        }
        options.filter = KernelFilter::Absent;
        Ok((RingSource::open_all(options, workers, interfaces)?, ", filter in user space"))
    }
}

/// Refuses to write the file that is read: its packets would be lost. Where files are rotated, the
/// name that is written may get a number.
pub fn must_differ(read: Option<&Path>, write: &Path, rotates: bool) -> Result<(), Failure> {
    let Some(read) = read.filter(|path| path.is_file()) else {
        return Ok(());
    };
    let identity = |path: &Path| path.metadata().map(|of| (of.dev(), of.ino())).ok();
    let is_same = identity(write).is_some_and(|written| identity(read) == Some(written));
    if is_same || (rotates && is_numbered(read, write)) {
        return Err(Failure::Usage(format!(
            "{} would be written over: write to another name than {}",
            read.display(),
            write.display()
        )));
    }
    Ok(())
}

/// Whether a file's name is another's with a number behind it.
fn is_numbered(path: &Path, base: &Path) -> bool {
    let (Some(name), Some(base)) = (path.file_name(), base.file_name()) else {
        return false;
    };
    let (name, base) = (name.to_string_lossy(), base.to_string_lossy());
    name.strip_prefix(&*base).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

//! `tapline capture`: packets of an interface or a file, printed or written to a file.

use crate::cli::{Capture, Rotation, Verbosity};
use crate::failure::Failure;
use crate::print::Printer;
use crate::session;
use api::{DirectionChoice, Stats};
use archive::{Layout, Recorder, RecorderOptions};
use io::file::FileSource;
use io::ring::{Handover, RingOptions, RingSource};
use io::{InterfaceId, Interfaces, Sink, Source};
use pipeline::{CaptureFilter, Input, OwnTunnels, Report, Tap, Target, TargetGroup};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use wire::LinkType;

pub fn run(options: Capture, verbosity: &Verbosity) -> Result<(), Failure> {
    let interfaces = Interfaces::default();
    let opened = match (&options.interface, &options.read) {
        (Some(name), _) => Opened::interface(
            &RingOptions {
                interface: name.clone(),
                promiscuous: !options.no_promiscuous_mode,
                ring_bytes: options.buffer_size as usize,
                handover: match options.write.is_some() && !options.packet_buffered {
                    true => Handover::Relaxed,
                    false => Handover::Prompt,
                },
                snaplen: options.snapshot_length,
            },
            options.direction,
            &interfaces,
        )?,
        (None, Some(path)) => Opened::file(path, options.direction, &interfaces)?,
        (None, None) => return Err(Failure::Usage("name an interface or a file".into())),
    };
    let filter = opened.filter(&options.expression)?;
    let (endpoint, sink): (String, Box<dyn Sink>) = match &options.write {
        Some(path) => {
            must_differ(options.read.as_deref(), path)?;
            let recorder = RecorderOptions {
                layout: Layout::File(path.clone()),
                rotation: options.rotation.to_archive(),
                unbuffered: options.packet_buffered,
                first: opened.first,
            };
            let recorder = Recorder::new(recorder, &interfaces)?;
            (format!("pcap:{}", path.display()), Box::new(recorder))
        }
        None => ("text:-".into(), Box::new(Printer::new(options.format, &interfaces))),
    };
    let begun = [opened.announcement];
    let tap = Tap {
        name: opened.input.name.clone(),
        inputs: vec![opened.input],
        own: OwnTunnels::default(),
        filter,
        snaplen: (options.snapshot_length > 0).then_some(options.snapshot_length as usize),
        limit: options.count,
        needs_flow_hash: false,
        groups: vec![TargetGroup::new(vec![Target::new(endpoint, sink)], &[1])],
    };
    session::run(vec![tap], &begun, ledger, &options.report, verbosity)
}

/// Refuses to write the file that is read: its packets would be lost.
pub fn must_differ(read: Option<&Path>, write: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| path.metadata().map(|of| (of.dev(), of.ino())).ok();
    let Some(read) = read else {
        return Ok(());
    };
    match identity(read).is_some_and(|is| identity(write) == Some(is)) && read.is_file() {
        true => Err(Failure::Usage(format!(
            "{} and {} are one file: write to another",
            read.display(),
            write.display()
        ))),
        false => Ok(()),
    }
}

/// The ledger of taps: a line each, and a line for each of their targets.
pub fn ledger(reports: &[Report]) -> Stats {
    let taps = reports.iter().map(Report::tap).collect();
    let targets = reports.iter().flat_map(|report| report.targets.clone()).collect();
    let mut stats = Stats::new(taps, Vec::new(), targets);
    // What a target recorded counts as received and written too, without a second line for it.
    for source in reports.iter().flat_map(|report| &report.sources) {
        stats.received += source.received;
        stats.written += source.written;
    }
    stats
}

/// A source that is ready, and what is to be known of it.
pub struct Opened {
    pub input: Input,
    /// An interface that is known before the first packet.
    pub first: Option<InterfaceId>,
    /// Its link types, as far as they are known.
    pub link_types: Vec<LinkType>,
    /// Which of its packets are wanted.
    pub direction: DirectionChoice,
    /// Whether packets that were sent come in again.
    pub is_loopback: bool,
    /// What to say when it begins.
    pub announcement: String,
}

impl Opened {
    pub fn interface(
        options: &RingOptions,
        direction: DirectionChoice,
        interfaces: &Interfaces,
    ) -> Result<Opened, Failure> {
        if options.interface == "any" {
            return Err(Failure::CouldNot(
                "`any` is not supported yet; name one interface (see `ip link`)".into(),
            ));
        }
        let source = RingSource::open(options, interfaces)?;
        // Each packet passes loopback twice, sent and then received; one of them is enough.
        let is_loopback = source.is_loopback();
        let direction = match direction {
            DirectionChoice::Both if is_loopback => DirectionChoice::In,
            direction => direction,
        };
        let name = &options.interface;
        let announcement = format!(
            "listening on {name}, link type {}, ring of {} KiB",
            source.link_type(),
            source.ring_bytes() >> 10
        );
        Ok(Opened {
            first: Some(source.interface_id()),
            link_types: vec![source.link_type()],
            input: Input { name: name.clone(), source: Box::new(source) },
            direction,
            is_loopback,
            announcement,
        })
    }

    pub fn file(
        path: &Path,
        direction: DirectionChoice,
        interfaces: &Interfaces,
    ) -> Result<Opened, Failure> {
        let source = FileSource::open(path, interfaces)?;
        let ids = source.interface_ids().to_vec();
        let mut link_types: Vec<LinkType> =
            ids.iter().map(|&id| LinkType(interfaces.get(id).link_type)).collect();
        link_types.sort_unstable();
        link_types.dedup();
        let name = path.display().to_string();
        Ok(Opened {
            first: ids.first().copied(),
            announcement: format!("reading {name}"),
            input: Input { name, source: Box::new(source) as Box<dyn Source> },
            link_types,
            direction,
            is_loopback: false,
        })
    }

    /// Compiles the words of an expression for this source.
    pub fn filter(&self, expression: &[String]) -> Result<CaptureFilter, Failure> {
        let expression = expression.join(" ");
        if expression.trim().is_empty() {
            return Ok(CaptureFilter::all(self.direction));
        }
        let compile = move |link_type: LinkType| {
            io::libpcap::compile(&expression, link_type, 0).map_err(|e| e.to_string())
        };
        CaptureFilter::expression(self.direction, &self.link_types, Box::new(compile))
            .map_err(Failure::Usage)
    }
}

impl Rotation {
    /// The recorder's form.
    pub fn to_archive(&self) -> archive::Rotation {
        archive::Rotation {
            bytes: self.file_size,
            time: self.rotate_seconds,
            files: self.file_count,
        }
    }
}

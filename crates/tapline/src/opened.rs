//! Sources that are ready: an interface or a file, opened for `capture` and `mirror` alike.

use crate::failure::Failure;
use api::{DirectionChoice, RuleFile};
use filter::Rules;
use io::file::FileSource;
use io::ring::{RingOptions, RingSource};
use io::{InterfaceId, Interfaces, Source};
use pipeline::{CaptureFilter, Input};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use wire::LinkType;

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

    /// Compiles a filter for this source.
    pub fn filter(&self, wanted: &Wanted) -> Result<CaptureFilter, Failure> {
        let filter = match wanted {
            Wanted::All => Ok(CaptureFilter::all(self.direction)),
            Wanted::Rules(rules) => {
                CaptureFilter::rules(self.direction, &self.link_types, rules.clone())
            }
            Wanted::Expression(expression) => {
                let expression = expression.clone();
                let compile = move |link_type: LinkType| {
                    io::libpcap::compile(&expression, link_type, 0).map_err(|e| e.to_string())
                };
                CaptureFilter::expression(self.direction, &self.link_types, Box::new(compile))
            }
        };
        filter.map_err(Failure::Usage)
    }
}

/// Which packets are wanted, as the command line says it.
pub enum Wanted {
    /// All.
    All,
    /// What an expression matches.
    Expression(String),
    /// What rules include.
    Rules(Rules),
}

impl Wanted {
    /// Reads the file of rules, or joins the words of an expression.
    pub fn new(rules: Option<&Path>, expression: &[String]) -> Result<Wanted, Failure> {
        if let Some(path) = rules {
            return Ok(Wanted::Rules(RuleFile::open(path)?.rules));
        }
        let expression = expression.join(" ");
        Ok(match expression.trim() {
            "" => Wanted::All,
            _ => Wanted::Expression(expression),
        })
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

//! Sources that are ready: an interface or a file, opened for `capture` and `mirror` alike.

use crate::failure::Failure;
use api::{DirectionChoice, RuleFile};
use filter::Rules;
use io::file::FileSource;
use io::ring::{ANY, RingOptions, RingSource};
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
    /// Whether packets that were sent may come in again.
    pub sees_loopback: bool,
    /// What to say when it begins.
    pub announcement: String,
}

impl Opened {
    pub fn interface(
        options: &RingOptions,
        direction: DirectionChoice,
        interfaces: &Interfaces,
    ) -> Result<Opened, Failure> {
        let source = RingSource::open(options, interfaces)?;
        let is_any = options.interface == ANY;
        if is_any && options.promiscuous {
            tracing::warn!("{ANY}: no interface is set to promiscuous mode; name one for that");
        }
        // Each packet passes loopback twice, sent and then received; one of them is enough.
        let direction = match direction {
            DirectionChoice::Both if source.sees_loopback() && !is_any => DirectionChoice::In,
            direction => direction,
        };
        let name = &options.interface;
        let link_type = source.link_type();
        let announcement = format!(
            "listening on {name}, {}, ring of {} KiB",
            match link_type {
                Some(link_type) => format!("link type {link_type}"),
                None => "link types by interface".into(),
            },
            source.ring_bytes() >> 10
        );
        Ok(Opened {
            first: source.interface_id(),
            // Most interfaces are Ethernet; what an expression means to others shows as they come.
            link_types: vec![link_type.unwrap_or(LinkType::ETHERNET)],
            sees_loopback: source.sees_loopback(),
            input: Input { name: name.clone(), source: Box::new(source) },
            direction,
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
            sees_loopback: false,
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

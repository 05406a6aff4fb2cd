//! `tapline mirror`: packets of an interface or a file, to tunnels, devices and files.

mod carrier;
mod ceiling;
mod explain;
mod kernel;
mod lines;
mod live;
mod paths;
mod place;
mod plan;
mod prepare;

use crate::cli::{FilterPlace, Mirror, Verbosity};
use crate::failure::Failure;
use crate::opened::{Opened, filter_config, must_differ};
use crate::session::{self, Session};
use crate::targets::{Places as FilePlaces, carries, devices, files, members};
use crate::workers::{count, file_of};
use api::{TapConfig, TapSource};
pub use ceiling::Ceilings;
use io::Interfaces;
use io::netns::Netns;
use io::ring::{ANY, Handover, KernelFilter, RingOptions};
use live::{Live, Places};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::LinkType;

pub fn run(options: Mirror, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    let configs = match &options.config {
        Some(path) => api::read_mirror_file(path)?,
        None => of_options(&options)?,
    };
    let places = Places { datapath: options.datapath, filter: options.filter_place };
    if options.explain {
        return explain::explain(&configs, places);
    }
    let mut live = Live::new(options.config.clone(), places);
    let (taps, begun) = live.open(&configs)?;
    Session::new("mirror", &options.report, verbosity).config(options.config.as_deref()).run(
        &begun,
        || {
            live.start(taps)?;
            Ok(Box::new(live))
        },
    )
}

/// The taps that the options say: one for each interface, or one for the file.
fn of_options(options: &Mirror) -> Result<Vec<TapConfig>, Failure> {
    if options.interface.len() > 1 && files(&options.to).next().is_some() {
        return Err(Failure::Usage(
            "two interfaces cannot write one file; run one mirror for each, or use a tunnel".into(),
        ));
    }
    let filter = filter_config(options.rules.as_deref(), &options.expression)?;
    let tap = |name: String, source: TapSource| TapConfig {
        name,
        source,
        to: options.to.clone(),
        direction: options.direction,
        snapshot_length: options.snapshot_length,
        sending: options.sending.into(),
        promiscuous: options.promiscuous,
        buffer_size: options.buffer_size,
        workers: options.workers,
        datapath: None,
        ceiling: options.ceiling,
        traffic_mode: options.traffic_mode,
        netns: options.netns.clone(),
        filter: filter.clone(),
    };
    let interfaces = options.interface.iter();
    let interfaces = interfaces.map(|name| tap(name.clone(), TapSource::Interface(name.clone())));
    let file = options.read.as_ref();
    let file = file.map(|path| tap(path.display().to_string(), TapSource::File(path.clone())));
    Ok(interfaces.chain(file).collect())
}

/// The interfaces that are tapped, and those that get packets, each once.
fn interfaces_of<'a>(configs: impl Iterator<Item = &'a TapConfig> + Clone) -> Vec<String> {
    let tapped = configs.clone().filter_map(|config| match &config.source {
        TapSource::Interface(name) if name != ANY && config.netns.is_none() => Some(name.clone()),
        _ => None,
    });
    let fed = configs.flat_map(|config| devices(&config.to));
    let names: BTreeSet<String> = tapped.chain(fed).collect();
    names.into_iter().collect()
}

/// How many workers a tap has: a file is read by one.
fn workers_of(config: &TapConfig) -> usize {
    match config.source {
        TapSource::File(_) => 1,
        TapSource::Interface(_) => count(config.workers),
    }
}

fn source(
    config: &TapConfig,
    netns: Option<Arc<Netns>>,
    filter_place: FilterPlace,
    interfaces: &Interfaces,
) -> Result<Opened, Failure> {
    let TapConfig { direction, filter, .. } = config;
    match &config.source {
        TapSource::File(path) => Opened::file(path, *direction, filter, interfaces),
        TapSource::Interface(name) => {
            let ring = RingOptions {
                interface: name.clone(),
                netns,
                promiscuous: config.promiscuous,
                ring_size: config.buffer_size,
                handover: Handover::Prompt,
                snaplen: config.snapshot_length,
                filter: KernelFilter::Absent,
            };
            Opened::interface(
                ring,
                workers_of(config),
                *direction,
                filter,
                filter_place,
                interfaces,
            )
        }
    }
}

/// Refuses targets that can take none of a source's packets.
fn must_fit(config: &TapConfig, link_types: &[LinkType]) -> Result<(), Failure> {
    match members(&config.to).find(|member| !carries(member, link_types)) {
        None => Ok(()),
        Some(member) => Err(Failure::CouldNot(format!(
            "{}: its packets have no Ethernet header, which {member} carries; use gre:// or \
             geneve://, or record them with --to pcap:PATH",
            config.name
        ))),
    }
}

/// Refuses two targets that write one file; and two taps that read standard input, of which each
/// would get a part.
fn must_stand_apart(configs: &[TapConfig]) -> Result<(), Failure> {
    let is_stdin = |config: &&TapConfig| config.source == TapSource::File("-".into());
    if configs.iter().filter(is_stdin).count() > 1 {
        return Err(Failure::Usage(
            "two taps cannot read standard input: give each its own".into(),
        ));
    }
    let mut places = FilePlaces::default();
    for config in configs {
        let workers = workers_of(config);
        for (path, worker) in
            files(&config.to).flat_map(|path| (0..workers).map(move |n| (path, n)))
        {
            // Standard output, which workers cannot share, is refused here.
            let path = file_of(path, worker, workers)?;
            places.claim(&path)?;
            for reader in configs {
                if let TapSource::File(read) = &reader.source {
                    must_differ(Some(read), &path, false)?;
                }
            }
        }
    }
    Ok(())
}

//! `tapline inline`: a bump in the wire. What is sent to one of our addresses goes to a next host, the
//! replies go back, and views of both are captured.

mod ask;
mod captures;
mod edit;
mod ledger;
mod live;
mod only;

use crate::cli::{Fail, Inline, InlineShort, Verbosity};
use crate::failure::Failure;
use crate::session::{self, Session};
use api::{
    Endpoint, Group, InlineConfig, InlineFail, InlineRule, InlineTimeouts, read_inline_file,
};
use io::forward::{OwnAddresses, own_addresses};
use live::Live;
use std::collections::BTreeSet;
use std::path::Path;

pub fn run(options: &Inline, verbosity: &Verbosity) -> Result<(), Failure> {
    if let Some(command) = &options.command {
        return ask::run(command);
    }
    session::check_stats_path(&options.report)?;
    let config = wanted(options)?;
    must_lead_away(&config)?;
    let mut live = Live::new(options);
    let begun = live.open(config)?;
    Session::new("inline", &options.report, verbosity).config(options.config.as_deref()).run(
        &begun,
        || {
            live.start()?;
            Ok(live.with_its_archive())
        },
    )
}

/// The table that the file or the options say, with all places that its views go to.
fn wanted(options: &Inline) -> Result<InlineConfig, Failure> {
    let mut config = match &options.config {
        Some(path) => read_inline_file(path)?,
        None => of_options(&options.short, options.write.is_some() || options.archive.is_some())?,
    };
    config.rules.iter_mut().try_for_each(|rule| place_views(rule, options))?;
    Ok(config)
}

/// Has a rule's views go where those of all rules go, too.
fn place_views(rule: &mut InlineRule, options: &Inline) -> Result<(), Failure> {
    if rule.views.is_empty() {
        return Ok(());
    }
    rule.to.extend(options.write.as_deref().map(pcap));
    match rule.to.is_empty() && options.archive.is_none() {
        false => Ok(()),
        true => Err(Failure::Usage(format!(
            "rule {}: its views go nowhere; add `to = [\"pcap:FILE\"]`, or -w FILE or --archive DIR for all rules",
            rule.name
        ))),
    }
}

fn pcap(path: &Path) -> Group {
    Group(vec![Endpoint::Pcap { path: path.into() }])
}

fn of_options(short: &InlineShort, is_written: bool) -> Result<InlineConfig, Failure> {
    let missing = || Failure::Usage("name the interfaces: --in IF --out IF".into());
    let is_captured = is_written || !short.to.is_empty();
    let rule = |rule: &InlineRule| {
        let mut rule = rule.clone();
        if is_captured {
            rule.views.clone_from(&short.view);
            rule.views.sort_unstable();
            rule.views.dedup();
            rule.to.clone_from(&short.to);
            rule.snapshot_length = short.snapshot_length;
        }
        rule
    };
    let config = InlineConfig {
        name: short.table.clone(),
        ingress: short.ingress.clone().ok_or_else(missing)?,
        egress: short.egress.clone().ok_or_else(missing)?,
        fail: match short.fail {
            Fail::Open => InlineFail::Open,
            Fail::Closed => InlineFail::Closed,
        },
        sessions: short.sessions,
        timeouts: InlineTimeouts::default(),
        rules: short.forward.iter().map(rule).collect(),
    };
    config.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(config)
}

/// Refuses a next host that is this host.
fn must_lead_away(config: &InlineConfig) -> Result<(), Failure> {
    let mut own = OwnAddresses::open()?;
    for InlineRule { name, next_host, .. } in &config.rules {
        if own.has(*next_host)? {
            return Err(Failure::Usage(format!(
                "rule {name}: next host {next_host} is this host itself, so that packets would go round in a \
                 circle; name the host that answers"
            )));
        }
    }
    Ok(())
}

/// Refuses sources that this host does not have: replies to them would not come to the kernel's programs.
fn must_be_ours(config: &InlineConfig) -> Result<(), Failure> {
    let mut own = OwnAddresses::open()?;
    for (name, source) in config.rules.iter().filter_map(|rule| Some((&rule.name, rule.source?))) {
        if !own.has(source)? {
            return Err(Failure::Usage(format!(
                "rule {name}: source {source} is no address of this host, as the kernel asks; add it: ip \
                 address add {source} dev {}",
                config.egress
            )));
        }
    }
    Ok(())
}

/// What is to be known of addresses that no host here has: the kernel forwards what comes to them, and answers
/// nobody who asks who has them. A line each, of those that `before` had not.
fn unanswered(
    config: &InlineConfig,
    before: Option<&InlineConfig>,
) -> Result<Vec<String>, Failure> {
    let mut known: BTreeSet<_> =
        before.iter().flat_map(|of| &of.rules).map(|rule| rule.address).collect();
    let mut own = OwnAddresses::open()?;
    let mut lines = Vec::new();
    for InlineRule { name, address, .. } in &config.rules {
        if known.insert(*address) && !own.has(*address)? {
            lines.push(format!(
                "rule {name}: {address} is no address of this host, so that nobody answers here who asks for \
                 it by ARP or neighbour discovery; route it here, or add it: ip address add {address} dev {}",
                config.ingress
            ));
        }
    }
    Ok(lines)
}

/// Refuses addresses for which the kernel would answer, too, where it is not the one that forwards.
fn must_be_nobodys(config: &InlineConfig) -> Result<(), Failure> {
    if let Some(rule) = config.rules.iter().find(|rule| rule.source.is_none()) {
        return Err(Failure::Usage(format!(
            "rule {}: in user space the next host must see an address that no host has, as the \
             kernel would answer replies to its own; add source=ADDRESS, an unused one of the network \
             behind {}",
            rule.name, config.egress
        )));
    }
    let is_both =
        |rule: &&InlineRule| config.rules.iter().any(|other| rule.source == Some(other.address));
    let both = config.rules.iter().find(is_both).filter(|_| config.ingress == config.egress);
    if let Some(InlineRule { name, source: Some(source), .. }) = both {
        return Err(Failure::Usage(format!(
            "rule {name}: source {source} is the address of a rule, too, so that what comes to it on {} \
             could be a client's or a next host's; name another one",
            config.ingress
        )));
    }
    match own_addresses(config)?.first() {
        None => Ok(()),
        Some(own) => Err(Failure::Usage(format!(
            "{own} is an address of this host, for which the kernel answers, too; in user space use one \
             that no host has, or remove it: ip address del {own} dev IF"
        ))),
    }
}

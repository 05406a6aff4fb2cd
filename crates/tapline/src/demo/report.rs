//! What the demo prints: the table while it runs, and the account at the end.

use super::balance::Balance;
use super::check::Verdict;
use super::files::Archive;
use super::finding::Finding;
use super::plan::{self, CLIENTS, RULES, SINKS, VICTIM, client_name, source_name};
use super::process::Usage;
use super::scene::{Ledgers, Outage};
use super::store::Store;
use api::{Drops, Stats};
use std::io::{Result, Write};
use std::path::Path;
use std::time::Duration;

/// What there is to see.
pub fn scene(out: &mut impl Write, folder: &Path) -> Result<()> {
    writeln!(out, "{}", plan::SCENE_TEXT.trim_matches('\n'))?;
    writeln!(
        out,
        "\n  {}; the first rule that fits decides:",
        folder.join("rules.toml").display()
    )?;
    for (number, rule) in (1..).zip(&RULES) {
        writeln!(out, "    {number} {}", rule.summary())?;
    }
    writeln!(out)
}

/// The head of the table.
pub const TABLE_HEAD: &str = concat!(
    "         │     clients      │     the three taps          │      sink-a       ",
    "│      sink-b       │\n",
    "    time │ requests answers │    seen  filtered   matched │    sent  received ",
    "│    sent  received │ dropped",
);

/// One row of the table. `before` is what the killed sink had received.
pub fn row(
    out: &mut impl Write,
    elapsed: Duration,
    (requests, bytes): (u64, u64),
    ledgers: &Ledgers,
    before: u64,
) -> Result<()> {
    let sum = |of: fn(&Stats) -> u64| ledgers.taps.iter().map(of).sum::<u64>();
    let mut row = format!(
        "{:6.1} s │ {:>7} {:5.1} MB │ {:>7} {:>9} {:>9} │",
        elapsed.as_secs_f64(),
        grouped(requests),
        bytes as f64 / 1e6,
        grouped(sum(|tap| tap.seen.unwrap_or(0))),
        grouped(sum(|tap| tap.filtered.unwrap_or(0))),
        grouped(sum(|tap| tap.matched)),
    );
    for (sink, ledger) in ledgers.sinks.iter().enumerate() {
        let received = match ledger {
            Some(ledger) if sink == VICTIM => grouped(before + ledger.received),
            Some(ledger) => grouped(ledger.received),
            None => "down".into(),
        };
        row += &format!(" {:>7} {received:>9} │", grouped(ledgers.sent_to(sink)));
    }
    let dropped_at_sinks: u64 = ledgers.sinks.iter().flatten().map(|l| l.drops.total()).sum();
    writeln!(out, "{row} {:>7}", grouped(sum(|tap| tap.drops.total()) + dropped_at_sinks))
}

/// The ledger of each tap and sink, each line with the name of its host.
pub fn ledgers(out: &mut impl Write, ledgers: &Ledgers, outage: Option<&Outage>) -> Result<()> {
    writeln!(out, "\nLedger")?;
    for (client, ledger) in ledgers.taps.iter().enumerate() {
        let mut ledger = ledger.clone();
        ledger.taps.iter_mut().for_each(|tap| tap.name += &format!(" of {}", client_name(client)));
        write!(out, "{ledger}")?;
    }
    for (sink, ledger) in ledgers.sinks.iter().enumerate() {
        let again = if sink == VICTIM && outage.is_some() { ", started again" } else { "" };
        if let Some(mut ledger) = ledger.clone() {
            let of = format!(" at {}{again}", SINKS[sink].name);
            ledger.sources.iter_mut().for_each(|source| source.name += &of);
            write!(out, "{ledger}")?;
        }
    }
    Ok(())
}

/// How many packets each rule decided at each tap.
pub fn rules(out: &mut impl Write, ledgers: &Ledgers) -> Result<()> {
    let names: String = (0..CLIENTS).map(|client| format!("{:>11}", client_name(client))).collect();
    writeln!(out, "\nRules, and the packets that each decided          {names}")?;
    for (number, rule) in (1..).zip(&RULES) {
        let hits = ledgers.taps.iter().map(|tap| grouped(tap_hits(tap, number)));
        let hits: String = hits.map(|hits| format!("{hits:>11}")).collect();
        writeln!(out, "  {number} {}{hits}", rule.summary())?;
    }
    Ok(())
}

/// Packets that a rule, counted from 1, decided at a tap.
pub fn tap_hits(tap: &Stats, number: u32) -> u64 {
    let rules = tap.taps.iter().flat_map(|tap| &tap.rules);
    rules.filter(|rule| rule.index == number).map(|rule| rule.hits).sum()
}

/// What became of what was sent to each sink, with the loss and its name.
pub fn balances(out: &mut impl Write, balances: &[Balance], outage: Option<&Outage>) -> Result<()> {
    writeln!(out, "\nNetwork between taps and sinks")?;
    for (sink, balance) in balances.iter().enumerate() {
        let name = SINKS[sink].name;
        let Balance { sent, received, found, lost, .. } = balance;
        let (sent, received) = (grouped(*sent), grouped(*received));
        match outage.filter(|_| sink == VICTIM) {
            None => writeln!(out, "{name}: sent {sent}, received {received}: {lost} lost")?,
            Some(outage) => {
                writeln!(
                    out,
                    "{name}: sent {sent}, left in files by the killed process {}, received by the \
                     next one {received}: {} lost",
                    grouped(*found),
                    grouped(lost.unsigned_abs())
                )?;
                self::outage(out, name, balance, outage)?;
            }
        }
        if balance.not_sent.total() > 0 {
            writeln!(out, "    counted at the taps and not sent: {}", reasons(&balance.not_sent))?;
        }
    }
    Ok(())
}

fn outage(out: &mut impl Write, name: &str, balance: &Balance, outage: &Outage) -> Result<()> {
    let time = match outage.duration() {
        Some(down) => format!("{:.1} s", down.as_secs_f64()),
        None => "until the end".into(),
    };
    writeln!(
        out,
        "    {name} was down {time}: {} packets sent to it were lost on the network, as nobody listened",
        grouped(balance.while_down.unsigned_abs())
    )?;
    if let Some(restart) = &outage.restart {
        let sent = grouped(restart.sent.saturating_sub(outage.sent_before));
        writeln!(
            out,
            "        (the taps sent {sent} to it from just before the kill to just after the restart)"
        )?;
    }
    match balance.unflushed {
        0 => writeln!(
            out,
            "    every packet that the killed process had received stands in its files"
        )?,
        packets => writeln!(
            out,
            "    {} packets had come, and were not yet in a file: the last second of the killed \
             process",
            grouped(packets)
        )?,
    }
    if balance.after_restart > 0 {
        writeln!(
            out,
            "    {} packets were lost on the network after it was started again",
            grouped(balance.after_restart)
        )?;
    }
    Ok(())
}

fn reasons(drops: &Drops) -> String {
    let each = drops.iter().map(|(reason, packets)| format!("{reason} {}", grouped(packets)));
    each.collect::<Vec<_>>().join(", ")
}

/// A line for each series of segments.
pub fn files(out: &mut impl Write, folder: &Path, archives: &[Archive]) -> Result<()> {
    writeln!(out, "\nFiles, below {}", folder.display())?;
    writeln!(out, "  sink    source               segments  packets       MB")?;
    for (sink, archive) in archives.iter().enumerate() {
        for client in 0..CLIENTS {
            let source = source_name(client);
            let segments = archive.segments.iter().filter(|segment| segment.source == source);
            let (mut files, mut packets, mut bytes, mut open) = (0, 0, 0, 0);
            for segment in segments {
                files += 1;
                packets += segment.packets;
                bytes += segment.bytes;
                open += u64::from(segment.is_open);
            }
            let note = match open {
                0 => String::new(),
                n => format!("   {n} as the killed process left it"),
            };
            writeln!(
                out,
                "  {}  {source:<20} {files:>8} {:>8} {:>8.1}{note}",
                SINKS[sink].name,
                grouped(packets),
                bytes as f64 / 1e6
            )?;
        }
    }
    Ok(())
}

/// What the processes used.
pub fn usages(out: &mut impl Write, usages: &[(String, Usage)]) -> Result<()> {
    writeln!(out, "\nResources                       CPU time   of a core   peak memory")?;
    for (name, Usage { lived, cpu, memory_bytes_max }) in usages {
        let percent = 100.0 * cpu.as_secs_f64() / lived.as_secs_f64();
        writeln!(
            out,
            "  {name:<28} {:>7.2} s {percent:>9.1} % {:>10.1} MB",
            cpu.as_secs_f64(),
            *memory_bytes_max as f64 / 1e6
        )?;
    }
    Ok(())
}

/// What the connections in the files show.
pub fn verdict(out: &mut impl Write, verdict: &Verdict, connections: usize) -> Result<()> {
    writeln!(out, "\nConnections between clients and server, put together again from the files")?;
    for (sink, whole) in verdict.whole.iter().enumerate() {
        writeln!(out, "  {:>6} whole on {}, both directions", grouped(*whole), SINKS[sink].name)?;
    }
    if verdict.cut > 0 {
        writeln!(out, "  {:>6} cut by the outage of {}", grouped(verdict.cut), SINKS[VICTIM].name)?;
    }
    writeln!(out, "  {:>6} in all, no packet of one on two sinks", grouped(connections as u64))?;
    Ok(())
}

/// What a search for one connection gave.
pub fn finding(out: &mut impl Write, finding: &Finding) -> Result<()> {
    let Finding { command, said, packets, is_whole, .. } = finding;
    writeln!(out, "\nOne of them, looked for in the archive")?;
    writeln!(out, "  {command}")?;
    said.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
    let whole = if *is_whole { "the connection, whole, both directions" } else { "not all of it" };
    writeln!(out, "  {} packets: {whole}", grouped(*packets))
}

/// What is said of a demo that was ended before anything happened.
pub fn nothing(out: &mut impl Write) -> Result<()> {
    writeln!(out, "\nInterrupted before the first download was done.")
}

/// Commands to go on with, and the last word.
pub fn success(
    out: &mut impl Write,
    folder: &Path,
    store: &Store,
    archives: &[Archive],
    verdict: &Verdict,
) -> Result<()> {
    let segments = archives.iter().flat_map(|archive| &archive.segments);
    if let Some(file) = segments.filter(|segment| !segment.is_open).max_by_key(|s| s.packets) {
        let file = file.path.strip_prefix(folder).unwrap_or(&file.path).display();
        // It need not be on the PATH.
        let tapline = std::env::current_exe().unwrap_or_else(|_| "tapline".into());
        let tapline = tapline.display();
        writeln!(out, "\nTry next")?;
        writeln!(out, "  cd '{}'", folder.display())?;
        writeln!(out, "  f='{file}'")?;
        writeln!(out, "  tshark -r \"$f\" -Y http.request      # or open it with Wireshark")?;
        writeln!(out, "  '{tapline}' capture -r \"$f\" 'tcp[tcpflags] & tcp-syn != 0'")?;
        let archive = store.objects().strip_prefix(folder).unwrap_or(store.objects()).display();
        writeln!(out, "  '{tapline}' search --archive '{archive}' --format flows 'tcp port 80'")?;
        writeln!(out, "  '{tapline}' archive verify --deep --archive '{archive}'")?;
        writeln!(out, "  '{tapline}' filter test --rules rules.toml -r \"$f\"")?;
    }
    writeln!(
        out,
        "\nAll is accounted for: {} requests and {:.1} MB of answers stand whole in the files, and \
         what is missing has a name.",
        grouped(verdict.requests),
        verdict.bytes as f64 / 1e6
    )
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let widths = TABLE_HEAD.lines().map(|line| line.chars().count());
        assert!(widths.max() <= Some(110));
    }
}

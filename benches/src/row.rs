//! Rows of the result, as a table and as JSON lines.

use crate::timing::{Timing, median};
use serde::Serialize;
use std::io::Write;

/// The unit of a row's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Nanoseconds a packet: less is better.
    #[serde(rename = "ns/packet")]
    NsPerPacket,
    /// Microseconds: less is better.
    #[serde(rename = "µs")]
    Microseconds,
    /// Milliseconds: less is better.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Thousands of packets a second: more is better.
    #[serde(rename = "kpackets/s")]
    KiloPackets,
    /// Millions of packets a second: more is better.
    #[serde(rename = "Mpackets/s")]
    MegaPackets,
    /// Millions of bytes a second: more is better.
    #[serde(rename = "MB/s")]
    MegaBytes,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::NsPerPacket => "ns/packet",
            Unit::Microseconds => "µs",
            Unit::Milliseconds => "ms",
            Unit::KiloPackets => "kpackets/s",
            Unit::MegaPackets => "Mpackets/s",
            Unit::MegaBytes => "MB/s",
        }
    }
}

/// What one subject did in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is measured.
    pub bench: String,
    /// Sizes, rates and such.
    pub case: String,
    /// tapline or a peer.
    pub subject: String,
    /// The unit of `median` and `best`.
    pub unit: Unit,
    /// Median over the repetitions; `None` where it was skipped.
    pub median: Option<f64>,
    /// The best repetition.
    pub best: Option<f64>,
    /// Every run's value, in their order; empty for what is timed in batches.
    pub each: Vec<f64>,
    /// This median by the peer's, for the first subject of a case.
    pub to_peer: Option<f64>,
    /// Packets, and the cost at the sending end.
    #[serde(flatten)]
    pub traffic: Option<Traffic>,
    /// What else is to be known, such as why it was skipped.
    pub note: Option<String>,
}

/// What became of the packets of a case: medians over the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// Packets that the generator put on the link, in one run.
    pub offered: u64,
    /// Those that were found at the far end.
    pub captured: u64,
    /// The rest: the median run's, and the worst run's.
    pub dropped: u64,
    /// The worst run's.
    pub dropped_worst: u64,
    /// CPU time of the generator's system calls, ns a packet: the device and all that hangs on it.
    pub sender_ns: f64,
    /// Packets a second that the generator reached.
    pub pps: u64,
}

impl Row {
    /// A row of a small function that was timed; `amount` turns a call's nanoseconds into the unit.
    pub fn timed(
        bench: &str,
        case: &str,
        subject: &str,
        unit: Unit,
        timing: Timing,
        amount: impl Fn(f64) -> f64,
    ) -> Row {
        Row {
            median: Some(amount(timing.median_ns)),
            best: Some(amount(timing.least_ns)),
            ..Row::skipped(bench, case, subject, unit, None)
        }
    }

    /// A row without a value, and why.
    pub fn skipped(bench: &str, case: &str, subject: &str, unit: Unit, why: Option<String>) -> Row {
        Row {
            bench: bench.into(),
            case: case.into(),
            subject: subject.into(),
            unit,
            median: None,
            best: None,
            each: Vec::new(),
            to_peer: None,
            traffic: None,
            note: why.map(|why| format!("skipped: {why}")),
        }
    }

    /// Adds a note.
    pub fn note(mut self, note: &str) -> Row {
        self.note = Some(note.into());
        self
    }
}

/// Sets the first row's ratio to the second, its peer.
pub fn compare(rows: &mut [Row]) {
    if let [ours, peer, ..] = rows
        && let (Some(a), Some(b)) = (ours.median, peer.median)
        && b > 0.0
    {
        ours.to_peer = Some(a / b);
    }
}

/// Median of a count over runs.
pub fn median_count(values: impl Iterator<Item = u64>) -> u64 {
    let values: Vec<f64> = values.map(|v| v as f64).collect();
    median(&values).unwrap_or(0.0).round() as u64
}

const HEAD: [&str; 12] = [
    "benchmark",
    "case",
    "subject",
    "median",
    "best",
    "unit",
    "to peer",
    "offered",
    "captured",
    "dropped",
    "sender ns",
    "note",
];
/// Columns from here on hold numbers, and stand at the right, but for the unit and the note.
const NUMBERS: [usize; 7] = [3, 4, 6, 7, 8, 9, 10];

/// Lays the rows out as a table in Markdown, which is also easily read as it is.
pub fn table(rows: &[Row]) -> String {
    let mut cells: Vec<[String; 12]> = vec![HEAD.map(String::from)];
    cells.extend(rows.iter().map(cells_of));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|c| width(c).unwrap_or(0)).collect();
    let mut text = String::new();
    for (line, row) in cells.iter().enumerate() {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            text += &match NUMBERS.contains(&column) {
                true => format!("| {cell:>width$} "),
                false => format!("| {cell:width$} "),
            };
        }
        text += "|\n";
        if line == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let end = if NUMBERS.contains(&column) { ":" } else { "-" };
                text += &format!("|-{}{end}", "-".repeat(width));
            }
            text += "|\n";
        }
    }
    text
}

fn cells_of(row: &Row) -> [String; 12] {
    let value = |v: Option<f64>| v.map(number).unwrap_or_default();
    let traffic = |get: fn(&Traffic) -> String| row.traffic.as_ref().map(get).unwrap_or_default();
    [
        row.bench.clone(),
        row.case.clone(),
        row.subject.clone(),
        value(row.median),
        value(row.best),
        row.unit.text().into(),
        row.to_peer.map(ratio).unwrap_or_default(),
        traffic(|t| t.offered.to_string()),
        traffic(|t| t.captured.to_string()),
        traffic(|t| t.dropped.to_string()),
        traffic(|t| number(t.sender_ns)),
        row.note.clone().unwrap_or_default(),
    ]
}

fn ratio(value: f64) -> String {
    if value.abs() < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") }
}

/// Three or so digits that count.
fn number(value: f64) -> String {
    match value {
        v if v.abs() < 10.0 => format!("{v:.2}"),
        v if v.abs() < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Writes one JSON object a line.
///
/// # Errors
/// If the writer fails.
pub fn json_lines(rows: &[Row], mut to: impl Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut to, row)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let timing = |median_ns| Timing { median_ns, least_ns: median_ns / 2.0 };
        let row = |subject, ns| {
            Row::timed("parse", "64 B", subject, Unit::NsPerPacket, timing(ns), |ns| ns)
        };
        let why = Some("not installed".into());
        let mut rows = vec![row("tapline", 20.0), row("peer", 80.0)];
        compare(&mut rows);
        rows.push(Row::skipped("parse", "64 B", "other", Unit::MegaPackets, why));
        rows
    }

    #[test]
    fn a_table_has_its_columns_under_each_other() {
        let text = table(&rows());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[2].contains("|   20.0 | 10.0 | ns/packet  |    0.25 |"), "{text}");
        assert!(lines[4].contains("skipped: not installed"), "{text}");
    }

    #[test]
    fn a_row_is_one_line_of_json() {
        let mut bytes = Vec::new();
        json_lines(&rows(), &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 3);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["unit"], &first["to_peer"]), (&"ns/packet".into(), &0.25.into()));
    }
}

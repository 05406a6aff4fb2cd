//! Rates as lines of text: for a terminal, and for those who have none.

use super::rates::{Kind, Process, Row};
use std::fmt::Write;

/// What a line is, for who has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A process.
    Title,
    /// The heads of columns.
    Heads,
    /// A row in which all is well.
    Row,
    /// A row that drops now, or is not alive; and the reasons below it.
    Trouble,
}

/// Longest name that is shown whole.
const NAME_CHARS_MAX: usize = 40;
const NAME_CHARS_MIN: usize = 16;
/// Words of the kinds of rows, and the space behind them.
const KIND_CHARS: usize = 8;

/// All processes, a blank line between them.
pub fn plain(processes: &[Process]) -> String {
    if processes.is_empty() {
        return format!("{NOBODY}\n\n");
    }
    let mut text = String::new();
    for (_, line) in lines(processes) {
        text += line.trim_end();
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Said where there is nothing to show.
pub const NOBODY: &str = "no tapline runs on this host";

/// The lines of all processes.
pub fn lines(processes: &[Process]) -> Vec<(Role, String)> {
    let rows = processes.iter().flat_map(|process| &process.rows);
    let longest = rows.map(|row| row.name.chars().count()).max().unwrap_or(0);
    let name_chars = longest.clamp(NAME_CHARS_MIN, NAME_CHARS_MAX);
    let mut lines = Vec::new();
    for process in processes {
        if !lines.is_empty() {
            lines.push((Role::Row, String::new()));
        }
        lines.push((Role::Title, title(process)));
        if let Some(error) = &process.error {
            lines.push((Role::Trouble, format!("  {error}")));
            continue;
        }
        lines.push((Role::Heads, heads(name_chars)));
        for row in &process.rows {
            let is_trouble = !row.drops_per_second.is_empty() || row.healthy == Some(false);
            let role = if is_trouble { Role::Trouble } else { Role::Row };
            lines.push((role, line(row, name_chars)));
            if !row.drops.is_empty() {
                lines.push((role, reasons(row)));
            }
        }
    }
    lines
}

fn title(process: &Process) -> String {
    let mut title = format!("{} {}", process.command, process.pid);
    if let Some(name) = &process.name {
        let _ = write!(title, " {name}");
    }
    if process.error.is_none() {
        let _ = write!(title, "  up {}", uptime(process.uptime_ms / 1000));
    }
    if let Some(config) = &process.config {
        let _ = write!(title, "  {config}");
    }
    if process.unaccounted > 0 {
        let _ = write!(title, "  {} UNACCOUNTED", process.unaccounted);
    }
    title
}

fn heads(name_chars: usize) -> String {
    let width = KIND_CHARS + name_chars;
    format!(
        "  {:width$} {:>8} {:>8} {:>8} {:>9} {:>8} {:>7}  state",
        "", "in pps", "in bit/s", "out pps", "out bit/s", "drop/s", "queue"
    )
}

fn line(row: &Row, name_chars: usize) -> String {
    let kind = match row.kind {
        Kind::Source => "source",
        Kind::Tap => "tap",
        Kind::Stage => "stage",
        Kind::Target => "target",
        Kind::Interface => "nic",
    };
    // The ledger's line of a broker's map says itself what it is.
    let (kind, name) = match (row.kind, row.name.split_once(' ')) {
        (Kind::Tap, Some(("map", name))) => ("map", name),
        (Kind::Tap, Some(("target", name))) => ("choose", name),
        _ => (kind, row.name.as_str()),
    };
    let drops =
        row.pps_in.or(row.pps_out).map(|_| row.drops_per_second.values().fold(0.0, |a, b| a + b));
    let state = match (row.kind, row.healthy) {
        (_, None) => "",
        (_, Some(true)) => "up",
        (_, Some(false)) => "DOWN",
    };
    format!(
        "  {kind:KIND_CHARS$}{:name_chars$} {:>8} {:>8} {:>8} {:>9} {:>8} {:>7}  {state}",
        shortened(name, name_chars),
        rate(row.pps_in),
        rate(row.bps_in),
        rate(row.pps_out),
        rate(row.bps_out),
        rate(drops),
        queue(row)
    )
}

/// What was dropped, by reason: in all, and now.
fn reasons(row: &Row) -> String {
    let reason = |(reason, packets): (&String, &u64)| match row.drops_per_second.get(reason) {
        Some(now) => format!("{reason} {packets} ({}/s)", rate(Some(*now))),
        None => format!("{reason} {packets}"),
    };
    let reasons: Vec<String> = row.drops.iter().map(reason).collect();
    format!("  {:KIND_CHARS$}dropped: {}", "", reasons.join(", "))
}

/// How full a queue is: in percent, or packets where its bound is not known.
fn queue(row: &Row) -> String {
    match (row.queue_bytes_max, row.queued) {
        (0, 0) => String::new(),
        (0, packets) => rate(Some(packets as f64)),
        (max, _) => format!("{:.0}%", row.queue_bytes as f64 * 100.0 / max as f64),
    }
}

/// A number of three digits and its unit: `0`, `0.25`, `999`, `1.23k`, `45.6M`.
fn rate(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".into() };
    let mut value = value;
    for unit in ["", "k", "M", "G", "T"] {
        // 999.5 would be shown as 1000.
        if value < 999.5 || unit == "T" {
            let digits = match value {
                v if v == v.trunc() && unit.is_empty() => 0,
                v if v < 9.995 => 2,
                v if v < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1000.0;
    }
    String::new()
}

/// `3d 04:05:06`, without days that are none.
fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

/// A name of so many characters at most; the middle of a longer one is left out, as its begin and its
/// end tell more.
fn shortened(name: &str, chars: usize) -> String {
    let count = name.chars().count();
    if count <= chars {
        return name.into();
    }
    let head = (chars - 1) / 2;
    let tail = chars - 1 - head;
    let begin: String = name.chars().take(head).collect();
    let end: String = name.chars().skip(count - tail).collect();
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::tests::{sampled, status};

    #[test]
    fn numbers_have_three_digits() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (9.999, "10.0"),
            (7.0, "7"),
            (999.0, "999"),
            (999.7, "1.00k"),
            (1234.0, "1.23k"),
            (45_600.0, "45.6k"),
            (812_345.0, "812k"),
            (999_999.0, "1.00M"),
            (9.87e9, "9.87G"),
            (1e16, "10000T"),
        ] {
            assert_eq!(rate(Some(value)), wanted);
        }
        assert_eq!(rate(None), "-");
        assert_eq!((uptime(59), uptime(273_906)), ("00:00:59".into(), "3d 04:05:06".into()));
        assert_eq!(shortened("vxlan://10.0.0.1", 9), "vxla….0.1");
        assert_eq!(shortened("äöü", 3), "äöü");
    }

    #[test]
    fn lines_say_what_goes_through_and_what_is_lost() {
        let text = plain(&sampled(status(10), status(12)));
        let wanted = "\
broker 4711 east  up 00:00:12  /etc/tapline/broker.toml
                             in pps in bit/s  out pps out bit/s   drop/s   queue  state
  source  left                1.00k    8.00M    1.00k         -        0
  map     web                 1.00k        -    1.00k         -        0
  stage   map web tag         1.00k        -    1.00k         -        0
  target  ids nic:eth3        1.00k        -      500         -      500     75%  up
          dropped: queue_full 6000 (500/s)
  target  null:               1.00k        -    1.00k         -        0
  target  null:               1.00k        -    1.00k         -        0
  nic     eth1                1.00k    8.11M        0         0        0          DOWN
          dropped: rx_dropped 7

";
        assert_eq!(text, wanted);
        assert_eq!(plain(&[]), "no tapline runs on this host\n\n");
    }
}

//! What a check has found.

use serde::Serialize;
use std::fmt::Write as _;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Something works less well, or not at all, that not everybody needs.
    Warning,
    /// No tap works, or not the one that was asked about.
    Fault,
}

/// One check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// How bad it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// Why it matters; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How to mend it; empty where there is nothing to mend.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    pub fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        let (why, mend) = (String::new(), String::new());
        Finding { check, state: State::Ok, what: what.into(), why, mend }
    }

    pub fn warning(
        check: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        let (what, why, mend) = (what.into(), why.into(), mend.into());
        Finding { check, state: State::Warning, what, why, mend }
    }

    /// The same, only worse.
    pub fn fault(
        check: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding { state: State::Fault, ..Finding::warning(check, what, why, mend) }
    }
}

/// A line for each, why and mend below it; at the end how many there are.
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, state, what, why, mend } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Fault => "fault",
        };
        let _ = writeln!(text, "{state:7}  {check:width$}  {what}");
        for (word, of) in [("why", why), ("mend", mend)] {
            if !of.is_empty() {
                let _ = writeln!(text, "{:7}  {:width$}  {word}: {of}", "", "");
            }
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let _ = writeln!(
        text,
        "{} checks: {} ok, {} warnings, {} faults",
        findings.len(),
        count(State::Ok),
        count(State::Warning),
        count(State::Fault)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_says_why_and_how_to_mend_it() {
        let findings = [
            Finding::ok("kernel", "Linux 6.18"),
            Finding::warning("rp_filter", "strict on eth1", "packets are dropped", "sysctl"),
            Finding::fault("tap", "eth9 is not there", "it cannot be tapped", ""),
        ];
        let wanted = "\
ok       kernel     Linux 6.18
warning  rp_filter  strict on eth1
                    why: packets are dropped
                    mend: sysctl
fault    tap        eth9 is not there
                    why: it cannot be tapped
3 checks: 1 ok, 1 warnings, 1 faults
";
        assert_eq!(text(&findings), wanted);
        let json = serde_json::to_string(&findings[0]).unwrap();
        assert_eq!(json, r#"{"check":"kernel","state":"ok","what":"Linux 6.18"}"#);
    }
}

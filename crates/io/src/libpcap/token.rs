//! Words of a pcap-filter expression, with where they stand.
//!
//! Cuts an expression where libpcap's own scanner does, as far as error columns need it. Names
//! keep their dots and dashes (`tcp-syn`, `1.2.3.4`), addresses their colons outside of `[…]`.

use core::ops::Range;

/// Byte ranges of the words of an expression, in order, never empty.
pub(super) fn tokens(expression: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut brackets = 0usize;
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            c if c.is_ascii_whitespace() => {
                rest = &rest[1..];
                continue;
            }
            c if is_name(c) || (c == ':' && brackets == 0) => {
                let is_part = |c| is_name(c) || (c == ':' && brackets == 0);
                let run = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                // A name does not end in a dash: `tcp[0]-1` subtracts.
                rest[..run].trim_end_matches(['-', '_']).len().max(1)
            }
            '\\' => rest
                .find(|c: char| c.is_ascii_whitespace() || "!()".contains(c))
                .unwrap_or(rest.len()),
            '<' | '>' | '=' | '!' | '&' | '|'
                if ["<=", ">=", "==", "!=", "<<", ">>", "&&", "||"]
                    .contains(&rest.get(..2).unwrap_or("")) =>
            {
                2
            }
            c => {
                match c {
                    '[' => brackets += 1,
                    ']' => brackets = brackets.saturating_sub(1),
                    _ => {}
                }
                c.len_utf8()
            }
        };
        let start = expression.len() - rest.len();
        found.push(start..start + len);
        rest = &rest[len..];
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '$')
}

/// The keyword that a misspelt word is nearest to, if one is near: one edit for a short word, two
/// for one of six letters or more.
pub(super) fn nearest_keyword(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    if !(2..=16).contains(&word.len()) || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let limit = if word.len() < 6 { 1 } else { 2 };
    KEYWORDS
        .iter()
        .map(|keyword| (edits(word.as_bytes(), keyword.as_bytes()), *keyword))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, keyword)| keyword)
}

/// Keywords of pcap-filter(7) that people type; the first of equally near ones wins.
const KEYWORDS: [&str; 46] = [
    "and",
    "or",
    "not",
    "host",
    "port",
    "net",
    "src",
    "dst",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "ether",
    "proto",
    "portrange",
    "vlan",
    "mpls",
    "broadcast",
    "multicast",
    "greater",
    "less",
    "len",
    "mask",
    "gateway",
    "sctp",
    "esp",
    "ah",
    "igmp",
    "pim",
    "vrrp",
    "pppoes",
    "pppoed",
    "geneve",
    "protochain",
    "link",
    "wlan",
    "inbound",
    "outbound",
    "stp",
    "llc",
    "fddi",
    "carp",
];

/// Edits (insert, delete, replace, swap of neighbours) from one word to another.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(expression: &str) -> Vec<&str> {
        tokens(expression).into_iter().map(|range| &expression[range]).collect()
    }

    #[test]
    fn expressions_are_cut_as_libpcap_cuts_them() {
        assert_eq!(words("tcp port 80"), ["tcp", "port", "80"]);
        assert_eq!(words(" not(ip)"), ["not", "(", "ip", ")"]);
        assert_eq!(words("ip[2:2]>=0x10"), ["ip", "[", "2", ":", "2", "]", ">=", "0x10"]);
        assert_eq!(
            words("tcp[tcpflags]&tcp-syn!=0"),
            ["tcp", "[", "tcpflags", "]", "&", "tcp-syn", "!=", "0"]
        );
        assert_eq!(words("ip6 net 2001:db8::/32"), ["ip6", "net", "2001:db8::", "/", "32"]);
        assert_eq!(words("ether host 00:11:22:33:44:55"), ["ether", "host", "00:11:22:33:44:55"]);
        assert_eq!(
            words("ip proto \\tcp&&!arp"),
            ["ip", "proto", "\\tcp&&"].into_iter().chain(["!", "arp"]).collect::<Vec<_>>()
        );
        assert_eq!(words("é ip"), ["é", "ip"]);
        assert_eq!(words("len-"), ["len", "-"]);
        assert_eq!(words(" \t\n"), Vec::<&str>::new());
    }

    #[test]
    fn a_typing_slip_finds_its_keyword() {
        assert_eq!(nearest_keyword("adn"), Some("and"));
        assert_eq!(nearest_keyword("hots"), Some("host"));
        assert_eq!(nearest_keyword("protrange"), Some("portrange"));
        assert_eq!(nearest_keyword("TPC"), Some("tcp"));
        assert_eq!(nearest_keyword("host"), None);
        assert_eq!(nearest_keyword("example"), None);
        assert_eq!(nearest_keyword("10.0.0.1"), None);
    }
}

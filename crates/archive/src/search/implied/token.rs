//! Words of a pcap-filter expression.

use std::net::Ipv6Addr;

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, a name, a number or a dotted address.
    Word(&'a str),
    /// A name behind a backslash, which is no keyword.
    Escaped(&'a str),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// An Ethernet address.
    Mac,
    /// An operator, a bracket.
    Sign(&'a str),
}

/// Longest first.
const SIGNS: [&str; 25] = [
    "&&", "||", "!=", ">=", "<=", "==", "<<", ">>", "!", "(", ")", "[", "]", "<", ">", "=", "+",
    "-", "*", "/", "%", "^", "&", "|", ":",
];

/// Takes an expression apart; `None` if it holds something that is not known here.
pub(super) fn tokens(mut text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    loop {
        text = text.trim_ascii_start();
        let Some(first) = text.bytes().next() else { return Some(tokens) };
        let (token, len) = if let Some((token, len)) = with_colons(text) {
            (token?, len)
        } else if first == b'\\' {
            let name = &text[1..];
            let len = name.find([' ', '!', '(', ')', '\n', '\t']).unwrap_or(name.len());
            (Token::Escaped(&name[..len]), 1 + len)
        } else if first.is_ascii_alphanumeric() {
            let len = word_len(text);
            (Token::Word(&text[..len]), len)
        } else {
            let sign = SIGNS.into_iter().find(|sign| text.starts_with(sign))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push(token);
        text = &text[len..];
    }
}

/// An address with colons, if the text begins with something that can be none but one.
fn with_colons(text: &str) -> Option<(Option<Token<'_>>, usize)> {
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    let len = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let run = &text[..len];
    if !run.contains("::") && run.matches(':').count() < 2 {
        return None;
    }
    let is_mac = run.split(':').count() == 6
        && run.split(':').all(|part| (1..=2).contains(&part.len()) && !part.contains('.'));
    let token = match run.parse() {
        Ok(address) => Some(Token::V6(address)),
        Err(_) => is_mac.then_some(Token::Mac),
    };
    Some((token, len))
}

/// Letters and digits with `-`, `_` and `.` between them; `.` may end it.
fn word_len(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let len = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text[..len].trim_end_matches(['-', '_']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Token::{Escaped, Mac, Sign, V6, Word};

    #[test]
    fn expressions_are_taken_apart() {
        let v6 = |text: &str| V6(text.parse().unwrap());
        for (text, expected) in [
            ("tcp port 80", vec![Word("tcp"), Word("port"), Word("80")]),
            ("a&&!b", vec![Word("a"), Sign("&&"), Sign("!"), Word("b")]),
            ("portrange 1-10", vec![Word("portrange"), Word("1-10")]),
            ("tcp[13:1]-4", {
                let brackets = [Sign("["), Word("13"), Sign(":"), Word("1"), Sign("]")];
                [&[Word("tcp")], &brackets[..], &[Sign("-"), Word("4")]].concat()
            }),
            ("net fe80::/10", vec![Word("net"), v6("fe80::"), Sign("/"), Word("10")]),
            ("host ::1)", vec![Word("host"), v6("::1"), Sign(")")]),
            ("2001:db8:0:0:0:0:0:1", vec![v6("2001:db8::1")]),
            ("::ffff:1.2.3.4", vec![v6("::ffff:1.2.3.4")]),
            ("ether host 2:0:0:0:0:1", vec![Word("ether"), Word("host"), Mac]),
            ("proto \\tcp", vec![Word("proto"), Escaped("tcp")]),
            ("1.2.3.4", vec![Word("1.2.3.4")]),
        ] {
            assert_eq!(tokens(text), Some(expected), "{text}");
        }
        for text in ["$1", "é", "1:2:3", "a ; b", "_a"] {
            assert_eq!(tokens(text), None, "{text}");
        }
    }
}

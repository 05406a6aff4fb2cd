//! The words of a query: terms about what an archive knows of packets, then a pcap-filter expression
//! about their bytes.
//!
//! ```text
//! query  = [ terms ] [ [ "and" ] expression ]
//! terms  = term { [ "and" ] term | "or" term }        "or" only between terms of one kind
//! term   = "source" NAME | ( "vni" | "tunnel" ) ID | "flow" COMMUNITY-ID
//! ```

use std::collections::BTreeSet;

/// What the words ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Sources, of which any; `*` stands for any characters.
    pub sources: Vec<String>,
    /// VNIs, keys or sessions, of which any.
    pub tunnel_ids: Vec<u64>,
    /// Community ids, of which any.
    pub community_ids: Vec<String>,
    /// The expression; may be empty.
    pub expression: String,
}

/// What a term is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Source,
    Tunnel,
    Flow,
}

impl Kind {
    fn of(word: &str) -> Option<Kind> {
        match word {
            "source" => Some(Kind::Source),
            "vni" | "tunnel" => Some(Kind::Tunnel),
            "flow" => Some(Kind::Flow),
            _ => None,
        }
    }
}

impl Words {
    /// Reads the words of a command line; one argument may hold several.
    ///
    /// # Errors
    /// What is wrong with a term, and the mend. The expression is not looked into.
    pub fn read<A: AsRef<str>>(arguments: &[A]) -> Result<Words, String> {
        let text = arguments.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(" ");
        let (mut words, mut kinds) = (Words::default(), BTreeSet::new());
        let mut last = None;
        let mut rest = text.trim();
        loop {
            let (joint, after) = joint(rest);
            let (word, behind) = split(after);
            let Some(kind) = Kind::of(word) else {
                words.expression = expression(rest, last.is_some(), joint)?.to_owned();
                return Ok(words);
            };
            match (last, joint) {
                (None, Some(joint)) => {
                    return Err(format!("the query begins with `{joint}`; leave it out"));
                }
                (Some(last), Some("or" | "||")) if last != kind => {
                    return Err(format!(
                        "`or {word}`: only terms of one kind can be joined by `or`; search twice"
                    ));
                }
                (Some(_), Some("or" | "||")) => {}
                _ if !kinds.insert(kind) => {
                    return Err(format!(
                        "a packet has one `{word}`; join several by `or`, as in `{word} A or {word} B`"
                    ));
                }
                _ => {}
            }
            let (value, behind) = split(behind);
            words.add(kind, word, value)?;
            (last, rest) = (Some(kind), behind);
        }
    }

    fn add(&mut self, kind: Kind, word: &str, value: &str) -> Result<(), String> {
        let forms = match kind {
            Kind::Source => {
                "write source NAME, such as `source vxlan-71-10.71.2.2` or `source 'eth*'`"
            }
            Kind::Tunnel => "write the number, such as `vni 71` or `tunnel 0x47`",
            Kind::Flow => "write a community id, such as `flow 1:LQU9qZlK+B5F3KDmev6m5PMibrg=`",
        };
        if value.is_empty() {
            return Err(format!("nothing behind `{word}`; {forms}"));
        }
        match kind {
            Kind::Source => self.sources.push(value.into()),
            Kind::Tunnel => {
                let id = match value.strip_prefix("0x") {
                    Some(digits) => u64::from_str_radix(digits, 16),
                    None => value.parse(),
                };
                self.tunnel_ids.push(id.map_err(|_| format!("`{word} {value}`: {forms}"))?);
            }
            Kind::Flow => {
                // Version 1 is SHA-1 in base64.
                let digest = value.strip_prefix("1:").filter(|digest| {
                    let plain = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
                    let digits = digest.strip_suffix('=');
                    digits.is_some_and(|digits| digits.len() == 27 && digits.chars().all(plain))
                });
                digest.ok_or_else(|| format!("`{word} {value}`: {forms}"))?;
                self.community_ids.push(value.into());
            }
        }
        Ok(())
    }
}

/// What stands behind the terms. `rest` begins with `joint` if there is one.
fn expression<'a>(rest: &'a str, has_terms: bool, joint: Option<&str>) -> Result<&'a str, String> {
    let Some(joint) = joint.filter(|_| has_terms) else { return Ok(rest) };
    let behind = rest[joint.len()..].trim_start();
    match joint {
        "and" | "&&" if behind.is_empty() => Err(format!("nothing behind `{joint}`; leave it out")),
        "and" | "&&" => Ok(behind),
        _ => Err(format!(
            "`{joint}` between source, vni, flow and an expression: both must hold; write `and`, \
             or search twice"
        )),
    }
}

/// A word that joins, and what stands behind it.
fn joint(text: &str) -> (Option<&str>, &str) {
    match split(text) {
        (joint @ ("and" | "&&" | "or" | "||"), rest) => (Some(joint), rest),
        _ => (None, text),
    }
}

/// The first word and what stands behind it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// What to say beside libpcap's message: our terms stand in front.
pub fn hint(expression: &str) -> &'static str {
    let is_term = |word: &str| Kind::of(word.trim_matches(|c| "()!".contains(c))).is_some();
    match expression.split_whitespace().any(is_term) {
        true => "\n  source, vni, tunnel and flow stand in front of the expression",
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";

    fn read(text: &str) -> Result<Words, String> {
        Words::read(&[text])
    }

    #[test]
    fn terms_stand_in_front_of_the_expression() {
        let all = Words {
            sources: vec!["vxlan-71-10.71.2.2".into()],
            tunnel_ids: vec![71],
            community_ids: vec![FLOW.into()],
            expression: "tcp port 80".into(),
        };
        for text in [
            "source vxlan-71-10.71.2.2 vni 71 flow F tcp port 80",
            "flow F and source vxlan-71-10.71.2.2 && tunnel 0x47 and tcp port 80",
            "  vni 71   source vxlan-71-10.71.2.2 flow F  &&  tcp port 80 ",
        ] {
            let text = text.replace('F', FLOW);
            assert_eq!(read(&text).unwrap(), all, "{text}");
            let arguments: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(Words::read(&arguments).unwrap(), all, "{text}");
        }
        for text in ["", "not tcp", "(tcp or udp) and port 53", "host source.example"] {
            assert_eq!(read(text).unwrap(), Words { expression: text.into(), ..Words::default() });
        }
        assert_eq!(read("vni 1 (tcp)").unwrap().expression, "(tcp)");
        assert_eq!(read("vni 1 or vni 2 || tunnel 3 tcp").unwrap().tunnel_ids, [1, 2, 3]);
        assert_eq!(read("source a* or source b vni 1").unwrap().sources, ["a*", "b"]);
    }

    #[test]
    fn mistakes_say_the_mend() {
        for (text, mend) in [
            ("vni", "such as `vni 71`"),
            ("vni x tcp", "`vni x`"),
            ("vni 0xg", "such as `vni 71`"),
            ("source", "source NAME"),
            ("flow 1:abc=", "community id"),
            ("flow 2:LQU9qZlK+B5F3KDmev6m5PMibrg=", "community id"),
            ("vni 1 vni 2", "`vni A or vni B`"),
            ("source a and source b", "`source A or source B`"),
            ("source a or vni 1", "search twice"),
            ("vni 1 or tcp", "write `and`"),
            ("vni 1 and", "leave it out"),
            ("and vni 1", "leave it out"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(mend), "{text}: {error}");
        }
        assert!(hint("tcp and vni 7").contains("in front"));
        assert!(hint("tcp and (source a)").contains("in front"));
        assert_eq!(hint("tcp adn udp"), "");
    }
}

//! Names of ports, such as `http`.
//!
//! libpcap asks the system for them. The system's list is looked into here, and its answer believed only
//! if libpcap makes the same program of the number.

use io::libpcap::compile;
use wire::LinkType;

const LIST: &str = "/etc/services";

/// The port that a name means to libpcap, with this protocol or with any, if it means one.
pub(super) fn port(protocol: Option<&str>, name: &str) -> Option<u32> {
    let list = std::fs::read_to_string(LIST).ok()?;
    let number = number_in(&list, name)?;
    let program = |protocol: &str, value: &str| {
        compile(&format!("{protocol} port {value}"), LinkType::ETHERNET, 0).ok()
    };
    let named = program(protocol.unwrap_or_default(), name)?;
    // A name that only one protocol has means that one's port.
    let protocols = protocol.map_or(vec!["", "tcp", "udp"], |protocol| vec![protocol]);
    let number_text = number.to_string();
    let is_same = |protocol: &&str| program(protocol, &number_text).is_some_and(|p| p == named);
    protocols.iter().any(is_same).then_some(number)
}

/// Finds the first number of a name in lines of `name number/protocol aliases… # comment`.
fn number_in(list: &str, name: &str) -> Option<u32> {
    list.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_ascii_whitespace();
        let (first, number) = (words.next()?, words.next()?);
        let is_it = first == name || words.any(|alias| alias == name);
        number.split('/').next()?.parse().ok().filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_have_numbers() {
        let list = "# http 1/tcp\nhttp\t\t80/tcp\t\twww\t# the web\ndomain 53/tcp\n\nx\n";
        assert_eq!(number_in(list, "http"), Some(80));
        assert_eq!(number_in(list, "www"), Some(80));
        assert_eq!(number_in(list, "the"), None);
        assert_eq!(number_in(list, "x"), None);
    }

    #[test]
    fn a_name_is_believed_if_libpcap_agrees() {
        let Ok(list) = std::fs::read_to_string(LIST) else {
            rig::skip("this host has no list of services");
            return;
        };
        for name in ["http", "domain", "ssh"] {
            if let Some(number) = number_in(&list, name) {
                assert_eq!(port(None, name), Some(number));
                assert_eq!(port(Some("tcp"), name), Some(number));
            }
        }
        assert_eq!(port(None, "no-such-name"), None);
    }
}

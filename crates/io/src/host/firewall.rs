//! The chains of the firewall (nf_tables) that packets of this host pass.
//!
//! Source: Linux `include/uapi/linux/netfilter/nf_tables.h`, `NFT_MSG_GETCHAIN`. Rules of iptables
//! are chains too, where iptables is the one that stands on nf_tables.
//!
//! ```text
//! struct nfgenmsg   family 1 | version 1 | resource 2 | attributes
//! ```

use crate::error::Error;
use crate::netlink::{Netlink, Question, attributes};

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const HEADER_LEN: usize = 4;
/// `NFTA_CHAIN_TABLE`, `_NAME`, `_HOOK`, `_POLICY`, `_USE`, `_TYPE`; in a hook `NFTA_HOOK_HOOKNUM`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const USE: u16 = 6;
const TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT`.
const LOCAL_IN: u32 = 1;
const LOCAL_OUT: u32 = 3;
/// The families of which a chain sees IP packets: inet, ip, ip6.
const FAMILIES: [u8; 3] = [1, 2, 10];

/// Which packets a chain judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Those for this host.
    Input,
    /// Those that it sends.
    Output,
}

/// A chain that may drop packets of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Which packets it judges.
    pub passing: Passing,
    /// Whether it drops what no rule lets through.
    pub drops_by_default: bool,
    /// How many rules it has.
    pub rules: u32,
}

/// The chains of the calling thread's network namespace that filter what comes in or goes out.
///
/// # Errors
/// [`Error::System`] if the right is missing, or the kernel has no nf_tables.
pub fn filter_chains() -> Result<Vec<Chain>, Error> {
    let failed = |e| Error::system("list the chains of the firewall", e);
    let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).map_err(failed)?;
    let mut found = Vec::new();
    let question = Question::new(GET_CHAIN, &[0; HEADER_LEN]);
    netlink.list(question, |answer| found.extend(chain(answer))).map_err(failed)?;
    Ok(found)
}

/// A chain; `None` if it is no base chain that filters packets of this host.
fn chain(body: &[u8]) -> Option<Chain> {
    let family = *body.first()?;
    let (mut table, mut name, mut passing) = (String::new(), String::new(), None);
    let (mut drops_by_default, mut rules, mut is_filter) = (false, 0, false);
    for (number, value) in attributes(body.get(HEADER_LEN..)?) {
        match number {
            TABLE => table = text(value),
            NAME => name = text(value),
            HOOK => passing = hook(value),
            POLICY => drops_by_default = big_endian(value) == Some(0),
            USE => rules = big_endian(value).unwrap_or(0),
            TYPE => is_filter = text(value) == "filter",
            _ => {}
        }
    }
    let passing = passing.filter(|_| is_filter && FAMILIES.contains(&family))?;
    Some(Chain { table, name, passing, drops_by_default, rules })
}

fn hook(value: &[u8]) -> Option<Passing> {
    let (_, number) = attributes(value).find(|(kind, _)| *kind == HOOK_NUMBER)?;
    match big_endian(number)? {
        LOCAL_IN => Some(Passing::Input),
        LOCAL_OUT => Some(Passing::Output),
        _ => None,
    }
}

fn big_endian(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    #[test]
    fn chains_are_those_that_nft_has_made() {
        if !rig::root_or_skip() || !rig::tool_or_skip("nft") {
            return;
        }
        let netns = Netns::new().unwrap();
        assert_eq!(netns.run(|| filter_chains().unwrap()).unwrap(), []);
        let nft = "add table inet guard; \
                   add chain inet guard in { type filter hook input priority 0 ; policy drop ; }; \
                   add rule inet guard in udp dport 4789 accept; \
                   add chain inet guard out { type filter hook output priority 0 ; }; \
                   add chain inet guard other; \
                   add chain inet guard way { type filter hook forward priority 0 ; }";
        let output = netns.command("nft").arg(nft).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut found = netns.run(|| filter_chains().unwrap()).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let (table, name) = ("guard".to_owned(), "in".to_owned());
        let (passing, drops_by_default) = (Passing::Input, true);
        let input = Chain { table, name, passing, drops_by_default, rules: 1 };
        let output = Chain {
            name: "out".into(),
            passing: Passing::Output,
            drops_by_default: false,
            rules: 0,
            ..input.clone()
        };
        assert_eq!(found, [input, output]);
    }

    #[test]
    fn what_is_cut_short_is_no_chain() {
        for len in 0..HEADER_LEN + 4 {
            assert_eq!(chain(&vec![1; len]), None);
        }
    }
}

//! One list of rules in the languages of all who take part.
//!
//! All but the last leave out what goes to one address and port, which no packet of the traffic does;
//! the last one mirrors the rest. So a list that is tried rule by rule shows its whole length.

use filter::{Action, Direction, Instruction, PortRange, Program, Rule, Rules, Transport, op};
use std::fmt::Write;
use std::net::Ipv4Addr;
use wire::LinkType;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A list of so many rules; of 0, every packet is mirrored.
#[derive(Debug, Clone, Copy)]
pub struct List(pub u8);

/// What is left out.
struct LeftOut {
    protocol: u8,
    address: Ipv4Addr,
    port: u16,
}

impl LeftOut {
    fn name(&self) -> &'static str {
        if self.protocol == TCP { "tcp" } else { "udp" }
    }
}

impl List {
    fn left_out(self) -> impl Iterator<Item = LeftOut> {
        (1..self.0).map(|number| LeftOut {
            protocol: if number % 2 == 0 { TCP } else { UDP },
            address: Ipv4Addr::new(10, 9, number / 10, number),
            port: 1000 + 7 * u16::from(number),
        })
    }

    /// As tapline reads it.
    pub fn toml(self) -> String {
        let mut text = String::new();
        for out in self.left_out() {
            let (name, address, port) = (out.name(), out.address, out.port);
            let _ = writeln!(
                text,
                "[[rule]]\nrule_action = \"EXCLUDE\"\nprotocol = \"{name}\"\n\
                 destination_cidr = \"{address}/32\"\n\
                 {name}_options.destination_port_range = {{ min = {port}, max = {port} }}"
            );
        }
        text + "[[rule]]\nrule_action = \"INCLUDE\"\n"
    }

    /// As tcpdump reads it.
    pub fn expression(self) -> String {
        let terms = self.left_out().map(|out| {
            format!("not ({} and dst host {} and dst port {})", out.name(), out.address, out.port)
        });
        terms.collect::<Vec<_>>().join(" and ")
    }

    /// Rules of an nft chain, the last of which ends in an action.
    pub fn nft(self, action: &str) -> String {
        let mut text = String::new();
        for out in self.left_out() {
            let (name, address, port) = (out.name(), out.address, out.port);
            let _ = writeln!(text, "ip daddr {address} {name} dport {port} accept");
        }
        text + "counter " + action + "\n"
    }

    /// Matches of tc's u32, which is of IPv4 alone, each with what becomes of it.
    pub fn u32(self, action: &str) -> Vec<String> {
        let left_out = self.left_out().map(|out| {
            let (protocol, address, port) = (out.protocol, out.address, out.port);
            format!(
                "match ip dst {address}/32 match ip protocol {protocol} 0xff \
                 match ip dport {port} 0xffff flowid 1:1"
            )
        });
        left_out.chain([format!("match u32 0 0 {action}")]).collect()
    }

    /// What our compiler makes of it, as classic BPF of which tc's verdicts are made: all ones, or 0.
    ///
    /// # Errors
    /// If the rules are none, or contradict each other.
    pub fn program(self) -> anyhow::Result<Program> {
        if self.0 == 0 {
            return Ok(Program::constant(u32::MAX));
        }
        let mut rules: Vec<Rule> = self
            .left_out()
            .map(|out| Rule {
                protocol: Some(out.protocol),
                destination: Some(ipnet::Ipv4Net::from(out.address).into()),
                transport: Transport::Ports {
                    source: None,
                    destination: Some(PortRange::one(out.port)),
                },
                ..Rule::new(Action::Exclude)
            })
            .collect();
        rules.push(Rule::new(Action::Include));
        let program = Rules::new(rules)?.compile(LinkType::ETHERNET, Direction::In)?;
        let verdict = |instruction: &Instruction| match instruction.code == op::RET | op::K {
            true if instruction.k == u32::from(self.0) => {
                Instruction { k: u32::MAX, ..*instruction }
            }
            true => Instruction { k: 0, ..*instruction },
            false => *instruction,
        };
        Ok(Program::new(program.instructions().iter().map(verdict).collect())?)
    }
}

/// A program in one line, as tc reads it.
pub fn bytecode(program: &Program) -> String {
    program.decimal().to_string().trim_end().replace('\n', ",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::RuleFile;

    /// A datagram in an Ethernet frame.
    fn frame(address: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 71, 0, 1], address, 64)
            .udp(1024, port)
            .write(&mut frame, &[0; 22])
            .unwrap();
        frame
    }

    #[test]
    fn every_language_leaves_out_the_same() {
        for count in [1, 10, 100] {
            let list = List(count);
            let program = list.program().unwrap();
            let expression = list.expression();
            let expression = match expression.is_empty() {
                true => Program::constant(1),
                false => io::libpcap::compile(&expression, LinkType::ETHERNET, 262_144).unwrap(),
            };
            let mut frames = vec![(frame([10, 71, 0, 9], 9), true)];
            for out in list.left_out().filter(|out| out.protocol == UDP) {
                frames.push((frame(out.address.octets(), out.port), false));
                frames.push((frame(out.address.octets(), out.port + 1), true));
            }
            for (frame, is_mirrored) in frames {
                let length = frame.len() as u32;
                assert_eq!(program.run(&frame, length), if is_mirrored { u32::MAX } else { 0 });
                assert_eq!(expression.matches(&frame, length), is_mirrored);
            }
            assert_eq!(list.u32("action drop").len(), usize::from(count));
            assert_eq!(list.nft("dup to \"x\"").lines().count(), usize::from(count));
        }
    }

    #[test]
    fn a_file_has_as_many_rules() {
        let scratch = rig::Scratch::new("rules");
        let path = scratch.path("rules.toml");
        std::fs::write(&path, List(10).toml()).unwrap();
        let rules = RuleFile::open(&path).unwrap().rules;
        assert_eq!(rules.as_slice().len(), 10);
    }

    #[test]
    fn a_program_is_one_line() {
        assert_eq!(bytecode(&List(0).program().unwrap()), "1,6 0 0 4294967295");
    }
}

//! Who is who in the demo: hosts, addresses, and the rules that the taps follow.

use std::net::Ipv4Addr;

/// How many clients there are, each with a tap of its own.
pub const CLIENTS: usize = 3;
/// Where the server answers what the taps are to mirror.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 10);
/// The server's second address, where it answers health checks.
pub const STATUS: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 11);
/// The sinks of the group.
pub const SINKS: [SinkPlan; 2] = [
    SinkPlan { name: "sink-a", address: Ipv4Addr::new(10, 71, 2, 11) },
    SinkPlan { name: "sink-b", address: Ipv4Addr::new(10, 71, 2, 12) },
];
/// The position in [`SINKS`] of the one that is killed.
pub const VICTIM: usize = 1;
/// Where the store listens, in the mirror network, and its bucket.
pub const STORE: Ipv4Addr = Ipv4Addr::new(10, 71, 2, 20);
pub const STORE_PORT: u16 = 9000;
pub const BUCKET: &str = "captures";
/// Size of the mirror network's largest packet: an Ethernet frame of 1514 bytes and its tunnel
/// headers fit, so that nothing is fragmented.
pub const MIRROR_MTU: u16 = 1600;

/// A member of the sink group.
pub struct SinkPlan {
    pub name: &'static str,
    pub address: Ipv4Addr,
}

impl SinkPlan {
    /// Whether a target of a tap's ledger is this sink.
    pub fn is_target(&self, endpoint: &str) -> bool {
        endpoint.starts_with(&format!("vxlan://{}:", self.address))
    }
}

/// The name of a client, counted from 0.
pub fn client_name(client: usize) -> String {
    format!("client-{}", client + 1)
}

/// A client's address in the network that is tapped.
pub fn client_address(client: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 71, 1, client as u8 + 1)
}

/// A client's address in the mirror network.
pub fn tap_address(client: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 71, 2, client as u8 + 1)
}

/// The tunnel id of a client's tap.
pub fn vni(client: usize) -> u32 {
    client as u32 + 71
}

/// The name of a client's series in an archive.
pub fn source_name(client: usize) -> String {
    format!("vxlan-{}-{}", vni(client), tap_address(client))
}

/// The targets of a client's tap: one group of all sinks.
pub fn group(client: usize) -> String {
    SINKS.map(|sink| format!("vxlan://{}?vni={}", sink.address, vni(client))).join(",")
}

/// One rule of the taps' list.
pub struct RulePlan {
    pub direction: &'static str,
    pub action: &'static str,
    /// The address that the server's side must have: destination when sent, source when received.
    pub cidr: &'static str,
}

/// The taps' list: HTTP with the server's two addresses, without the health checks at the second.
/// The first rule that fits decides.
pub const RULES: [RulePlan; 4] = [
    RulePlan { direction: "EGRESS", action: "EXCLUDE", cidr: "10.71.1.11/32" },
    RulePlan { direction: "INGRESS", action: "EXCLUDE", cidr: "10.71.1.11/32" },
    RulePlan { direction: "EGRESS", action: "INCLUDE", cidr: "10.71.1.10/31" },
    RulePlan { direction: "INGRESS", action: "INCLUDE", cidr: "10.71.1.10/31" },
];

impl RulePlan {
    /// Whether packets that it decides are mirrored.
    pub fn includes(&self) -> bool {
        self.action == "INCLUDE"
    }

    fn is_of_sent_packets(&self) -> bool {
        self.direction == "EGRESS"
    }

    /// The rule in a line.
    pub fn summary(&self) -> String {
        let way = if self.is_of_sent_packets() { "to" } else { "from" };
        let RulePlan { direction, action, cidr } = self;
        format!("{action} {direction:<7} tcp {way:<4} {cidr} port 80")
    }

    fn toml(&self) -> String {
        let side = if self.is_of_sent_packets() { "destination" } else { "source" };
        let RulePlan { direction, action, cidr } = self;
        format!(
            "[[rule]]\ntraffic_direction = \"{direction}\"\nrule_action = \"{action}\"\n\
             {side}_cidr = \"{cidr}\"\nprotocol = \"tcp\"\n\
             tcp_options.{side}_port_range = {{ min = 80, max = 80 }}\n"
        )
    }
}

/// The file of rules.
pub fn rule_file() -> String {
    let head = "# HTTP with the server, without the health checks at its second address.\n\
                # The first rule that fits decides; what fits none is not mirrored.\n";
    RULES.iter().fold(head.into(), |text, rule| text + "\n" + &rule.toml())
}

/// What the demo shows before it begins.
pub const SCENE_TEXT: &str = r#"
  client-1 ─┐
  client-2 ─┼── 10.71.1.0/24 ── server      HTTP on port 80; beside it port 8080, health checks,
  client-3 ─┘                               HTTP between clients, UDP and ICMP
   │ a tap on each client's eth0:
   │   tapline mirror -i eth0 --rules rules.toml       N is 1, 2, 3: each client has its own VNI
   │                  --to 'vxlan://10.71.2.11?vni=7N,vxlan://10.71.2.12?vni=7N'
   └────────── 10.71.2.0/24 ─┬─ sink-a      tapline receive --listen vxlan://0.0.0.0 --archive s3://captures
                             ├─ sink-b      the same; it will be killed, and started again
                             └─ store       an S3 server; both sinks ship their segments to it
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_read_as_they_are_meant() {
        let file = api::RuleFile::parse("rules.toml", rule_file().as_bytes()).unwrap();
        let rules = file.rules.as_slice();
        assert_eq!(rules.len(), RULES.len());
        for (number, plan) in (1..).zip(&RULES) {
            let included = file.rules.action(number) == Some(filter::Action::Include);
            assert_eq!(included, plan.includes(), "rule {number}");
        }
        assert_eq!(RULES[0].summary(), "EXCLUDE EGRESS  tcp to   10.71.1.11/32 port 80");
    }
}

//! From the tree of a file to rules.

use super::RuleFile;
use crate::file::{Fault, Node, Spelling, Table, Value, number, shown, word};
use filter::{Action, PortRange, Rule, RuleFault, Rules, Side, TrafficDirection, Transport};
use ipnet::IpNet;
use std::net::IpAddr;

/// What a rule has, in snake_case.
const RULE: [&str; 8] = [
    "traffic_direction",
    "rule_action",
    "source_cidr",
    "destination_cidr",
    "protocol",
    "tcp_options",
    "udp_options",
    "icmp_options",
];
const PORT_OPTIONS: [&str; 2] = ["source_port_range", "destination_port_range"];
const PORT_RANGE: [&str; 2] = ["min", "max"];
const ICMP_OPTIONS: [&str; 2] = ["type", "code"];

/// What a file of ours has.
const TOML: [&str; 2] = ["display_name", "rule"];

/// What a CaptureFilter resource has.
const RESOURCE: [&str; 11] = [
    "display_name",
    "filter_type",
    "vtap_capture_filter_rules",
    "flow_log_capture_filter_rules",
    "compartment_id",
    "defined_tags",
    "freeform_tags",
    "system_tags",
    "id",
    "lifecycle_state",
    "time_created",
];

/// What oci-cli puts around it.
const PRINTED: [&str; 2] = ["data", "etag"];

/// Protocols by name.
const PROTOCOLS: [(&str, u8); 4] = [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58)];

/// Makes rules of a file's tree.
pub(super) fn read(root: &Node, spelling: Spelling) -> Result<RuleFile, Fault> {
    match (&root.value, spelling) {
        (_, Spelling::Snake) => {
            let file = Table::new(root, "the file", &TOML, spelling)?;
            let display_name = file.text("display_name")?;
            let rules = match file.get("rule") {
                Some((_, rules)) => read_list(rules, spelling)?,
                None => {
                    return Err(Fault {
                        at: None,
                        reason: "no rule; write one or more [[rule]]".into(),
                    });
                }
            };
            Ok(RuleFile { display_name, rules })
        }
        (Value::Array(items), _) => {
            let rules = read_list(root, spelling_of(items, spelling))?;
            Ok(RuleFile { display_name: None, rules })
        }
        (Value::Table(entries), _) if entries.iter().any(|(_, name, _)| name == "data") => {
            let printed = Table::new(root, "what oci-cli prints", &PRINTED, Spelling::Kebab)?;
            match printed.get("data") {
                Some((_, Node { at, value: Value::Array(_) })) => Err(Fault::new(
                    *at,
                    "`data` is a list of capture filters; write a file with one of them \
                     (oci network capture-filter get)",
                )),
                Some((_, data)) => resource(data, Spelling::Kebab),
                None => Err(Fault::new(root.at, "`data` is null; a capture filter is needed")),
            }
        }
        (Value::Table(entries), _) => {
            let kebab = entries.iter().any(|(_, name, _)| name.contains('-'));
            resource(root, if kebab { Spelling::Kebab } else { spelling })
        }
        (value, _) => Err(Fault::new(root.at, format!("{} is no list of rules", value.kind()))),
    }
}

/// A bare list is in the spelling of its first name of two words.
fn spelling_of(items: &[Node], otherwise: Spelling) -> Spelling {
    let names = items.iter().flat_map(|item| match &item.value {
        Value::Table(entries) => entries.as_slice(),
        _ => &[],
    });
    let is_kebab = names.map(|(_, name, _)| name).any(|name| name.contains('-'));
    if is_kebab { Spelling::Kebab } else { otherwise }
}

/// A CaptureFilter resource.
fn resource(node: &Node, spelling: Spelling) -> Result<RuleFile, Fault> {
    let filter = Table::new(node, "a capture filter", &RESOURCE, spelling)?;
    if let Some((_, kind)) = filter.get("filter_type")
        && !matches!(&kind.value, Value::Text(text) if text == "VTAP")
    {
        let name = spelling.write("filter_type");
        return Err(Fault::new(
            kind.at,
            format!("{name} is not \"VTAP\"; only such filters mirror"),
        ));
    }
    let name = "vtap_capture_filter_rules";
    let Some((_, rules)) = filter.get(name) else {
        let reason = format!("`{}` is missing: the list of rules", spelling.write(name));
        return Err(Fault::new(node.at, reason));
    };
    let rules = read_list(rules, spelling)?;
    Ok(RuleFile { display_name: filter.text("display_name")?, rules })
}

/// Reads a list of rules.
pub(crate) fn read_list(list: &Node, spelling: Spelling) -> Result<Rules, Fault> {
    let Value::Array(items) = &list.value else {
        let mend =
            if spelling == Spelling::Snake { "write [[rule]]" } else { "write [ … ] around it" };
        return Err(Fault::new(
            list.at,
            format!("{} is no list of rules; {mend}", list.value.kind()),
        ));
    };
    let rules = (1..).zip(items).map(|(number, item)| {
        let in_rule = |fault: Fault| Fault {
            at: fault.at.or(Some(item.at)),
            reason: format!("rule {number}: {}", fault.reason),
        };
        read_rule(item, spelling).map_err(in_rule)
    });
    let rules = rules.collect::<Result<Vec<Rule>, Fault>>()?;
    Rules::new(rules).map_err(|error| Fault::new(list.at, error.to_string()))
}

fn read_rule(node: &Node, spelling: Spelling) -> Result<Rule, Fault> {
    let table = Table::new(node, "a rule", &RULE, spelling)?;
    let Some((_, action)) = table.get("rule_action") else {
        let name = spelling.write("rule_action");
        return Err(Fault::new(
            node.at,
            format!("`{name}` is missing: \"INCLUDE\" or \"EXCLUDE\""),
        ));
    };
    let action = word(
        action,
        &spelling.write("rule_action"),
        &[("INCLUDE", Action::Include), ("EXCLUDE", Action::Exclude)],
        "write \"INCLUDE\" or \"EXCLUDE\"",
    )?;
    let mut rule = Rule::new(action);
    if let Some((_, direction)) = table.get("traffic_direction") {
        let directions =
            [("INGRESS", TrafficDirection::Ingress), ("EGRESS", TrafficDirection::Egress)];
        let mend = "write \"INGRESS\" or \"EGRESS\", or leave it out for both";
        rule.direction =
            Some(word(direction, &spelling.write("traffic_direction"), &directions, mend)?);
    }
    if let Some((_, net)) = table.get("source_cidr") {
        rule.source = Some(cidr(net, &spelling.write("source_cidr"))?);
    }
    if let Some((_, net)) = table.get("destination_cidr") {
        rule.destination = Some(cidr(net, &spelling.write("destination_cidr"))?);
    }
    if let Some((_, number)) = table.get("protocol") {
        rule.protocol = Some(protocol(number)?);
    }
    // Where the options stand that the rule ends up with.
    let mut options_at = None;
    for (name, number) in [("tcp_options", 6), ("udp_options", 17)] {
        if let Some((at, options)) = table.get(name) {
            fits_protocol(at, &spelling.write(name), rule.protocol, &[number])?;
            rule.transport = port_options(options, &spelling.write(name), spelling)?;
            options_at = Some(options.at);
        }
    }
    if let Some((at, options)) = table.get("icmp_options") {
        let name = spelling.write("icmp_options");
        fits_protocol(at, &name, rule.protocol, &[1, 58])?;
        rule.transport = icmp_options(options, &name, spelling)?;
        options_at = Some(options.at);
    }
    rule.check().map_err(|fault| {
        let place = |name| table.get(name).map(|(_, node)| node.at);
        let at = match fault {
            RuleFault::HostBits { side: Side::Source, .. } => place("source_cidr"),
            RuleFault::HostBits { .. } | RuleFault::MixedFamilies { .. } => {
                place("destination_cidr")
            }
            RuleFault::IcmpFamily { .. } => place("protocol"),
            _ => options_at,
        };
        Fault { at, reason: fault.to_string() }
    })?;
    Ok(rule)
}

/// Options of a protocol other than the rule's never match.
fn fits_protocol(at: usize, name: &str, protocol: Option<u8>, wanted: &[u8]) -> Result<(), Fault> {
    if protocol.is_some_and(|protocol| wanted.contains(&protocol)) {
        return Ok(());
    }
    let wanted: Vec<String> = wanted.iter().map(|number| described(*number)).collect();
    let has = protocol.map_or("none".into(), described);
    let wanted = wanted.join(" or ");
    Err(Fault::new(
        at,
        format!(
            "{name} needs protocol {wanted}, and the rule has {has}; write that, or leave {name} out"
        ),
    ))
}

fn described(protocol: u8) -> String {
    match PROTOCOLS.iter().find(|(_, number)| *number == protocol) {
        Some((name, number)) => format!("{number} ({name})"),
        None => protocol.to_string(),
    }
}

fn port_options(node: &Node, name: &str, spelling: Spelling) -> Result<Transport, Fault> {
    let table = Table::new(node, name, &PORT_OPTIONS, spelling)?;
    let range =
        |name: &str| table.get(name).map(|(_, node)| port_range(node, name, spelling)).transpose();
    Ok(match (range("source_port_range")?, range("destination_port_range")?) {
        (None, None) => Transport::Any,
        (source, destination) => Transport::Ports { source, destination },
    })
}

fn port_range(node: &Node, name: &str, spelling: Spelling) -> Result<PortRange, Fault> {
    let name = spelling.write(name);
    let table = Table::new(node, &name, &PORT_RANGE, spelling)?;
    let end = |which: &str| match table.get(which) {
        Some((_, node)) => number(node, &format!("{name}.{which}"), u16::MAX),
        None => Err(Fault::new(
            node.at,
            format!("{name}.{which} is missing: the range has two ends, min and max"),
        )),
    };
    let range = PortRange { min: end("min")?, max: end("max")? };
    if range.min > range.max {
        let (min, max) = (range.min, range.max);
        return Err(Fault::new(
            node.at,
            format!("{name} goes from {min} down to {max}; exchange min and max"),
        ));
    }
    Ok(range)
}

fn icmp_options(node: &Node, name: &str, spelling: Spelling) -> Result<Transport, Fault> {
    let table = Table::new(node, name, &ICMP_OPTIONS, spelling)?;
    let byte = |which: &str| {
        table
            .get(which)
            .map(|(_, node)| number(node, &format!("{name}.{which}"), u8::MAX))
            .transpose()
    };
    let code = byte("code")?;
    match byte("type")? {
        Some(kind) => Ok(Transport::Icmp { kind, code }),
        None => Err(Fault::new(
            node.at,
            format!("{name}.type is missing; leave {name} out for every type"),
        )),
    }
}

fn cidr(node: &Node, name: &str) -> Result<IpNet, Fault> {
    let fault = |reason: String| Fault::new(node.at, format!("{name} {reason}"));
    let Value::Text(text) = &node.value else {
        let kind = node.value.kind();
        return Err(fault(format!(
            "is {kind}; write an address and a prefix length, such as \"10.0.0.0/8\""
        )));
    };
    let said = shown(text);
    let Some((address, length)) = text.split_once('/') else {
        return Err(fault(match text.parse::<IpAddr>() {
            Ok(address) => {
                let net = IpNet::from(address);
                format!("{said:?} has no prefix length; write \"{net}\" for this address alone")
            }
            Err(_) => {
                format!("{said:?} is no address with a prefix length, such as \"10.0.0.0/8\"")
            }
        }));
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| fault(format!("{said:?}: {:?} is no IPv4 or IPv6 address", shown(address))))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let is_decimal = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let net = length
        .parse()
        .ok()
        .filter(|_| is_decimal)
        .and_then(|length| IpNet::new(address, length).ok());
    let Some(net) = net else {
        return Err(fault(format!("{said:?}: the prefix length is a number from 0 to {longest}")));
    };
    if net.trunc() != net {
        let net = net.trunc();
        return Err(fault(format!("{said:?} has bits set behind its prefix; write \"{net}\"")));
    }
    Ok(net)
}

/// A number, as a number or in a string, or a name.
fn protocol(node: &Node) -> Result<u8, Fault> {
    let mend = "write a number from 0 to 255, or tcp, udp, icmp, icmpv6; leave it out for all";
    match &node.value {
        Value::Number(number) => u8::try_from(*number)
            .map_err(|_| Fault::new(node.at, format!("protocol {number} is unknown; {mend}"))),
        Value::Text(text) => {
            let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = named.map(|(_, number)| *number);
            number.or_else(|| text.parse().ok().filter(|_| is_decimal)).ok_or_else(|| {
                let text = shown(text);
                Fault::new(node.at, format!("protocol {text:?} is unknown; {mend}"))
            })
        }
        value => Err(Fault::new(node.at, format!("protocol is {}; {mend}", value.kind()))),
    }
}

//! Settings in words.

use api::{
    Action, Anchor, FilterConfig, Layer, Origin, Overflow, Pace, QueueConfig, RingSize, Sending,
    StageConfig, StageKind, Tags, Tpid,
};
use std::time::Duration;

pub fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Interface { interface, direction, promiscuous, buffer_size } => {
            let direction = format!("{direction:?}").to_lowercase();
            let direction = if direction == "both" { "in and out" } else { direction.as_str() };
            let promiscuous = if *promiscuous { ", promiscuous" } else { "" };
            format!("{interface}, {direction}{promiscuous}, ring {}", ring(*buffer_size))
        }
        Origin::Tunnels { listen, layers, buffer_bytes } => {
            let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
            let layers = match *layers {
                0 => "left in their tunnels".to_owned(),
                1 => "taken out of them".to_owned(),
                u8::MAX => "taken out of every tunnel".to_owned(),
                layers => format!("taken out of up to {layers} layers"),
            };
            format!("{}, {layers}, buffer {} KiB", listen.join(", "), buffer_bytes >> 10)
        }
        Origin::File { path, pace } => {
            let pace = match pace {
                Pace::Max => "as fast as the targets take it".to_owned(),
                Pace::Times(1.0) => "at the times of its packets".to_owned(),
                Pace::Times(times) => format!("{times} times as fast as it was recorded"),
            };
            format!("{}, {pace}", path.display())
        }
    }
}

pub fn ring(size: RingSize) -> String {
    match size {
        RingSize::Auto => "by the link's speed".into(),
        RingSize::Bytes(bytes) => format!("{} KiB", bytes >> 10),
    }
}

pub fn filter(filter: &FilterConfig) -> String {
    match filter {
        FilterConfig::All => "everything".into(),
        FilterConfig::Expression(text) => text.trim().into(),
        FilterConfig::Rules(rules) => match rules.as_slice().len() {
            1 => "what 1 rule includes".into(),
            count => format!("what {count} rules include"),
        },
    }
}

pub fn queue(QueueConfig { size, overflow }: &QueueConfig) -> String {
    let dropped = match overflow {
        Overflow::DropOldest => "the oldest are dropped",
        Overflow::DropNewest => "the newest are dropped",
    };
    format!("{size} for each endpoint; when it is full, {dropped}")
}

pub fn sending(Sending { oversize, dscp }: &Sending) -> String {
    let oversize = api::Oversize::NAMES.iter().find(|(_, policy)| policy == oversize);
    let oversize = oversize.map_or("", |(name, _)| name);
    let dscp = if *dscp == 0 { String::new() } else { format!(", DSCP {dscp}") };
    format!("what does not fit: {oversize}{dscp}")
}

/// Stages with what they do.
pub fn stages(stages: &[StageConfig]) -> String {
    let stages = stages.iter().map(|of| format!("{}: {}", of.name, stage(&of.kind)));
    stages.collect::<Vec<String>>().join("; ")
}

fn stage(kind: &StageKind) -> String {
    match kind {
        StageKind::VlanPush { vid, pcp, dei, tpid } => {
            format!("pushes a tag of VLAN {vid}{}", bits(*pcp, *dei, *tpid))
        }
        StageKind::VlanReplace { vid, pcp, dei, tpid, or_push } => {
            let vid = vid.map_or_else(String::new, |vid| format!(" to VLAN {vid}"));
            let or_push = if *or_push { ", untagged packets get it too" } else { "" };
            format!("changes the outermost tag{vid}{}{or_push}", bits(*pcp, *dei, *tpid))
        }
        StageKind::VlanPop { tags: Tags::All } => "takes all VLAN tags off".into(),
        StageKind::VlanPop { tags: Tags::Count(1) } => "takes the outermost VLAN tag off".into(),
        StageKind::VlanPop { tags: Tags::Count(count) } => format!("takes {count} VLAN tags off"),
        StageKind::Slice { bytes, after: None } => format!("keeps the first {bytes} bytes"),
        StageKind::Slice { bytes, after: Some(after) } => {
            format!("keeps {bytes} bytes behind {}", anchor(*after))
        }
        StageKind::Trim { bytes } => format!("takes the last {bytes} bytes off"),
        StageKind::Strip { layers } => {
            let layers: Vec<&str> = layers.iter().map(|layer| self::layer(*layer)).collect();
            format!("takes {} off", layers.join(", "))
        }
        StageKind::Sample { n, by_flow: true } => format!("one of {n} flows"),
        StageKind::Sample { n, by_flow: false } => format!("one of {n} packets"),
        StageKind::RateLimit { pps, bps, burst } => {
            let pps = pps.map(|pps| format!("{pps} packets a second"));
            let bps = bps.map(|bps| format!("{bps} bits a second"));
            let rates: Vec<String> = pps.into_iter().chain(bps).collect();
            format!("at most {}, {} of that at once", rates.join(" and "), time(*burst))
        }
        StageKind::Dedup { window, ignore, action } => {
            let ignored = [
                ("TTL", ignore.ttl),
                ("MACs", ignore.mac),
                ("VLAN tags", ignore.vlan),
                ("checksums", ignore.checksum),
            ];
            let ignored = ignored.into_iter().filter(|(_, is)| *is).map(|(name, _)| name);
            let ignored: Vec<&str> = ignored.collect();
            let but = match ignored.is_empty() {
                true => String::new(),
                false => format!(", whatever their {}", ignored.join(", ")),
            };
            let action = match action {
                Action::Drop => "drops",
                Action::Count => "counts",
            };
            format!("{action} packets that came within {} before{but}", time(*window))
        }
        StageKind::Mask { offset, bytes, from, value } => {
            let bytes = bytes.map_or("all".to_owned(), |bytes| bytes.to_string());
            let from = from.map_or("the packet", anchor);
            format!("writes {value:#04x} over {bytes} bytes from byte {offset} of {from}")
        }
        StageKind::Anonymize { .. } => "maps IP addresses by a key".into(),
        StageKind::First { packets, bytes, idle } => {
            let packets = packets.map(|packets| format!("{packets} packets"));
            let bytes = bytes.map(|bytes| format!("{bytes} bytes"));
            let bounds: Vec<String> = packets.into_iter().chain(bytes).collect();
            let idle = time(*idle);
            format!("the first {} of each flow, anew after {idle} of silence", bounds.join(" and "))
        }
    }
}

fn bits(pcp: Option<u8>, dei: Option<bool>, tpid: Option<Tpid>) -> String {
    let pcp = pcp.map(|pcp| format!(", priority {pcp}"));
    let dei = dei.map(|dei| if dei { ", drop eligible" } else { ", not drop eligible" }.to_owned());
    let tpid = tpid.map(|tpid| match tpid {
        Tpid::Dot1Q => ", 802.1Q".to_owned(),
        Tpid::Dot1Ad => ", 802.1ad".to_owned(),
    });
    pcp.into_iter().chain(dei).chain(tpid).collect()
}

const fn anchor(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::Ethernet => "the Ethernet header",
        Anchor::Ip => "the IP header",
        Anchor::Transport => "the transport header",
        Anchor::InnerIp => "the innermost IP header",
        Anchor::InnerTransport => "the innermost transport header",
    }
}

const fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::Vlan => "VLAN tags",
        Layer::Mpls => "MPLS labels",
        Layer::Vxlan => "VXLAN",
        Layer::Gre => "GRE",
        Layer::Erspan => "ERSPAN",
        Layer::Geneve => "GENEVE",
    }
}

fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

//! `[[stage]]`: one table for each kind of stage.

use crate::broker::{
    Action, Anchor, AnonymizeKey, AnonymizeKeyError, DedupIgnore, Layer, StageConfig, StageKind,
    Tags, Tpid,
};
use crate::file::{self, Fault, Node, Spelling, Value, nearest, shown};
use crate::keys::{Keys, Wrong};
use crate::snapshot_length;
use std::path::Path;
use std::time::Duration;

/// The largest VLAN that a tag may name; 4095 is reserved (802.1Q-2022, table 9-2).
pub(super) const VID_MAX: u16 = 4094;
const PCP_MAX: u8 = 7;
/// Tags, of which more stand in no frame.
const TAGS_MAX: u8 = 64;
/// What is compared unless the file says how far back.
const WINDOW: Duration = Duration::from_millis(10);
/// How much of a rate may come at once unless the file says so.
const BURST: Duration = Duration::from_millis(100);
/// After which silence a flow begins anew unless the file says so.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of a file with a key.
const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

const ANCHORS: [(&str, Anchor); 5] = [
    ("ethernet", Anchor::Ethernet),
    ("ip", Anchor::Ip),
    ("transport", Anchor::Transport),
    ("inner_ip", Anchor::InnerIp),
    ("inner_transport", Anchor::InnerTransport),
];
const LAYERS: [(&str, Layer); 6] = [
    ("vlan", Layer::Vlan),
    ("mpls", Layer::Mpls),
    ("vxlan", Layer::Vxlan),
    ("gre", Layer::Gre),
    ("erspan", Layer::Erspan),
    ("geneve", Layer::Geneve),
];
const IGNORED: [&str; 4] = ["ttl", "mac", "vlan", "checksum"];
/// The types, each with its keys.
const TYPES: [(&str, &[&str]); 12] = [
    ("vlan_push", &["vid", "pcp", "dei", "tpid"]),
    ("vlan_replace", &["vid", "pcp", "dei", "tpid", "or_push"]),
    ("vlan_pop", &["tags"]),
    ("slice", &["bytes", "after"]),
    ("trim", &["bytes"]),
    ("strip", &["layers"]),
    ("sample", &["n", "by"]),
    ("rate_limit", &["pps", "bps", "burst"]),
    ("dedup", &["window", "ignore", "action"]),
    ("mask", &["offset", "bytes", "from", "value"]),
    ("anonymize", &["key", "key_file"]),
    ("first", &["packets", "bytes", "idle"]),
];

/// Reads a stage.
pub(super) fn read(node: &Node, folder: &Path) -> Result<StageConfig, Wrong> {
    let (kind, own) = kind(node)?;
    let known = [&["name", "type"], own].concat();
    let keys = Keys::new(node, "stage", &known, folder)?;
    let kind = match kind {
        "vlan_push" => vlan_push(&keys)?,
        "vlan_replace" => vlan_replace(&keys)?,
        "vlan_pop" => StageKind::VlanPop { tags: tags(&keys)? },
        "slice" => slice(&keys)?,
        "trim" => {
            let bytes = keys.integer("bytes", 1, u32::MAX)?;
            StageKind::Trim { bytes: wanted(&keys, "bytes", bytes)? }
        }
        "strip" => StageKind::Strip { layers: layers(&keys)? },
        "sample" => sample(&keys)?,
        "rate_limit" => rate_limit(&keys)?,
        "dedup" => dedup(&keys)?,
        "mask" => mask(&keys)?,
        "anonymize" => StageKind::Anonymize { key: key(&keys, folder)? },
        _ => first(&keys)?,
    };
    match keys.name()? {
        Some(name) => Ok(StageConfig { name, kind }),
        None => {
            let reason = "the stage has no name; add `name = \"…\"`, by which `stages` calls it";
            Err(Fault::new(node.at, reason).into())
        }
    }
}

/// A stage's type, and its keys.
fn kind(node: &Node) -> Result<(&'static str, &'static [&'static str]), Fault> {
    let names = TYPES.map(|(name, _)| name);
    let Value::Table(entries) = &node.value else {
        return Err(Fault::new(node.at, format!("a stage is {}, not a table", node.value.kind())));
    };
    let Some((.., value)) = entries.iter().find(|(_, name, _)| name == "type") else {
        let reason = format!("the stage has no type; add `type = \"…\"`: {}", names.join(", "));
        return Err(Fault::new(node.at, reason));
    };
    let Value::Text(text) = &value.value else {
        return Err(Fault::new(
            value.at,
            format!("type is {}; write a string", value.value.kind()),
        ));
    };
    TYPES.into_iter().find(|(name, _)| name == text).ok_or_else(|| {
        let mend = nearest(text, &names, Spelling::Snake).replace("it may have", "there are");
        Fault::new(value.at, format!("there is no stage of type `{}`; {mend}", shown(text)))
    })
}

/// The value of a key that must be there.
fn wanted<T>(keys: &Keys<'_>, name: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::new(keys.at, format!("the stage has no `{name}`; add it")))
}

/// A VLAN's number.
pub(super) fn vid(keys: &Keys<'_>, name: &str) -> Result<Option<u16>, Fault> {
    match keys.integer(name, 0, u16::MAX)? {
        Some(4095) => {
            let at = keys.get(name).map_or(keys.at, |node| node.at);
            let reason = format!("{name} 4095 is reserved by 802.1Q; write 0 to {VID_MAX}");
            Err(Fault::new(at, reason))
        }
        Some(vid) if vid > VID_MAX => {
            let at = keys.get(name).map_or(keys.at, |node| node.at);
            let reason = format!("{name} {vid} is no VLAN; write 0 to {VID_MAX}");
            Err(Fault::new(at, reason))
        }
        vid => Ok(vid),
    }
}

fn dei(keys: &Keys<'_>) -> Result<Option<bool>, Fault> {
    keys.get("dei").map(|_| keys.flag("dei", false)).transpose()
}

fn tpid(keys: &Keys<'_>) -> Result<Option<Tpid>, Fault> {
    let Some(node) = keys.get("tpid") else {
        return Ok(None);
    };
    match &node.value {
        Value::Number(0x8100) => Ok(Some(Tpid::Dot1Q)),
        Value::Number(0x88a8) => Ok(Some(Tpid::Dot1Ad)),
        Value::Text(text) if text.eq_ignore_ascii_case("802.1q") => Ok(Some(Tpid::Dot1Q)),
        Value::Text(text) if text.eq_ignore_ascii_case("802.1ad") => Ok(Some(Tpid::Dot1Ad)),
        _ => {
            let reason = "tpid is none of a VLAN tag; write 0x8100 (802.1Q) or 0x88a8 (802.1ad)";
            Err(Fault::new(node.at, reason))
        }
    }
}

fn vlan_push(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let vid = vid(keys, "vid")?;
    Ok(StageKind::VlanPush {
        vid: wanted(keys, "vid", vid)?,
        pcp: keys.integer("pcp", 0, PCP_MAX)?,
        dei: dei(keys)?,
        tpid: tpid(keys)?,
    })
}

fn vlan_replace(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let (vid, pcp) = (vid(keys, "vid")?, keys.integer("pcp", 0, PCP_MAX)?);
    let (dei, tpid) = (dei(keys)?, tpid(keys)?);
    let or_push = keys.flag("or_push", false)?;
    if or_push && vid.is_none() {
        let reason = "a tag that is pushed has a VLAN; add `vid`, or leave `or_push` out";
        return Err(Fault::new(keys.place_of("or_push"), reason));
    }
    if vid.is_none() && pcp.is_none() && dei.is_none() && tpid.is_none() {
        let reason = "the stage replaces nothing; add `vid`, `pcp`, `dei` or `tpid`";
        return Err(Fault::new(keys.at, reason));
    }
    Ok(StageKind::VlanReplace { vid, pcp, dei, tpid, or_push })
}

fn tags(keys: &Keys<'_>) -> Result<Tags, Fault> {
    match keys.get("tags").map(|node| &node.value) {
        Some(Value::Text(_)) => Ok(keys.word("tags", &[("all", Tags::All)])?.unwrap_or(Tags::All)),
        _ => Ok(Tags::Count(keys.integer("tags", 1, TAGS_MAX)?.unwrap_or(1))),
    }
}

fn slice(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let bytes = keys.integer("bytes", 0, u32::MAX)?;
    let bytes = wanted(keys, "bytes", bytes)?;
    let after = keys.word("after", &ANCHORS)?;
    let at = keys.get("bytes").map_or(keys.at, |node| node.at);
    match (after, bytes) {
        (None, 0) => Err(Fault::new(at, "bytes 0 leaves nothing; write 14 or more, or `after`")),
        (None, bytes) => {
            let checked = snapshot_length(bytes);
            checked.map_err(|mend| Fault::new(at, format!("bytes {bytes}: {mend}")))?;
            Ok(StageKind::Slice { bytes, after })
        }
        _ => Ok(StageKind::Slice { bytes, after }),
    }
}

fn layers(keys: &Keys<'_>) -> Result<Vec<Layer>, Fault> {
    let names = LAYERS.map(|(name, _)| name);
    let mut layers = Vec::new();
    for (node, text) in keys.texts("layers")? {
        let known = LAYERS.iter().find(|(name, _)| *name == text);
        let Some((_, layer)) = known else {
            let mend = nearest(text, &names, Spelling::Snake).replace("it may have", "there are");
            let reason = format!("`{}` is no header that is stripped; {mend}", shown(text));
            return Err(Fault::new(node.at, reason));
        };
        if layers.contains(layer) {
            return Err(Fault::new(node.at, format!("`{text}` is named twice; leave one")));
        }
        layers.push(*layer);
    }
    if layers.is_empty() {
        let reason = format!("the stage strips nothing; add `layers`: {}", names.join(", "));
        return Err(Fault::new(keys.place_of("layers"), reason));
    }
    Ok(layers)
}

fn sample(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let n = keys.integer("n", 1, u32::MAX)?;
    let by_flow = keys.word("by", &[("packet", false), ("flow", true)])?.unwrap_or(false);
    Ok(StageKind::Sample { n: wanted(keys, "n", n)?, by_flow })
}

fn rate_limit(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let pps = keys.rate("pps", "packets a second")?;
    let bps = keys.rate("bps", "bits a second")?;
    if pps.is_none() && bps.is_none() {
        let reason = "the stage has no rate; add `pps` (packets a second), `bps` (bits), or both";
        return Err(Fault::new(keys.at, reason));
    }
    Ok(StageKind::RateLimit { pps, bps, burst: keys.duration("burst")?.unwrap_or(BURST) })
}

fn dedup(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let mut ignore = DedupIgnore::default();
    for (node, text) in keys.texts("ignore")? {
        match text {
            "ttl" => ignore.ttl = true,
            "mac" => ignore.mac = true,
            "vlan" => ignore.vlan = true,
            "checksum" => ignore.checksum = true,
            _ => {
                let mend =
                    nearest(text, &IGNORED, Spelling::Snake).replace("it may have", "there are");
                let reason = format!("`{}` cannot be ignored; {mend}", shown(text));
                return Err(Fault::new(node.at, reason));
            }
        }
    }
    let actions = [("drop", Action::Drop), ("count", Action::Count)];
    Ok(StageKind::Dedup {
        window: keys.duration("window")?.unwrap_or(WINDOW),
        ignore,
        action: keys.word("action", &actions)?.unwrap_or_default(),
    })
}

fn mask(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let offset = keys.integer("offset", 0, u32::MAX)?;
    Ok(StageKind::Mask {
        offset: wanted(keys, "offset", offset)?,
        bytes: keys.integer("bytes", 1, u32::MAX)?,
        from: keys.word("from", &ANCHORS)?,
        value: keys.integer("value", 0, u8::MAX)?.unwrap_or(0),
    })
}

/// The key of the addresses: here, or in a file of its own.
fn key(keys: &Keys<'_>, folder: &Path) -> Result<AnonymizeKey, Wrong> {
    let (text, at) = match (keys.text("key")?, keys.text("key_file")?) {
        (Some(_), Some(_)) => {
            let reason = "a stage has one key; leave `key` or `key_file` out";
            return Err(Fault::new(keys.place_of("key_file"), reason).into());
        }
        (None, None) => {
            let reason = "the stage has no key; add `key_file = \"…\"`, or `key = \"…\"`";
            return Err(Fault::new(keys.at, reason).into());
        }
        // The key's own line would be repeated: messages go to logs.
        (Some(text), None) => (text, keys.at),
        (None, Some(path)) => {
            let mend = "a key is one line";
            let content = file::read(&folder.join(path), KEY_FILE_BYTES_MAX, mend);
            let content = content.map_err(Wrong::Elsewhere)?;
            let text = String::from_utf8_lossy(&content).trim().to_owned();
            (text, keys.place_of("key_file"))
        }
    };
    let key = text.parse();
    let reason = |error: AnonymizeKeyError| format!("the stage's key: {error}");
    Ok(key.map_err(|error| Fault::new(at, reason(error)))?)
}

fn first(keys: &Keys<'_>) -> Result<StageKind, Fault> {
    let packets = keys.integer("packets", 1, i64::MAX.unsigned_abs())?;
    let bytes = keys.size("bytes")?;
    if packets.is_none() && bytes.is_none() {
        return Err(Fault::new(keys.at, "the stage has no bound; add `packets`, `bytes`, or both"));
    }
    if bytes == Some(0) {
        let at = keys.get("bytes").map_or(keys.at, |node| node.at);
        return Err(Fault::new(at, "bytes 0 lets nothing through; write 1 or more"));
    }
    Ok(StageKind::First { packets, bytes, idle: keys.duration("idle")?.unwrap_or(IDLE) })
}

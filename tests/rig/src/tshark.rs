//! What tshark reads in a capture file.

use std::path::Path;
use std::process::Command;

/// Reads fields of the packets of a file with tshark: one row a packet, one cell a field, empty
/// where the packet does not have it. Of a field that stands in a packet more than once (as the
/// outer and the inner addresses do) all are in the cell, in order, with `,` between.
///
/// `options` are tshark's own, for example `["-Y", "tcp", "-o", "ip.check_checksum:TRUE"]`.
///
/// # Panics
/// If tshark is missing or does not exit with 0: a file that is cut, an unknown field or filter.
pub fn rows(path: impl AsRef<Path>, options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let path = path.as_ref();
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path).args(options);
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap_or_else(|e| panic!("tshark cannot be run: {e}"));
    assert!(
        output.status.success(),
        "tshark -r {}: {}: {}",
        path.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.split('\t').map(String::from).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scratch, tool_or_skip};
    use std::fs;

    /// A pcap file of two frames: 28 bytes, and 20 of 60. EtherType 0x7777 is nobody's.
    fn file() -> Vec<u8> {
        let mut words = vec![0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
        for (caplen, origlen) in [(28, 28), (20, 60)] {
            words.extend([1, 0, caplen, origlen]);
            words.extend(vec![0x7777_7777; caplen as usize / 4]);
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn one_row_a_packet_one_cell_a_field() {
        if !tool_or_skip("tshark") {
            return;
        }
        let scratch = Scratch::new("rig-tshark");
        let path = scratch.path("x.pcap");
        fs::write(&path, file()).unwrap();
        let all = rows(&path, &[], &["frame.cap_len", "ip.src", "frame.len"]);
        let long = rows(&path, &["-Y", "frame.len > 30"], &["frame.number"]);
        assert_eq!(all, [["28", "", "28"], ["20", "", "60"]]);
        assert_eq!(long, [["2"]]);
    }
}

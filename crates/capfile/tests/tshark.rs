//! Wireshark's programs open what we write without a word of complaint and find the same in it.

mod reading;

use capfile::{
    Direction, Interface, LINKTYPE_ETHERNET, PcapResolution, PcapWriter, PcapngWriter, RawOption,
    Reader, SectionInfo, Statistics,
};
use reading::by_hand::every_block;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that is removed at the end of the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("capfile-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is lost if it stays behind.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Says that the test is skipped, past the test runner's capture, unless the program is there.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!is_ci, "{program} is not installed, and CI installs everything");
        let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
    }
    found
}

/// Standard output of a program that must succeed and say nothing on standard error.
fn run(program: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(args).arg(file).output().expect("it is installed");
    let complaints: String = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.contains("Running as user \"root\""))
        .collect();
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}");
    String::from_utf8(output.stdout).expect("ASCII was asked for")
}

/// An Ethernet frame of a type for experiments.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((14..len).map(|i| i as u8));
    frame
}

const FIELDS: &[&str] = &[
    "-n",
    "-T",
    "fields",
    "-e",
    "frame.time_epoch",
    "-e",
    "frame.cap_len",
    "-e",
    "frame.len",
    "-e",
    "frame.interface_id",
    "-e",
    "frame.packet_flags_direction",
    "-e",
    "frame.comment",
    "-r",
];

#[test]
fn pcapng() -> Result<(), capfile::Error> {
    let section = SectionInfo {
        hardware: Some("test bench".into()),
        os: Some("Linux".into()),
        application: Some("capfile".into()),
        comment: Some("a section".into()),
    };
    let mut writer = PcapngWriter::new(Vec::new(), &section)?;
    let mut interface = Interface {
        snaplen: 262_144,
        name: Some("eth0".into()),
        description: Some("uplink".into()),
        filter: Some("tcp port 80".into()),
        os: Some("Linux".into()),
        ..Interface::new(LINKTYPE_ETHERNET)
    };
    interface.other.push(RawOption { code: 8, value: 10_000_000_000_u64.to_le_bytes().to_vec() });
    writer.add_interface(&interface)?;
    writer.add_interface(&Interface::new(101))?;
    let ts_ns = 1_700_000_000_123_456_789;
    writer.write(0, ts_ns, 1514, Direction::In, &frame(61), None)?;
    writer.write(0, ts_ns + 1, 60, Direction::Out, &frame(60), Some("noted"))?;
    writer.write(1, ts_ns + 2, 3, Direction::Unknown, &[0x45, 0, 0], Some("cut"))?;
    writer.write(0, ts_ns + 3, 20_000, Direction::Unknown, &frame(20_000), None)?;
    let statistics = Statistics {
        start_ns: Some(ts_ns),
        end_ns: Some(ts_ns + 9),
        received: Some(10),
        dropped: Some(1),
        filter_accepted: Some(4),
        os_drop: Some(2),
        delivered: Some(4),
        comment: Some("ledger".into()),
    };
    writer.write_stats(0, &statistics)?;
    if !installed("tshark") {
        return Ok(());
    }
    let file = Temporary::new("written.pcapng", writer.get_ref());
    assert_eq!(
        run("tshark", FIELDS, &file.0),
        "1700000000.123456789\t61\t1514\t0\t0x00000001\t\n\
         1700000000.123456790\t60\t60\t0\t0x00000002\tnoted\n\
         1700000000.123456791\t3\t3\t1\t\tcut\n\
         1700000000.123456792\t20000\t20000\t0\t\t\n"
    );
    if installed("capinfos") {
        let infos = run("capinfos", &[], &file.0);
        for fact in [
            "pcapng",
            "Number of packets:   4",
            "nanoseconds (9)",
            "Capture application: capfile",
            "Capture hardware:    test bench",
            "Capture comment:     a section",
            "Name = eth0",
            "Description = uplink",
            "Filter string = tcp port 80",
            "Number of interfaces in file: 2",
            "Number of stat entries = 1",
        ] {
            assert!(infos.contains(fact), "{fact} is not in\n{infos}");
        }
    }
    Ok(())
}

/// Both read a file of neither's making: every kind of block, three sections, two byte orders.
#[test]
fn a_file_by_hand() -> Result<(), capfile::Error> {
    if !installed("tshark") {
        return Ok(());
    }
    let bytes = every_block().bytes;
    let file = Temporary::new("hand.pcapng", &bytes);
    let theirs = run("tshark", &[&["-e", "frame.encap_type"], FIELDS].concat(), &file.0);
    // Custom blocks are records for tshark too, without a link type.
    let theirs: Vec<Vec<&str>> = theirs
        .lines()
        .map(|line| line.split('\t').collect())
        .filter(|fields: &Vec<&str>| !fields[0].is_empty())
        .collect();
    let mut reader = Reader::new(&bytes[..])?;
    for fields in &theirs {
        let record = reader.next()?.expect("as many as tshark finds");
        let direction = match record.direction {
            Direction::Unknown => "",
            Direction::In => "0x00000001",
            Direction::Out => "0x00000002",
        };
        let time = format!("{}.{:09}", record.ts_ns / 1_000_000_000, record.ts_ns % 1_000_000_000);
        // Simple packet blocks have no time.
        let time = if record.ts_ns == 0 { "" } else { &time };
        let (caplen, origlen) = (record.caplen().to_string(), record.origlen.to_string());
        let comment = record.comments().next().unwrap_or_default();
        assert_eq!(fields[1..4], [time, &caplen, &origlen]);
        // fields[4] counts interfaces anew in each section.
        assert_eq!(fields[5..], [direction, comment]);
    }
    assert_eq!(theirs.len(), 6);
    assert_eq!(reader.next()?, None);
    Ok(())
}

#[test]
fn pcap() -> Result<(), capfile::Error> {
    for (resolution, fraction) in
        [(PcapResolution::Micro, "123456000"), (PcapResolution::Nano, "123456789")]
    {
        let mut writer = PcapWriter::new(Vec::new(), LINKTYPE_ETHERNET, 262_144, resolution)?;
        writer.write(1_700_000_000_123_456_789, 1514, &frame(61))?;
        writer.write(4_294_967_295_000_000_000, 60, &frame(60))?;
        if !installed("tshark") {
            return Ok(());
        }
        let file = Temporary::new(fraction, writer.get_ref());
        assert_eq!(
            run("tshark", FIELDS, &file.0),
            format!("1700000000.{fraction}\t61\t1514\t\t\t\n4294967295.000000000\t60\t60\t\t\t\n")
        );
    }
    Ok(())
}

use super::*;
use crate::FilterConfig;
use filter::Direction;
use wire::LinkType;

const FILE: &str = "mirror.conf";

fn transmitting(text: &str) -> Result<Vec<L2tpTransmit>, String> {
    parse_l2tp_transmit(Path::new(FILE), text.as_bytes()).map_err(|error| error.to_string())
}

fn receiving(text: &str) -> Result<Vec<L2tpReceive>, String> {
    parse_l2tp_receive(Path::new(FILE), text.as_bytes()).map_err(|error| error.to_string())
}

fn id(text: &str) -> L2tpId {
    text.parse().unwrap()
}

#[test]
fn a_transmitter_s_file_is_read_as_it_was_written_for_others() {
    let text = "# receiver transmitter interface ports\r\n\
                \r\n\
                10.10.10.10 10.10.10.11 ens3 i80,o443\r\n\
                \t10.10.10.20\t10.10.10.11   ens4  all # all of it\r\n\
                [fd00::1] fd00::2 ens5 o53,i53,i53 77";
    let tunnels = transmitting(text).unwrap();
    let lines: Vec<usize> = tunnels.iter().map(|tunnel| tunnel.line).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(tunnels[0].receiver, "10.10.10.10".parse::<IpAddr>().unwrap());
    assert_eq!(tunnels[0].transmitter, "10.10.10.11".parse::<IpAddr>().unwrap());
    assert_eq!(tunnels[0].interface, "ens3");
    assert_eq!(tunnels[0].ports.to_string(), "i80,o443");
    // One id for two receivers does no harm: each knows one tunnel by it.
    assert_eq!([tunnels[0].id, tunnels[1].id], [id("10.10.10.11"); 2]);
    assert_eq!(tunnels[1].ports, MirrorPorts::All);
    assert_eq!((tunnels[2].id, tunnels[2].ports.to_string()), (id("77"), "o53,i53".into()));
}

#[test]
fn a_receiver_s_file_is_read_as_it_was_written_for_others() {
    let text = "\u{feff}10.10.10.10 10.10.10.11 - -\n\
                10.10.10.10 10.10.10.12 – –\n\
                10.10.10.10\u{a0}192.168.1.11 - 10.10.10.13\n\
                10.10.10.10 192.168.1.11 – 4294967295\n\
                fd00::1 fd00::2 - 5";
    let tunnels = receiving(text).unwrap();
    let ids: Vec<u32> = tunnels.iter().map(|tunnel| tunnel.id.get()).collect();
    assert_eq!(ids, [0x0a0a_0a0b, 0x0a0a_0a0c, 0x0a0a_0a0d, u32::MAX, 5]);
    assert_eq!(tunnels[0].id.to_string(), "10.10.10.11(168430091)");
    let tells = |source: &str| tunnels[0].id.tells_nat(source.parse().unwrap());
    assert_eq!(["10.10.10.11", "192.168.1.11"].map(tells), [Some(false), Some(true)]);
    assert_eq!((tells("fd00::1"), id("5").tells_nat([10, 0, 0, 1].into())), (None, None));
    assert_eq!(receiving("# nothing yet\n").unwrap(), []);
}

#[test]
fn each_mistake_of_a_transmitter_has_its_place_and_its_mend() {
    for (text, place, mend) in [
        ("10.0.0.1 10.0.0.2 ens3", "1:23", "four columns, this one 3: write `receiving-ip"),
        ("10.0.0.1 10.0.0.2 ens3 i80 5 6", "1:30", "a column too many"),
        ("10.0.0.1 10.0.0.2 ens3 i80, o443", "1:24", "`` is no port: write i80"),
        ("10.0.0.1 10.0.0.2 ens3 80", "1:24", "`80` is no port"),
        ("10.0.0.1 10.0.0.2 ens3 i0", "1:24", "1 to 65535"),
        ("10.0.0.1 10.0.0.2 ens3 o65536", "1:24", "1 to 65535"),
        ("10.0.0.1 10.0.0.2 ens3 i+80", "1:24", "1 to 65535"),
        ("10.0.0.1 10.0.0.2 ens3 i80,ö443", "1:24", "`ö443` is no port"),
        ("10.0.0.1 10.0.0.2 - -", "1:19", "tapline l2tp receive"),
        ("10.0.0.1 host ens3 all", "1:10", "transmit side: write an IP address"),
        ("\n  10.0.0.0.1 10.0.0.2 ens3 all", "2:3", "receiving side"),
        ("0.0.0.0 10.0.0.2 ens3 all", "1:1", "no address of one host"),
        ("10.0.0.1 fd00::2 ens3 all", "1:10", "two IPv4 or two IPv6"),
        ("fd00::1 fd00::2 ens3 all", "1:9", "add an id as a fifth column"),
        ("10.0.0.1 10.0.0.2 ens3 all 0", "1:28", "0 is the id of control messages"),
        ("10.0.0.1 10.0.0.2 a/b all", "1:19", "no name of an interface"),
        ("10.0.0.1 10.0.0.2 abcdefghijklmnop all", "1:19", "1 to 15 bytes"),
        ("10.0.0.1 10.0.0.2 a all\n10.0.0.1 10.0.0.2 b all", "2:21", "as that of line 1"),
    ] {
        let error = transmitting(text).unwrap_err();
        assert!(error.starts_with(&format!("{FILE}:{place}: ")), "{text}: {error}");
        assert!(error.contains(mend), "{text}: {error}");
    }
    let error = parse_l2tp_transmit(Path::new(FILE), b"10.0.0.1 \xff").unwrap_err();
    assert!(error.to_string().contains("0xff is not UTF-8"), "{error}");
}

#[test]
fn each_mistake_of_a_receiver_has_its_place_and_its_mend() {
    for (text, place, mend) in [
        ("10.0.0.1 10.0.0.2 ens3 i80", "1:19", "tapline l2tp transmit"),
        ("10.0.0.1 10.0.0.2 - - 5", "1:23", "a column too many"),
        ("10.0.0.1 10.0.0.2 -", "1:20", "this one 3"),
        ("10.0.0.1 10.0.0.2 - 0", "1:21", "0 is the id of control messages"),
        ("10.0.0.1 10.0.0.2 - 0.0.0.0", "1:21", "0 is the id of control messages"),
        ("10.0.0.1 10.0.0.2 - 4294967296", "1:21", "1 to 4294967295"),
        ("10.0.0.1 10.0.0.2 - mine", "1:21", "a dotted quad"),
        ("fd00::1 fd00::2 - -", "1:19", "write one instead of `-`"),
        // Ids, not addresses, are what tells tunnels apart; the first one need not show its own.
        ("# a\n10.0.0.1 10.0.0.2 - -\n10.0.0.9 10.0.0.3 - 10.0.0.2", "3:21", "that of line 2"),
    ] {
        let error = receiving(text).unwrap_err();
        assert!(error.starts_with(&format!("{FILE}:{place}: ")), "{text}: {error}");
        assert!(error.contains(mend), "{text}: {error}");
    }
}

#[test]
fn ports_become_rules_by_direction() {
    let ports: MirrorPorts = "i80,o443".parse().unwrap();
    let FilterConfig::Rules(rules) = ports.filter() else { panic!("rules") };
    let lines: Vec<String> = rules.as_slice().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "INCLUDE received tcp to port 80",
            "INCLUDE received udp to port 80",
            "INCLUDE sent tcp from port 443",
            "INCLUDE sent udp from port 443",
        ]
    );
    for direction in [Direction::In, Direction::Out, Direction::Unknown] {
        assert!(rules.compile(LinkType::ETHERNET, direction).is_ok());
    }
    assert_eq!("i1,all".parse::<MirrorPorts>().unwrap().filter(), FilterConfig::All);
}

#[test]
fn lines_are_added_behind_what_stands_there() {
    let add = |content: &str, line: &str| {
        let added = add_l2tp_lines(Path::new(FILE), content.as_bytes(), &[line.into()]);
        added.map(|content| String::from_utf8(content).unwrap()).map_err(|e| e.to_string())
    };
    assert_eq!(
        add("# mine\r\n10.0.0.1 10.0.0.2 - -", " 10.0.0.1 10.0.0.3 - - ").unwrap(),
        "# mine\r\n10.0.0.1 10.0.0.2 - -\r\n10.0.0.1 10.0.0.3 - -\r\n"
    );
    assert_eq!(add("", "10.0.0.1 10.0.0.2 a all").unwrap(), "10.0.0.1 10.0.0.2 a all\n");
    let error = add("10.0.0.1 10.0.0.2 - -\n", "10.0.0.1 10.0.0.2 - -").unwrap_err();
    assert!(error.contains("as that of line 1"), "{error}");
    let error = add("10.0.0.1 10.0.0.2 - -\n", "10.0.0.1 10.0.0.2 a all").unwrap_err();
    assert!(error.contains("read by `tapline l2tp transmit`"), "{error}");
    for line in ["", "# x", "10.0.0.1 10.0.0.2 - -\n10.0.0.1 10.0.0.3 - -"] {
        assert!(add("", line).unwrap_err().contains("no line with a tunnel"), "{line}");
    }
}

#[test]
fn a_tunnel_is_taken_out_and_all_else_stays() {
    let content = "\u{feff}# first\n10.0.0.1 10.0.0.2 - -\n# second\n10.0.0.1 10.0.0.3 – 7";
    let remove = |tunnel: &str| {
        let removed = remove_l2tp_tunnel(Path::new(FILE), content.as_bytes(), tunnel);
        removed.map(|content| String::from_utf8(content).unwrap()).map_err(|e| e.to_string())
    };
    let without_first = "\u{feff}# first\n# second\n10.0.0.1 10.0.0.3 – 7";
    assert_eq!(remove("10.0.0.2").unwrap(), without_first);
    assert_eq!(remove("167772162").unwrap(), without_first);
    assert_eq!(remove(" 10.0.0.1 10.0.0.2 – - # x").unwrap(), without_first);
    assert_eq!(
        remove("10.0.0.1 10.0.0.3 - 7").unwrap(),
        "\u{feff}# first\n10.0.0.1 10.0.0.2 - -\n# second\n"
    );
    let error = remove("8").unwrap_err();
    assert!(error.contains("no tunnel `8`: it has 10.0.0.2(167772162), 0.0.0.7(7)"), "{error}");
    assert!(remove("").is_err() && remove("#").is_err());
}

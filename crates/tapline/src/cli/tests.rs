use super::*;
use clap::CommandFactory;

fn refused(arguments: &str) -> String {
    let words = std::iter::once("tapline").chain(arguments.split(' '));
    let error = Cli::try_parse_from(words).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{arguments}");
    error.to_string()
}

#[test]
fn the_declaration_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_contract_s_forms_are_understood() {
    for arguments in [
        "capture -i eth0 -w x.pcapng -s 200 -c 10 -C 1 -G 60 -W 3 -U tcp port 80",
        "capture -r - --format json",
        "capture -i any -B auto -w any.pcapng --workers auto",
        "capture -r big.pcap --wire-true --mtu 9000 -w true.pcapng",
        "capture -i eth0 --wire-true",
        "capture -r x.pcap --decap all --decap-port vxlan=8472 --decap-port gre=9 -w y.pcapng",
        "capture -i any --decap 2 --format json tcp",
        "capture -i eth0 -nn -p -B 4096 -Q inout not port 22",
        "mirror -i eth0 --to vxlan://10.0.0.2?vni=7 --direction in -s 128 tcp",
        "mirror -r f --to vxlan://a?vni=1,vxlan://b?vni=1 --to null: --oversize drop --dscp 46 --datapath ring",
        "receive --listen vxlan://0.0.0.0 --archive d -C 10MB -G 30s --stats-json s.json",
        "receive --listen vxlan://[::]:4790?vni=7 -w - -q",
        "receive --listen gre://[::] --datapath ring --decap 0 -B 16MiB -w outer.pcapng",
        "receive --listen l2tp+udp://0.0.0.0 --datapath socket --decap all -w x.pcapng",
        "receive --listen vxlan://0.0.0.0 --archive d --max-bytes 10GB --health [::]:8080",
        "receive --listen vxlan://0.0.0.0 --archive s3://b/p --spool s --spool-max 10GB --spool-policy drop_oldest_uploaded --bandwidth 10MB --store-config f.toml --seal-level -3 --stop-within 5s --expire-after 720h --user u --group g",
        "receive --listen vxlan://0.0.0.0 --to nic:eth1 --to tap:a,tap:b --oversize drop",
        "receive --listen vxlan://0.0.0.0 --archive d --to vxlan://h?vni=1 -G 5",
        "diag offload -i eth0 -i eth1 --to geneve://10.0.0.2?vni=7 --format json",
        "diag taps",
        "diag taps -i eth0 -i eth1 --format json",
        "doctor",
        "doctor -i eth0 --to vxlan://10.0.0.2?vni=7 --format json",
        "diag traffic",
        "diag traffic -i eth0 --time 5s --packets 100 --format json",
        "diag traffic -r x.pcap",
        "diag monitor -i any --time 1m --decap-port vxlan=8472",
        "diag monitor -r x.pcap --format json --stats-json s.json",
        "check -c f --format json",
        "check --in nic:eth1,vlan=100 --in pcap:f,speed=x2 --out nic:a,nic:b --out null: --queue 1MB tcp",
        "check --in gre://0.0.0.0 --out nic:a --overflow drop_newest --oversize cut --dscp 8 -s 96 --rules f",
        "l2tp transmit -c t.conf --keep-alive 5s --oversize drop --dscp 8 --promiscuous -B 1024",
        "l2tp receive -c r.conf --device ruei-mtun --silent-after 2m --datapath socket -B 1MiB",
        "l2tp config remove -c r.conf 10.10.10.11 7",
        "inline --in eth0 --out eth1 --forward tcp://192.0.2.1:80=10.0.0.5:8080,source=10.0.0.9 --view ingress,inline -w - -s 96",
        "inline -c f -w x.pcapng --datapath ring -B 16MiB",
        "inline --in a --out a --forward [2001:db8::1]=2001:db8::2 --to null: --sessions 10 --fail closed --table x",
        "inline -c f --archive d --max-bytes 10GB --spool s --stop-within 5s -w x.pcapng",
        "inline show 7 --format json",
        "inline stop --table web",
        "inline add tcp://192.0.2.1:80=10.0.0.5:8080,source=10.0.0.9 --name web --view ingress,inline --to pcap:x -s 96",
        "inline add 192.0.2.1=10.0.0.5 --table a --format json",
        "inline remove web tcp://192.0.2.1:80 --table a",
        "inline list --format json",
        "diag tunnels --format json",
        "search --archive d --after 2026-11-27T14:30:00+01:00 --before now tcp port 80",
        "search --archive s3://b/p --spool s --after 1795789800.000000001 -w - -c 5 -- vni 71 and tcp",
        "search --archive d --format flows -q",
        "archive ls --archive d --source a --source b --after 2026-11-27 --before now",
        "archive verify --archive s3://b/p --deep --spool d --format json",
        "archive repair --archive d --dry-run",
        "archive hold case-7 --archive d --source a --after 1 --object k --note x",
        "archive release case-7 --archive d",
        "archive expire --archive d --older-than 30d --max-bytes 1GB --keep-per-source 1MB --dry-run",
        "archive cat --archive d -w -",
        "archive import --archive d --source a x.pcap y.pcapng.gz",
        "archive reindex --archive d --source a",
        "filter check --rules f",
        "filter check --link-type raw --format json tcp port 80",
        "filter explain --ddd --link-type 1 -Q in --rules f",
        "filter explain --ebpf not port 22",
        "filter test -r x.pcap --rules f",
        "filter test -r - tcp and not port 22",
    ] {
        let words = std::iter::once("tapline").chain(arguments.split(' '));
        Cli::try_parse_from(words).unwrap();
    }
}

#[test]
fn mistakes_say_the_mend() {
    assert!(refused("capture").contains("--interface"));
    assert!(refused("mirror -i eth0").contains("--to"));
    assert!(refused("mirror -i eth0 --to vxlan://h").contains("vni=N"));
    assert!(refused("mirror -i eth0 --to null: -s 13").contains("14 or more"));
    assert!(
        refused("mirror -i eth0 --to null: --oversize x").contains("auto, fragment, cut or drop")
    );
    assert!(refused("mirror -i eth0 --to null: --dscp 64").contains("0..=63"));
    assert!(refused("receive --listen vxlan://0.0.0.0").contains("--archive"));
    assert!(refused("receive --listen null: -w x").contains("listen"));
    let receive = "receive --listen vxlan://0.0.0.0";
    assert!(refused(&format!("{receive} --archive d --max-bytes 10")).contains("100kB"));
    assert!(refused(&format!("{receive} -w f --max-bytes 1GB")).contains("--write"));
    assert!(refused(&format!("{receive} -w f --archive d")).contains("cannot be used with"));
    assert!(refused(&format!("{receive} --to vxlan://h")).contains("vni=N"));
    assert!(refused(&format!("{receive} -w f --decap 255")).contains("0 to 254, or all"));
    assert!(refused(&format!("{receive} -w f --health 8080")).contains("127.0.0.1:8080"));
    assert!(refused("capture -i e --workers 0").contains("1 to 64, or auto"));
    assert!(refused("capture -r f --workers 2").contains("--read"));
    assert!(refused("capture -r f --mtu 1400").contains("--wire-true"));
    assert!(refused("capture -r f --wire-true --mtu 500").contains("576"));
    assert!(refused("capture -i e --wire-true --mtu 1400").contains("--interface"));
    assert!(refused("capture -i e -B 1").contains("64KiB"));
    assert!(refused("capture -i e -c 0").contains("0"));
    assert!(refused("capture -i e -Q sideways").contains("both, in or out"));
    assert!(refused("capture -r f --decap 0").contains("1 to 254, or all"));
    assert!(refused("capture -r f --decap-port vxlan=1").contains("--decap"));
    let capture = "capture -r f --decap all --decap-port";
    assert!(refused(&format!("{capture} nvgre=1")).contains("geneve=PORT"));
    assert!(refused(&format!("{capture} gretap=1")).contains("gre=PORT"));
    assert!(refused(&format!("{capture} vxlan=0")).contains("1 to 65535"));
    assert!(refused("diag offload --to null:").contains("write a tunnel"));
    assert!(refused("diag traffic -i e -r f").contains("cannot be used with"));
    assert!(refused("diag traffic -r f --time 1s").contains("cannot be used with"));
    assert!(refused("diag traffic --packets 0").contains("1..=1000000"));
    assert!(refused("diag monitor --time 0").contains("longer than zero"));
    assert!(refused("check").contains("--config"));
    assert!(refused("check -c f --in nic:a --out null:").contains("cannot be used with"));
    assert!(refused("check -c f -s 96").contains("cannot be used with"));
    assert!(refused("check -c f tcp").contains("--in"));
    assert!(refused("check --in nic:a").contains("--out"));
    assert!(refused("check --in nic:a,vlan=4095 --out null:").contains("0 to 4094"));
    assert!(refused("check --in nic:a --out null: --queue 0MB").contains("holds no packet"));
    assert!(refused("check --in nic:a --out null: --overflow no").contains("drop_oldest or"));
    assert!(refused("search tcp").contains("--archive"));
    assert!(refused("search --archive d --after yesterday").contains("3h ago"));
    assert!(refused("search --archive d -c 0").contains("0"));
    assert!(refused("search --archive ftp://h").contains("s3://"));
    assert!(refused("search --archive d -w f --format json").contains("cannot be used with"));
    assert!(refused("archive ls").contains("--archive"));
    assert!(refused("archive ls --archive ftp://x").contains("s3://"));
    assert!(refused("archive ls --archive d --after noon").contains("3h ago"));
    assert!(refused("archive expire --archive d").contains("--older-than"));
    assert!(refused("archive expire --archive d --older-than x").contains("30d"));
    assert!(refused("archive import --archive d").contains("FILE"));
    assert!(refused("inline add 192.0.2.1").contains("NEXT_HOST"));
    assert!(refused("inline add 192.0.2.1=10.0.0.5 --to pcap:-").contains("standard output"));
    assert!(refused("inline remove").contains("RULE"));
    assert!(refused("inline -c f --spool s").contains("--archive"));
    assert!(refused("filter check").contains("--rules"));
    assert!(refused("filter check --rules f tcp").contains("cannot be used with"));
    assert!(refused("filter test --rules f").contains("--read"));
    assert!(refused("filter explain --ddd --ebpf tcp").contains("cannot be used with"));
    assert!(refused("filter check --link-type ether tcp").contains("EN10MB"));
}

#[test]
fn options_of_a_search_may_stand_behind_what_is_looked_for() {
    let words = "tapline search --archive d tcp port 80 -w out --after 5";
    let cli = Cli::try_parse_from(words.split(' ')).unwrap();
    let Command::Search(search) = cli.command else { panic!("{words}") };
    assert_eq!(search.query, ["tcp", "port", "80"]);
    assert_eq!((search.after, search.write), (Some(5_000_000_000), Some("out".into())));
}

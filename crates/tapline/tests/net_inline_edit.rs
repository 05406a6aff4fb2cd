//! A forwarding table is edited while it runs, by both datapaths: a rule that is added forwards at once,
//! one that is removed no longer, other rules' sessions go on, and what cannot stand together is refused.

mod over_links;

use over_links::*;
use rig::{Running, root_or_skip, rows, stats, tool_or_skip, wait_until};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client tries where nobody is to answer.
const IN_VAIN: Duration = Duration::from_millis(700);

/// Our address, the next host, and what follows it in a rule; nobody has the addresses by which user space
/// forwards.
fn ends(scene: &Scene, datapath: &str) -> (IpAddr, IpAddr, &'static str) {
    let next = scene.host("sink").v4("tapped").into();
    match datapath {
        "kernel" => (scene.host("tapped").v4("client").into(), next, ""),
        _ => (IpAddr::from([10, 71, 0, 100]), next, ",source=10.71.1.100"),
    }
}

fn start(scene: &Scene, datapath: &str, words: &[&str]) -> Running {
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.args(["inline", "--datapath", datapath]).args(words);
    command.arg("--stats-json").arg(scene.path("ledger.json"));
    command.env("TAPLINE_RUN_DIR", scene.path("run"));
    let running = Running::start(&mut command);
    running.wait_for("rules from client to sink", STARTED);
    running
}

/// What a command says, and whether it did what was asked.
fn ask(scene: &Scene, words: &[&str]) -> (bool, String) {
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.arg("inline").args(words).env("TAPLINE_RUN_DIR", scene.path("run"));
    let output = command.current_dir(scene.path("")).output().expect("the program runs");
    let both = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&both).into_owned())
}

fn done(scene: &Scene, words: &[&str]) -> String {
    let (is_done, said) = ask(scene, words);
    assert!(is_done, "{words:?}: {said}");
    said
}

fn refused(scene: &Scene, words: &[&str]) -> String {
    let (is_done, said) = ask(scene, words);
    assert!(!is_done, "{words:?}: {said}");
    said
}

/// A connection from the client to our address, and its end at the next host.
struct Connection {
    near: TcpStream,
    far: TcpStream,
}

impl Connection {
    fn open(scene: &Scene, ours: IpAddr, next: IpAddr, port: u16) -> Connection {
        let listen = || TcpListener::bind((next, port)).expect("the address is there");
        let listener = scene.host("sink").netns.run(listen).expect("the namespace is there");
        let connect = || TcpStream::connect_timeout(&(ours, port).into(), PATIENCE);
        let near = scene.host("client").netns.run(connect).expect("the namespace is there");
        let near = near.expect("the way is there");
        let (far, _) = listener.accept().expect("who connects is accepted");
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        }
        Connection { near, far }
    }

    /// Both ends say something to each other.
    fn go_on(&mut self) {
        for (from, to) in [(&self.near, &self.far), (&self.far, &self.near)] {
            let (mut from, mut to) = (from, to);
            from.write_all(b"go on").expect("it is taken");
            let mut buffer = [0; 5];
            to.read_exact(&mut buffer).expect("it comes in time");
            assert_eq!(&buffer, b"go on");
        }
    }

    fn client(&self) -> SocketAddr {
        self.near.local_addr().expect("it is connected")
    }
}

fn is_closed(scene: &Scene, ours: IpAddr, port: u16) -> bool {
    let connect = || TcpStream::connect_timeout(&(ours, port).into(), IN_VAIN).is_err();
    scene.host("client").netns.run(connect).expect("the namespace is there")
}

fn edited_by(datapath: &str) {
    let scene = Scene::new(&format!("inline-edit-{datapath}"));
    let (ours, next, source) = ends(&scene, datapath);
    let web = format!("tcp://{ours}:80={next}{source}");
    let words = ["--in", "client", "--out", "sink", "--fail", "closed", "--forward", &web];
    let running = start(&scene, datapath, &words);
    let mut first = Connection::open(&scene, ours, next, 80);
    first.go_on();
    assert!(is_closed(&scene, ours, 22));

    let ssh = format!("tcp://{ours}:22={next}{source}");
    let views = ["--name", "ssh", "--view", "ingress,egress,inline", "--to", "pcap:ssh.pcapng"];
    let said = done(&scene, &[&["add", &ssh][..], &views].concat());
    let name = format!("tcp://{ours}:80");
    let in_force = format!(
        "table inline: 2 rules in force\nrule {name}: {web}; command line\n\
         rule ssh: {ssh}; views ingress, egress, inline; added\n"
    );
    assert_eq!(said, format!("rule ssh: added\n{in_force}"));
    let mut second = Connection::open(&scene, ours, next, 22);
    second.go_on();
    first.go_on();

    // Nothing of what is refused is done, not by half either.
    let other = format!("tcp://{ours}:80={next}{source}");
    let said = refused(&scene, &["add", &other, "--name", "other"]);
    assert!(said.contains("rule `other` matches the same as rule `tcp://"), "{said}");
    assert!(said.contains("all goes on as before"), "{said}");
    let said = refused(&scene, &["add", &format!("{next}=10.71.9.9{source}")]);
    assert!(said.contains(&format!("is an address of this host by rule `{next}`")), "{said}");
    let itself = scene.host("tapped").v4("sink");
    let said = refused(&scene, &["add", &format!("udp://{ours}={itself}{source}")]);
    assert!(said.contains("is this host itself"), "{said}");
    let said =
        refused(&scene, &["add", &format!("udp://{ours}={next}{source}"), "--view", "inline"]);
    assert!(said.contains("its views go nowhere"), "{said}");
    let said = refused(&scene, &["remove", "ssh", "dns"]);
    assert!(said.contains("no rule `dns`; there is"), "{said}");
    assert_eq!(done(&scene, &["list"]), in_force);
    assert_eq!(done(&scene, &["list", "--table", "inline"]), in_force);
    let said = refused(&scene, &["list", "--table", "other"]);
    assert!(said.contains("there is inline"), "{said}");
    first.go_on();
    second.go_on();

    // Where nobody answers for an address, it is said.
    let (name, absent) = ("absent", IpAddr::from([10, 71, 0, 99]));
    let said = done(&scene, &["add", &format!("udp://{absent}={next}{source}"), "--name", name]);
    let note = format!("note: rule {name}: {absent} is no address of this host");
    assert_eq!(said.contains(&note), datapath == "kernel", "{said}");
    done(&scene, &["remove", name]);

    let client = first.client();
    let sessions = || {
        let shown = done(&scene, &["show"]);
        [client, second.client()].map(|client| shown.contains(&format!("{client} -> {ours}")))
    };
    assert_eq!(sessions(), [true, true]);
    let said = done(&scene, &["remove", "ssh"]);
    assert!(said.starts_with("rule ssh: removed\ntable inline: 1 rules in force\n"), "{said}");
    assert_eq!(sessions(), [true, false]);
    assert!(is_closed(&scene, ours, 22));
    first.go_on();
    assert_eq!(first.client(), client);
    assert_views(&scene.path("ssh.pcapng"), second.client(), ours, next);
    // It comes back with what it had counted, and with a file of its own.
    done(&scene, &[&["add", &ssh][..], &views].concat());
    let mut third = Connection::open(&scene, ours, next, 22);
    third.go_on();
    third.go_on();
    first.go_on();

    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let ledger = stats(scene.path("ledger.json"));
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    let lines: Vec<_> = ledger.taps.iter().filter(|tap| tap.name == "ssh").collect();
    assert_eq!(lines.len(), 1, "{ledger}");
    assert!(lines[0].matched >= 14, "{ledger}");
    assert_views(&scene.path("ssh.pcapng"), third.client(), ours, next);
}

/// A connection's views are in a file, an interface for each.
fn assert_views(file: &Path, client: SocketAddr, ours: IpAddr, next: IpAddr) {
    if !tool_or_skip("tshark") {
        return;
    }
    let said = |view: &str, to: IpAddr| {
        let filter =
            format!("frame.interface_name == \"ssh {view}\" && ip.dst == {to} && tcp.len == 5");
        rows(file, &["-Y", &filter], &["ip.src", "tcp.srcport"])
    };
    let from_client = vec![client.ip().to_string(), client.port().to_string()];
    // What leaves a table runs dry on its own.
    wait_until("all is written", SOON, || said("egress", next).len() == 2);
    // Both times that it went on.
    let twice = [from_client.clone(), from_client];
    assert_eq!(said("ingress", ours), twice);
    assert_eq!(said("inline", next), twice);
}

#[test]
fn rules_come_and_go_in_user_space() {
    if root_or_skip() {
        edited_by("ring");
    }
}

#[test]
fn rules_come_and_go_in_the_kernel() {
    if root_or_skip() {
        edited_by("kernel");
    }
}

#[test]
fn a_reload_replaces_the_file_s_rules_and_leaves_added_ones() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-edit-file");
    let (ours, next, _) = ends(&scene, "ring");
    let source: IpAddr = "10.71.1.100".parse().unwrap();
    let path = scene.path("table.toml");
    let rule = |name: &str, port: u16| {
        format!(
            "[[rule]]\nname = \"{name}\"\naddress = \"{ours}\"\nnext_host = \"{next}\"\n\
             source = \"{source}\"\nprotocol = \"tcp\"\nport = {port}\n"
        )
    };
    let write = |rules: &[String]| {
        let head = "in = \"client\"\nout = \"sink\"\n".to_owned();
        std::fs::write(&path, head + &rules.concat()).unwrap();
    };
    write(&[rule("web", 80)]);
    let running = start(&scene, "ring", &["-c", text(&path)]);
    let ssh = format!("tcp://{ours}:22={next},source={source}");
    done(&scene, &["add", &ssh, "--name", "ssh"]);
    let mut added = Connection::open(&scene, ours, next, 22);

    write(&[rule("web", 8080)]);
    assert_eq!(done(&scene, &["reload"]), "rule web: changed\n");
    let file = path.display();
    let web = format!("rule web: tcp://{ours}:8080={next},source={source}; {file}\n");
    let both = format!("table inline: 2 rules in force\n{web}rule ssh: {ssh}; added\n");
    assert_eq!(done(&scene, &["list"]), both);
    added.go_on();

    // What the file cannot say beside it changes nothing.
    write(&[rule("web", 80), rule("login", 22)]);
    let said = refused(&scene, &["reload"]);
    assert!(said.contains("rule `ssh` matches the same as rule `login`"), "{said}");
    assert!(said.contains("added while the table runs"), "{said}");
    assert_eq!(done(&scene, &["list"]), both);
    added.go_on();

    // Once the file says the same, it is the file's, and goes with it.
    write(&[rule("web", 80), rule("ssh", 22)]);
    assert_eq!(done(&scene, &["reload"]), "rule web: changed\n");
    assert!(done(&scene, &["list"]).contains(&format!("rule ssh: {ssh}; {file}\n")));
    added.go_on();
    // A rule of the file that is removed is the file's still.
    done(&scene, &["remove", "web"]);
    assert!(is_closed(&scene, ours, 80));
    assert_eq!(done(&scene, &["reload"]), "rule web: added\n");
    write(&[rule("web", 80)]);
    assert_eq!(done(&scene, &["reload"]), "rule ssh: removed\n");
    assert!(is_closed(&scene, ours, 22));

    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(stats(scene.path("ledger.json")).unaccounted, 0);
}

/// Whether the tapped host has an interface.
fn has_interface(scene: &Scene, name: &str) -> bool {
    let mut command = scene.host("tapped").netns.command("ip");
    command.args(["link", "show", "dev", name]).output().expect("ip runs").status.success()
}

/// The payloads of five bytes that a file has.
fn payloads(file: &Path) -> usize {
    rows(file, &["-Y", "tcp.len == 5"], &["frame.number"]).len()
}

#[test]
fn what_views_go_to_changes_without_harm_to_files_and_devices() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("inline-edit-places");
    let (ours, next, _) = ends(&scene, "ring");
    let (path, file, other) =
        (scene.path("table.toml"), scene.path("web.pcapng"), scene.path("other.pcapng"));
    let rule = |port: u16, to: &[&str]| {
        format!(
            "[[rule]]\nname = \"of-{port}\"\naddress = \"{ours}\"\nnext_host = \"{next}\"\n\
             source = \"10.71.1.100\"\nprotocol = \"tcp\"\nport = {port}\nviews = [\"inline\"]\n\
             to = {to:?}\n"
        )
    };
    let write = |rules: &[String]| {
        let head = "in = \"client\"\nout = \"sink\"\n".to_owned();
        std::fs::write(&path, head + &rules.concat()).unwrap();
    };
    let (to_file, to_other) = (format!("pcap:{}", text(&file)), format!("pcap:{}", text(&other)));
    write(&[rule(80, &[&to_file])]);
    let running = start(&scene, "ring", &["-c", text(&path)]);
    let mut connection = Connection::open(&scene, ours, next, 80);
    for _ in 0..3 {
        connection.go_on();
    }

    // What is refused costs no file and leaves no device, though these come before what is at fault.
    std::fs::write(&other, "what was there").unwrap();
    let web = rule(80, &[&to_file]);
    write(&[web, rule(81, &[&to_other, "tap:views"]), rule(82, &["nic:absent"])]);
    let said = refused(&scene, &["reload"]);
    assert!(said.contains("absent"), "{said}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "what was there");
    assert!(!has_interface(&scene, "views"));
    connection.go_on();

    // A file that stays is begun anew by who writes it then, and by nobody else.
    write(&[rule(80, &[&to_file, "tap:views"])]);
    assert_eq!(done(&scene, &["reload"]), "rule of-80: changed\n");
    assert!(has_interface(&scene, "views"));
    connection.go_on();
    connection.go_on();
    write(&[rule(80, &[&to_other])]);
    assert_eq!(done(&scene, &["reload"]), "rule of-80: changed\n");
    wait_until("what leaves has run dry", SOON, || !has_interface(&scene, "views"));
    assert_eq!(payloads(&file), 4, "two times two");
    connection.go_on();

    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(stats(scene.path("ledger.json")).unaccounted, 0);
    assert_eq!([&file, &other].map(|file| payloads(file)), [4, 2]);
}

#[test]
fn views_go_to_a_rule_s_own_places_and_to_the_file_of_all() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("inline-edit-all");
    let (ours, next, source) = ends(&scene, "ring");
    let (all, own) = (scene.path("all.pcapng"), scene.path("own.pcapng"));
    let web = format!("tcp://{ours}:80={next}{source}");
    let words = ["--in", "client", "--out", "sink", "--forward", &web, "-w", text(&all)];
    let running = start(&scene, "ring", &words);
    let ssh = format!("tcp://{ours}:22={next}{source}");
    let to = format!("pcap:{}", text(&own));
    let said = refused(&scene, &["add", &ssh, "--to", &format!("pcap:{}", text(&all))]);
    assert!(said.contains("is the file of another target too"), "{said}");
    done(&scene, &["add", &ssh, "--name", "ssh", "--to", &to]);
    let mut both = [80, 22].map(|port| Connection::open(&scene, ours, next, port));
    both.iter_mut().for_each(Connection::go_on);
    done(&scene, &["remove", "ssh"]);
    // The file of all is not begun anew.
    both[0].go_on();

    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(stats(scene.path("ledger.json")).unaccounted, 0);
    assert_eq!([&all, &own].map(|file| payloads(file)), [6, 2]);
}

//! `tapline man`: the manual pages, from the command line's declaration.
//!
//! What no option says stands here: examples, exit codes, signals. The examples are parsed by a test.

use crate::cli::{Cli, Man};
use crate::completions::print;
use crate::failure::Failure;
use clap::{Command, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};
use std::path::Path;

/// Command lines, and what each does; a page shows those of its command.
const EXAMPLES: [(&str, &str); 16] = [
    ("tapline capture -i eth0 'tcp port 80'", "Prints web traffic, one line a packet."),
    (
        "tapline capture -i eth0 -w day-%H.pcapng -G 1h -s 200",
        "Records the first 200 bytes of each packet, a file for each hour of the day.",
    ),
    (
        "tapline capture -r in.pcap -w out.pcapng 'host 10.0.0.7'",
        "Copies one host's packets into another file.",
    ),
    (
        "tapline mirror -i eth0 --to 'vxlan://10.0.0.2?vni=71' 'not port 22'",
        "Mirrors an interface over VXLAN.",
    ),
    (
        "tapline mirror -i eth0 --to 'vxlan://10.0.0.2?vni=71,vxlan://10.0.0.3?vni=71'",
        "Shares the packets out to two sinks, both directions of a flow to the same one.",
    ),
    (
        "tapline mirror -r in.pcap --to 'vxlan://[fd00::2]?vni=7' --oversize drop",
        "Sends a file's packets over IPv6, without fragments.",
    ),
    (
        "tapline mirror -i eth0 --rules web.toml --to 'vxlan://10.0.0.2?vni=71' --stats-json web.json",
        "Mirrors what ordered rules include, and counts how often each decided.",
    ),
    ("tapline mirror -c /etc/tapline/taps.toml", "Runs the taps of a file."),
    (
        "tapline receive --listen vxlan://0.0.0.0 --archive /var/lib/tapline",
        "Records every VXLAN tunnel, a series of segments for each VNI and sender.",
    ),
    (
        "tapline receive --listen 'vxlan://[::]:4789?vni=71' -w tap.pcapng -C 100 -W 10",
        "Records one VNI into a ring of ten files of 100 MB.",
    ),
    (
        "tapline filter check --rules web.toml",
        "Says which rules there are, which never decide, and whether the kernel takes them.",
    ),
    (
        "tapline filter test -r in.pcap 'tcp port 80'",
        "Says how many packets of a file an expression keeps.",
    ),
    (
        "tapline inline --in eth0 --out eth1 --forward 192.0.2.10=10.0.0.5,source=10.0.0.9 -w x.pcapng",
        "Forwards what is sent to an address, replies back, and records both as client and server see it.",
    ),
    ("tapline top", "Shows what goes through every tapline of this host."),
    ("tapline broker reload", "Has the running broker read its file again."),
    ("tapline man /usr/local/share/man/man1", "Writes all manual pages into a folder."),
];

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done; also where -c, SIGINT or SIGTERM brought the end."),
    ("1", "It could not be done. The message says what, where, and how to mend it."),
    ("2", "The command line or a file that it names has a mistake."),
    ("3", "Packets were lost, and --fail-on-drop was given."),
];

const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGINT, SIGTERM",
        "End: nothing more is let in, what has come in is brought out, the ledger is printed. A second \
         one, a second or more later, ends at once and without a ledger.",
    ),
    (
        "SIGHUP",
        "Has a file of taps or of a broker, or of L2TP tunnels, read again: what has not changed goes on \
         undisturbed, and a file with a mistake changes nothing. Where there is no such file it is the end.",
    ),
    ("SIGUSR1", "Writes the ledger so far to the file of --stats-json."),
];

pub fn run(options: &Man) -> Result<(), Failure> {
    let pages = pages();
    let Some(dir) = &options.dir else {
        return print(&pages[0].1);
    };
    let failed = |path: &Path, e: std::io::Error| {
        Failure::CouldNot(format!(
            "write {}: {e}; choose a folder that you may write to",
            path.display()
        ))
    };
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    for (name, page) in pages {
        let path = dir.join(name);
        std::fs::write(&path, page).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// The name of each page's file and its text; the main page first.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut main = Cli::command();
    main.build();
    let mut pages = Vec::new();
    add_pages(&main, &mut pages);
    pages
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    pages.push(page(command.clone()));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        add_pages(inner, pages);
    }
}

fn page(command: Command) -> (String, Vec<u8>) {
    let sections = sections(&command);
    let has_commands = command.has_subcommands();
    let man = clap_mangen::Man::new(command)
        .source(concat!("tapline ", env!("CARGO_PKG_VERSION")))
        .manual("tapline");
    let mut page = Vec::new();
    let out = &mut page;
    man.render_title(out)
        .and_then(|()| man.render_name_section(out))
        .and_then(|()| man.render_synopsis_section(out))
        .and_then(|()| man.render_description_section(out))
        .and_then(|()| man.render_options_section(out))
        .and_then(|()| if has_commands { man.render_subcommands_section(out) } else { Ok(()) })
        .and_then(|()| sections.to_writer(out))
        .expect("writing to memory cannot fail");
    (man.get_filename(), page)
}

/// The sections behind the options.
fn sections(command: &Command) -> Roff {
    let mut roff = Roff::default();
    let words = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned() + " ";
    let mut examples = EXAMPLES.iter().filter(|(line, _)| line.starts_with(&words)).peekable();
    if examples.peek().is_some() {
        roff.control("SH", ["EXAMPLES"]);
        list(&mut roff, examples);
    }
    roff.control("SH", ["EXIT STATUS"]);
    list(&mut roff, &EXIT_STATUS);
    let has_ledger = command.get_arguments().any(|argument| argument.get_id() == "stats_json");
    if has_ledger {
        roff.control("SH", ["SIGNALS"]);
        list(&mut roff, &SIGNALS);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(match command.get_name() {
        "tapline" => "pcap-filter(7), tcpdump(1), wireshark(1), setcap(8)",
        _ => "tapline(1), pcap-filter(7)",
    })]);
    roff
}

fn list<'a>(roff: &mut Roff, items: impl IntoIterator<Item = &'a (&'static str, &'static str)>) {
    for (term, what) in items {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let pages = pages();
        assert_eq!(pages[0].0, "tapline.1");
        for (name, has_ledger) in [
            ("capture", true),
            ("mirror", true),
            ("receive", true),
            ("demo", false),
            ("man", false),
        ] {
            let file = format!("tapline-{name}.1");
            let (_, page) = pages.iter().find(|(found, _)| *found == file).unwrap();
            let page = String::from_utf8(page.clone()).unwrap();
            for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH \"EXIT STATUS\""] {
                assert!(page.contains(part), "{file}: {part}\n{page}");
            }
            assert_eq!(page.contains("stats\\-json"), has_ledger, "{file}");
            assert_eq!(page.contains("SIGUSR1"), has_ledger, "{file}");
        }
    }

    #[test]
    fn the_examples_are_understood() {
        for (line, _) in EXAMPLES {
            assert_eq!(documented::finding(line), Some(Ok(())), "{line}");
        }
    }
}

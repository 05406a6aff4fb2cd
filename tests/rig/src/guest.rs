//! A machine with a kernel of its own, whose network devices judge ours.
//!
//! ```text
//! namespace of the test               QEMU, the processor emulated
//! ┌───────────────┐                  ┌────────────────────────────┐
//! │ TAP "guest"   ├───── frames ─────┤ eth0   Debian's kernel     │
//! │ this process  ├─── a line each ──┤ ttyS1  scripts/guest-init  │
//! └───────────────┘                  └────────────────────────────┘
//! ```
//!
//! `scripts/guest` makes what is booted. The machine has no disk, and ends with its [`Guest`].

use crate::skip::skip;
use crate::{Scratch, root_or_skip, tool_or_skip};
use io::netns::Netns;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The TAP device that leads to the guest.
pub const GUEST_LINK: &str = "guest";

/// The begin of the line that ends an answer; `scripts/guest-init` has it too.
const END: &str = "=== ";
/// Some 10 s are usual on an idle core.
const BOOT_TIME_MAX: Duration = Duration::from_secs(180);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// The kernel says nothing but errors, to `console`, and a panic ends the machine. What makes an
/// emulated processor slow is switched off.
const KERNEL_WORDS: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable";

/// A machine that runs. Dropped, it is switched off, and its TAP device is gone.
pub struct Guest {
    machine: Child,
    shell: ChildStdin,
    /// Lines of the shell's answers.
    lines: Receiver<String>,
    scratch: Scratch,
}

/// Where the kernel and the system are that a guest is booted from, or `None` with the reason
/// printed if there can be no guest here.
///
/// # Panics
/// In CI if there is no QEMU.
pub fn guest_or_skip() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TAPLINE_GUEST").map(PathBuf::from) else {
        skip("boots a kernel of its own: `make test-kernel` runs it");
        return None;
    };
    if !root_or_skip() || !tool_or_skip("qemu-system-x86_64") {
        return None;
    }
    if !folder.join("initramfs.gz").exists() {
        skip(&format!("no kernel in {} (`scripts/guest` makes it)", folder.display()));
        return None;
    }
    Some(folder)
}

impl Guest {
    /// Boots a machine from the files that [`guest_or_skip`] found, linked to a namespace by the
    /// TAP device [`GUEST_LINK`]. Its own end is `eth0`; both are up, without addresses.
    ///
    /// # Panics
    /// If it does not boot, with what the kernel said.
    pub fn boot(folder: &std::path::Path, netns: &Netns) -> Guest {
        let scratch = Scratch::new("guest");
        let mut machine = command(folder, netns, &scratch).spawn().expect("QEMU can be started");
        let shell = machine.stdin.take().expect("piped");
        let stdout = BufReader::new(machine.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut guest = Guest { machine, shell, lines, scratch };
        guest.answer("boot", BOOT_TIME_MAX);
        netns.ip(&format!("link set {GUEST_LINK} up")).unwrap_or_else(|e| panic!("{e}"));
        guest.run("ip link set eth0 up");
        guest
    }

    /// Runs a line of shell, and gives what it said on both outputs.
    ///
    /// # Panics
    /// If it fails, or takes longer than a minute.
    pub fn run(&mut self, line: &str) -> String {
        let (said, code) = self.ask(line);
        assert_eq!(code, "0", "in the guest: `{line}` said:\n{said}");
        said
    }

    /// Runs a line of shell, and gives what it said, and its exit code.
    ///
    /// # Panics
    /// If it takes longer than a minute, or the machine ends.
    pub fn ask(&mut self, line: &str) -> (String, String) {
        let sent = writeln!(self.shell, "{line}").and_then(|()| self.shell.flush());
        sent.unwrap_or_else(|e| panic!("`{line}` to the guest: {e}; it said:\n{}", self.log()));
        self.answer(line, ANSWER_TIME_MAX)
    }

    fn answer(&mut self, what: &str, timeout: Duration) -> (String, String) {
        let end = Instant::now() + timeout;
        let mut said = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let why = match self.lines.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(END) {
                    Some(code) => return (said, code.trim().into()),
                    None => {
                        said.push_str(&line);
                        said.push('\n');
                        continue;
                    }
                },
                Err(RecvTimeoutError::Timeout) => format!("does not answer in {timeout:?}"),
                Err(RecvTimeoutError::Disconnected) => "has ended".into(),
            };
            panic!("the guest {why} at `{what}`; it said:\n{said}{}", self.log());
        }
    }

    /// What QEMU and the guest's kernel said.
    fn log(&self) -> String {
        let files = ["qemu", "console"].map(|name| std::fs::read(self.scratch.path(name)));
        files.map(|text| String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()).concat()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only for a machine that has ended and was waited for.
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

/// A machine that is switched off when the calling thread ends. Its network card leaves checksums to
/// the kernel: what passes the TAP device is what would pass a wire.
fn command(folder: &std::path::Path, netns: &Netns, scratch: &Scratch) -> Command {
    let mut qemu = netns.command("qemu-system-x86_64");
    qemu.args("-accel tcg -m 256 -nodefaults -display none -no-reboot -monitor none".split(' '));
    qemu.arg("-kernel").arg(folder.join("vmlinuz"));
    qemu.arg("-initrd").arg(folder.join("initramfs.gz"));
    qemu.args(["-append", KERNEL_WORDS]);
    qemu.arg("-serial").arg(format!("file:{}", scratch.path("console").display()));
    qemu.args(["-serial", "stdio", "-device", "virtio-net-pci,netdev=link,romfile=,csum=off"]);
    let tap = format!("tap,id=link,ifname={GUEST_LINK},script=no,downscript=no");
    qemu.args(["-netdev", &tap]);
    let log = std::fs::File::create(scratch.path("qemu")).expect("the folder is ours");
    qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    qemu
}

//! `tapline completions`: what a shell offers behind `tapline`, from the command line's declaration.

use crate::cli::{Cli, CompletingShell, Completions};
use crate::failure::Failure;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

pub fn run(options: &Completions) -> Result<(), Failure> {
    let shell = match options.shell {
        CompletingShell::Bash => Shell::Bash,
        CompletingShell::Zsh => Shell::Zsh,
        CompletingShell::Fish => Shell::Fish,
    };
    // Made in memory: the generator panics where its output cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tapline", &mut script);
    print(&script)
}

/// Writes to standard output. A reader that has gone away has seen enough.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::CouldNot(format!("write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

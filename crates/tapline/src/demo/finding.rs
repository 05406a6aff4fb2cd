//! The end of the story: one HTTP connection is looked for in the archive, and found whole.

use super::files::{Archive, Conversation};
use super::plan::{SERVER, client_address};
use super::scene::Scene;
use super::traffic::Connection;
use crate::failure::Failure;
use std::path::Path;

/// What a search for one connection gave.
pub struct Finding {
    /// The command, as a user would write it.
    pub command: String,
    /// What it said at its end.
    pub said: String,
    /// Packets that it found.
    pub packets: u64,
    /// Whether they are the connection, whole, and nothing else.
    pub is_whole: bool,
}

/// Looks for a connection with `tapline search`.
pub fn find(scene: &Scene, folder: &Path, connection: &Connection) -> Result<Finding, Failure> {
    let Connection { client, port, up, down, .. } = *connection;
    let (archive, file) = (scene.store().archive(), folder.join("found.pcapng"));
    let expression =
        format!("host {} and host {SERVER} and tcp port {port}", client_address(client));
    let failed = |why: String| Failure::CouldNot(format!("search the archive: {why}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let output = scene
        .searcher()
        .command(program)
        .args(["search", "--archive", &archive, "-w"])
        .arg(&file)
        .arg(&expression)
        .envs(scene.store().environment())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
    if !output.status.success() {
        return Err(failed(format!("{}\n{said}", output.status)));
    }
    let found = Archive::of_capture(&file, client).map_err(|e| failed(e.to_string()))?;
    let both = found.connections.get(&(client, port));
    let is_whole = both.is_some_and(|Conversation { up: sent, down: got }| {
        (sent.whole(), got.whole()) == (Some(up), Some(down))
    });
    Ok(Finding {
        command: format!("tapline search --archive {archive} '{expression}'"),
        said,
        packets: found.packets(),
        is_whole: is_whole && found.connections.len() == 1 && found.strangers == 0,
    })
}

//! Where the sinks ship their segments: an S3 server in a host of its own; or, where there is no such
//! program, a folder.

use super::plan::{BUCKET, STORE, STORE_PORT};
use crate::failure::Failure;
use io::netns::Netns;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program: `DEMO_S3_SERVER` names another one.
const PROGRAM: &str = "s3-server";

/// The store, as long as this value lives.
pub struct Store {
    /// Where its objects are, as files.
    objects: PathBuf,
    server: Option<Server>,
}

struct Server {
    child: Child,
    _host: Netns,
}

impl Store {
    /// Makes the folder, and starts the server on `host` if there is one.
    pub fn start(folder: &Path, host: Netns) -> Result<Store, Failure> {
        let root = folder.join("store");
        let objects = root.join(BUCKET);
        std::fs::create_dir_all(&objects)
            .map_err(|e| Failure::CouldNot(format!("make {}: {e}", objects.display())))?;
        let Some(program) = program() else {
            return Ok(Store { objects, server: None });
        };
        let log = folder.join("store.log");
        let failed =
            |e: std::io::Error| Failure::CouldNot(format!("start {}: {e}", program.display()));
        let log_file = || std::fs::File::create(&log).map_err(failed);
        let mut child = host
            .command(&program)
            .arg(&root)
            .arg(format!("{STORE}:{STORE_PORT}"))
            .stdin(Stdio::null())
            .stdout(log_file()?)
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        let begun = Instant::now();
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on")) {
            let has_ended = child.try_wait().map_err(failed)?.is_some();
            if has_ended || begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let why = format!("{} does not listen", program.display());
                return Err(Failure::CouldNot(why));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Store { objects, server: Some(Server { child, _host: host }) })
    }

    /// What `--archive` says.
    pub fn archive(&self) -> String {
        match self.server {
            Some(_) => format!("s3://{BUCKET}"),
            None => self.objects.display().to_string(),
        }
    }

    /// What who uses the archive has in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(_) = self.server else { return Vec::new() };
        vec![
            ("AWS_ENDPOINT", format!("http://{STORE}:{STORE_PORT}")),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "tapline-access".into()),
            ("AWS_SECRET_ACCESS_KEY", "tapline-secret".into()),
        ]
    }

    /// Where its objects are, as files.
    pub fn objects(&self) -> &Path {
        &self.objects
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Harmless if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DEMO_S3_SERVER").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let beside = std::env::current_exe().ok()?.with_file_name(PROGRAM);
    beside.exists().then_some(beside)
}

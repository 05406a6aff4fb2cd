//! The side of the running command.

use super::{Request, own_run_dir, parse_socket_name, socket_name};
use api::Status;
use serde_json::json;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Connections at once; for one more the oldest is closed.
const CONNECTIONS_MAX: usize = 16;
/// Threads at once: those of connections that were closed still wait for their answers. One more
/// connection is refused.
const THREADS_MAX: usize = 2 * CONNECTIONS_MAX;
/// Longest request, bytes.
const REQUEST_BYTES_MAX: usize = 4096;
/// How long a client may take to write a request, to read an answer, and to think between the two.
const CLIENT: Duration = Duration::from_secs(10);
/// How long the main thread may take to answer: longer than a snapshot.
const STATUS: Duration = Duration::from_secs(3);
/// The same of a change: a reload waits for what has been removed to run dry.
const CHANGE: Duration = Duration::from_secs(60);
/// After an error that may last, such as no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Only the command's user and group may connect.
const SOCKET_MODE: u32 = 0o660;
/// Others may look which commands run.
const FOLDER_MODE: u32 = 0o755;

/// A request, on its way to the session's main thread.
pub struct Job {
    /// What is asked for.
    pub request: Request,
    /// When it came.
    pub since: Instant,
    answer: SyncSender<Outcome>,
}

/// What the main thread answers.
pub enum Outcome {
    /// A status; the connection's thread adds the kernel's numbers of the interfaces named.
    Status(Box<Status>, Vec<String>),
    /// An answer as it is to be sent.
    Value(serde_json::Value),
    /// Why there is none.
    Error(String),
}

impl Job {
    /// Answers; that the client has gone away is nobody's matter.
    pub fn answer(&self, outcome: Outcome) {
        let _ = self.answer.try_send(outcome);
    }
}

/// Requests that wait for the session's main thread, which each of them unparks. There is one at most
/// for each connection.
pub struct Inbox {
    jobs: Mutex<VecDeque<Job>>,
    main: Thread,
}

impl Inbox {
    /// For the calling thread.
    pub fn new() -> Arc<Inbox> {
        Arc::new(Inbox { jobs: Mutex::default(), main: std::thread::current() })
    }

    /// The request that came first.
    pub fn take(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn put(&self, request: Request) -> Receiver<Outcome> {
        let (answer, outcome) = sync_channel(1);
        let job = Job { request, since: Instant::now(), answer };
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.main.unpark();
        outcome
    }
}

/// A socket that is served as long as this value lives.
pub struct Local {
    path: PathBuf,
    listener: Arc<UnixListener>,
}

impl Local {
    /// Serves the socket of this process. Where that is not possible the command runs without it: what
    /// is in the way is logged.
    pub fn serve(command: &str, inbox: &Arc<Inbox>) -> Option<Local> {
        let Some(folder) = own_run_dir() else {
            tracing::debug!("no local socket: XDG_RUNTIME_DIR is not set");
            return None;
        };
        let path = folder.join(socket_name(command, std::process::id()));
        let serve = || {
            make_folder(&folder)?;
            clean(&folder);
            Local::listen(path.clone(), inbox)
        };
        let local = serve();
        let warn = |error| {
            tracing::warn!(
                "no local socket {}: {error}; TAPLINE_RUN_DIR names another folder",
                path.display()
            );
        };
        local.map_err(warn).ok()
    }

    fn listen(path: PathBuf, inbox: &Arc<Inbox>) -> io::Result<Local> {
        let listener = Arc::new(UnixListener::bind(&path)?);
        let local = Local { path, listener: Arc::clone(&listener) };
        fs::set_permissions(&local.path, Permissions::from_mode(SOCKET_MODE))?;
        let inbox = Arc::clone(inbox);
        let accept = move || accept(&listener, &inbox);
        std::thread::Builder::new().name("local".into()).spawn(accept)?;
        Ok(local)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Has the thread leave `accept`.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        let _ = fs::remove_file(&self.path);
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    // Whatever the umask: captures are hidden, which commands run is not.
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
}

/// Removes the sockets of processes that were killed: nobody listens there, and there is no process of
/// that number.
fn clean(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((_, pid)) = name.to_str().and_then(parse_socket_name) else { continue };
        let is_own = pid == std::process::id();
        if (is_own || !Path::new(&format!("/proc/{pid}")).exists()) && is_refused(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_refused(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A connection that has a thread.
struct Connection {
    /// Referred to by its thread, too, as long as that runs.
    alive: Arc<()>,
    /// `None` once it is closed from this side.
    stream: Option<UnixStream>,
}

/// Gives each connection a thread, until the socket is shut down.
fn accept(listener: &UnixListener, inbox: &Arc<Inbox>) {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::debug!("local socket: {error}");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        // Those whose threads have ended hold the only reference.
        connections.retain(|connection| Arc::strong_count(&connection.alive) > 1);
        if connections.len() >= THREADS_MAX {
            continue;
        }
        let open = connections.iter().filter(|connection| connection.stream.is_some()).count();
        if open >= CONNECTIONS_MAX
            && let Some(oldest) = connections.iter_mut().find_map(|c| c.stream.take())
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let Ok(handle) = stream.try_clone() else { continue };
        let (alive, inbox) = (Arc::new(()), Arc::clone(inbox));
        let of_thread = Arc::clone(&alive);
        let serve = move || {
            let _alive = of_thread;
            if let Err(error) = serve(stream, &inbox) {
                tracing::debug!("local socket: a client: {error}");
            }
        };
        if std::thread::Builder::new().name("local-client".into()).spawn(serve).is_ok() {
            connections.push(Connection { alive, stream: Some(handle) });
        }
    }
}

/// Answers a client's requests, one after the other.
fn serve(mut stream: UnixStream, inbox: &Inbox) -> io::Result<()> {
    let mut read = Vec::new();
    while let Some(line) = next_line(&mut stream, &mut read)? {
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => answer(request, inbox),
            Err(error) => refusal(&format!(
                "{error}; write {{\"request\":\"status\"}}, or reload or show instead of status; to a \
                 forwarding table also {{\"request\":\"add\",\"forward\":\"A=B\"}} or \
                 {{\"request\":\"remove\",\"rules\":[\"NAME\"]}}"
            )),
        };
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        write(&mut stream, &answer)?;
    }
    Ok(())
}

/// The next line, without its end; `None` behind the last one.
fn next_line(stream: &mut UnixStream, read: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + CLIENT;
    loop {
        if let Some(end) = read.iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = read.drain(..=end).collect();
            line.pop();
            return Ok(Some(line));
        }
        if read.len() > REQUEST_BYTES_MAX {
            let answer = refusal(&format!("a request has {REQUEST_BYTES_MAX} bytes at most"));
            write(stream, format!("{answer}\n").as_bytes())?;
            return Ok(None);
        }
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(len) => read.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(stream: &mut UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + CLIENT;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is left of a client's time.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Has the main thread answer.
fn answer(request: Request, inbox: &Inbox) -> serde_json::Value {
    let within = if request.is_change() { CHANGE } else { STATUS };
    let outcome = inbox.put(request);
    match outcome.recv_timeout(within) {
        Ok(Outcome::Status(mut status, interfaces)) => {
            status.interfaces = ::io::interface_counters(&interfaces);
            serde_json::to_value(&*status).unwrap_or_else(|error| refusal(&error.to_string()))
        }
        Ok(Outcome::Value(value)) => value,
        Ok(Outcome::Error(why)) => refusal(&why),
        Err(RecvTimeoutError::Timeout) => {
            refusal(&format!("it has not answered within {} s", within.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => refusal("it is ending"),
    }
}

fn refusal(why: &str) -> serde_json::Value {
    json!({ "error": why })
}

//! Where the packets that were found go: a pcapng file, or lines.

use super::flows;
use crate::cli::{Format, Search};
use crate::failure::Failure;
use crate::print::Shown;
use archive::index::Row;
use archive::search::{Flows, Packet};
use capfile::{PcapngWriter, SectionInfo};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Stdout, Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::LinkType;

/// The longest that what was found waits in a buffer.
pub const FLUSH_AFTER: Duration = Duration::from_millis(200);
const BUFFER_BYTES: usize = 256 << 10;

/// Takes the packets that were found, in their order.
pub struct Output {
    form: Form,
    /// What it is called in messages.
    name: String,
    flushed: Option<Instant>,
    state: State,
}

enum Form {
    Pcapng {
        writer: PcapngWriter<BufWriter<Box<dyn Write + Send>>>,
        /// For each interface of the search its number in the file: those without a packet have none.
        interfaces: Vec<Option<u32>>,
    },
    Lines {
        format: Format,
        lines: String,
        stream: BufWriter<Stdout>,
    },
    Flows {
        flows: Box<Flows>,
        lines: String,
        stream: BufWriter<Stdout>,
    },
}

enum State {
    Open,
    /// The reader has gone away: it has seen enough.
    Left,
    Failed(String),
}

impl Output {
    /// Opens what the options say; `query` is noted in a file.
    pub fn open(options: &Search, query: &str) -> Result<Output, Failure> {
        let (form, name) = match (&options.write, options.format.of_packets()) {
            (Some(path), _) => pcapng(path, query)?,
            (None, format) => {
                let (lines, stream) =
                    (String::new(), BufWriter::with_capacity(BUFFER_BYTES, stdout()));
                let form = match format {
                    Some(format) => Form::Lines { format, lines, stream },
                    None => Form::Flows { flows: Box::default(), lines, stream },
                };
                (form, "standard output".into())
            }
        };
        Ok(Output { form, name, flushed: None, state: State::Open })
    }

    /// Takes a packet. Says whether it takes more.
    pub fn put(&mut self, packet: &Packet<'_>) -> bool {
        let put = self.form.put(packet);
        self.note(put);
        self.flush_if_due();
        self.is_open()
    }

    /// Whether it takes more.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Hands on what waits in buffers, if the last time is long enough ago.
    pub fn flush_if_due(&mut self) {
        let now = Instant::now();
        if self.flushed.is_none_or(|then| now.duration_since(then) >= FLUSH_AFTER) {
            self.flushed = Some(now);
            self.flush();
        }
    }

    /// Hands on all.
    ///
    /// # Errors
    /// What has gone wrong since it was opened.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let ended = self.form.end();
        self.note(ended);
        self.flush();
        match &self.state {
            State::Failed(what) => Err(Failure::CouldNot(format!("{}: {what}", self.name))),
            State::Open | State::Left => Ok(()),
        }
    }

    fn flush(&mut self) {
        if self.is_open() {
            let flushed = match &mut self.form {
                Form::Pcapng { writer, .. } => writer.flush(),
                Form::Lines { stream, .. } | Form::Flows { stream, .. } => {
                    stream.flush().map_err(failed)
                }
            };
            self.note(flushed);
        }
    }

    fn note(&mut self, outcome: Result<(), capfile::Error>) {
        self.state = match outcome {
            Ok(()) => return,
            Err(capfile::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
                State::Left
            }
            Err(error) => State::Failed(error.to_string()),
        };
    }
}

impl Form {
    fn put(&mut self, packet: &Packet<'_>) -> Result<(), capfile::Error> {
        match self {
            Form::Pcapng { writer, interfaces } => {
                let origin = packet.origin as usize;
                if origin >= interfaces.len() {
                    interfaces.resize(origin + 1, None);
                }
                let interface = match interfaces[origin] {
                    Some(interface) => interface,
                    None => *interfaces[origin].insert(writer.add_interface(packet.interface)?),
                };
                let Packet { ts_ns, origlen, marks, data, comment, .. } = *packet;
                writer.write(interface, ts_ns, origlen, marks, data, comment)
            }
            Form::Lines { format, lines, stream } => {
                lines.clear();
                let shown = Shown {
                    ts_ns: packet.ts_ns,
                    source: Some(packet.source),
                    interface: packet.interface.name.as_deref(),
                    direction: packet.marks.direction,
                    outer: None,
                    origlen: packet.origlen,
                    link_type: LinkType(packet.interface.link_type),
                    frame: packet.data,
                };
                let printed = shown.print(*format, lines);
                printed.and_then(|()| stream.write_all(lines.as_bytes())).map_err(failed)
            }
            Form::Flows { flows, lines, stream } => {
                print_flows(&flows.add(packet), lines, stream).map_err(failed)
            }
        }
    }

    /// Gives out what was gathered.
    fn end(&mut self) -> Result<(), capfile::Error> {
        match self {
            Form::Pcapng { .. } | Form::Lines { .. } => Ok(()),
            Form::Flows { flows, lines, stream } => {
                print_flows(&flows.finish(), lines, stream).map_err(failed)
            }
        }
    }
}

fn print_flows(rows: &[Row], lines: &mut String, stream: &mut impl Write) -> std::io::Result<()> {
    for row in rows {
        lines.clear();
        flows::print(row, lines)?;
        stream.write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn failed(source: std::io::Error) -> capfile::Error {
    capfile::Error::Io { action: "write", offset: 0, source }
}

fn pcapng(path: &Path, query: &str) -> Result<(Form, String), Failure> {
    let (stream, name): (Box<dyn Write + Send>, String) = if path == Path::new("-") {
        (Box::new(stdout()), "standard output".into())
    } else {
        let name = path.display().to_string();
        let file = File::create(path)
            .map_err(|e| Failure::CouldNot(format!("{name}: {e}; write to another place")))?;
        (Box::new(file), name)
    };
    let section = SectionInfo {
        os: Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        application: Some(concat!("tapline ", env!("CARGO_PKG_VERSION")).into()),
        comment: Some(query.into()),
        ..SectionInfo::default()
    };
    let writer = PcapngWriter::new(BufWriter::with_capacity(BUFFER_BYTES, stream), &section)
        .map_err(|error| Failure::CouldNot(format!("{name}: {error}")))?;
    Ok((Form::Pcapng { writer, interfaces: Vec::new() }, name))
}

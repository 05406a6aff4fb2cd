//! pcap-filter expressions, compiled by libpcap into our program form.
//!
//! libpcap is loaded at run time and only when the first expression needs it: a host without it
//! runs everything else. Expressions mean what they mean to `tcpdump -r FILE`: the program is made
//! for a file's link type and snap length, with the netmask 0 that tcpdump passes for files (it
//! matters to `ip broadcast` alone), and never for a live interface, whose programs read tags and
//! directions out of the kernel's metadata. Files of link type NULL are taken to be of this host's
//! byte order.
//!
//! One difference from tcpdump: libpcap (1.10.3) makes programs for `geneve or not udp`, and others
//! that offer another way past `geneve`, which read scratch words that they never wrote. tcpdump
//! finds there what the packet before left behind; here they are 0 for every packet.

mod column;
mod sys;
mod token;

use filter::Program;
use std::ffi::CString;
use std::fmt;
use sys::{FILE_HEADER_LEN, Libpcap};
use wire::LinkType;

/// Bytes an expression may have. libpcap's compiler takes time that grows with the square.
pub const EXPRESSION_BYTES_MAX: usize = 16_384;

/// Longer expressions are not optimised: the optimiser takes a second at 4 kB and ten at 9 kB. The
/// verdict is the same, the program longer.
const OPTIMIZED_BYTES_MAX: usize = 2048;

/// The snap length that stands for "none" in a file (`MAXIMUM_SNAPLEN`).
const SNAPLEN_MAX: u32 = 262_144;

/// Compiles a pcap-filter expression for frames of one link type.
///
/// `snaplen` is the snap length of the file or the capture in bytes; 0 means none. It becomes the
/// verdict of a match and changes nothing else. An empty expression matches every frame and needs
/// no libpcap. Blocks: milliseconds, or longer where a host name must be looked up.
///
/// # Errors
/// [`CompileError`]: libpcap is not installed, or the expression is bad, and where.
pub fn compile(
    expression: &str,
    link_type: LinkType,
    snaplen: u32,
) -> Result<Program, CompileError> {
    let snaplen = match i32::try_from(snaplen) {
        Ok(1..) => snaplen,
        _ => SNAPLEN_MAX, // as libpcap does with the header of a file
    };
    if expression.trim_ascii().is_empty() {
        return Ok(Program::constant(snaplen));
    }
    let at = |byte: usize, reason: &str, mend: String| CompileError {
        expression: expression.to_owned(),
        column: Some(expression[..byte].chars().count() + 1),
        reason: reason.to_owned(),
        mend,
    };
    if let Some(nul) = expression.find('\0') {
        return Err(at(nul, "NUL byte", "remove it".to_owned()));
    }
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(CompileError {
            expression: expression.to_owned(),
            column: None,
            reason: format!("{} bytes, at most {EXPRESSION_BYTES_MAX} fit", expression.len()),
            mend: "join addresses into `net` prefixes and ports into `portrange`".to_owned(),
        });
    }
    let libpcap = Libpcap::get().map_err(|loader| CompileError {
        expression: expression.to_owned(),
        column: None,
        reason: format!("libpcap cannot be loaded: {loader}"),
        mend: "install it (Debian, Ubuntu: apt-get install libpcap0.8); only expressions need it"
            .to_owned(),
    })?;
    let run = |text: &str, optimize| {
        let text = CString::new(text).expect("a NUL was refused above");
        libpcap.compile(&text, file_header(link_type, snaplen), optimize, 0)
    };
    let optimize = expression.len() <= OPTIMIZED_BYTES_MAX;
    let message = match run(expression, optimize) {
        Ok(code) => {
            return Program::new(code).map_err(|e| CompileError {
                expression: expression.to_owned(),
                column: None,
                reason: format!("libpcap made no valid program: {e}"),
                mend: "shorten the expression".to_owned(),
            });
        }
        Err(message) => message,
    };
    if message.contains("data link type") {
        return Err(CompileError {
            expression: expression.to_owned(),
            column: None,
            reason: message,
            mend: format!("libpcap has no expressions for {link_type}; leave the filter out"),
        });
    }
    // Only the optimiser sees that nothing can match; all else is quicker to find without it.
    let optimize = optimize && message.contains("rejects all");
    let range = column::locate(expression, &message, |text| run(text, optimize).err());
    let word = &expression[range.clone()];
    let (reason, mend) = explain(&message, word);
    Err(at(range.start, &reason, mend))
}

/// What the loaded libpcap calls itself, such as `libpcap version 1.10.3 (with TPACKET_V3)`.
///
/// # Errors
/// The loader's message, if no libpcap is installed.
pub fn version() -> Result<String, &'static str> {
    Libpcap::get().map(Libpcap::version)
}

/// An expression that does not become a program.
///
/// `Display` prints the expression with a mark under the column:
///
/// ```text
/// bad filter expression at column 13: syntax error
///   tcp port 80 adn host 1.2.3.4
///               ^
///   did you mean `and`?
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// The whole expression.
    pub expression: String,
    /// Where, in characters from 1; one behind the end if the expression stops too early; none if
    /// the trouble has no place in it.
    pub column: Option<usize>,
    /// What is wrong: libpcap's words, where they are its.
    pub reason: String,
    /// What to do about it; may be empty.
    pub mend: String,
}

/// Characters of an expression that an error shows, around the column.
const SHOWN_MAX: usize = 100;

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => {
                writeln!(f, "bad filter expression at column {column}: {}", self.reason)?;
                let skip = column.saturating_sub(SHOWN_MAX / 2 + 1);
                let skip = if self.expression.chars().nth(SHOWN_MAX).is_none() { 0 } else { skip };
                // One line, so that the mark stands below its character.
                let shown = self.expression.chars().skip(skip).take(SHOWN_MAX);
                let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
                write!(f, "  {shown}\n  {:>1$}", '^', column - skip)?;
            }
            None => write!(f, "bad filter expression: {}", self.reason)?,
        }
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.mend) }
    }
}

impl std::error::Error for CompileError {}

fn explain(message: &str, word: &str) -> (String, String) {
    if message.contains("inbound/outbound") {
        let mend = "leave it out of the expression, and choose by --direction";
        return (message.to_owned(), mend.to_owned());
    }
    if !column::is_syntax_error(message) {
        let mend = token::nearest_keyword(word).map(|k| format!("did you mean `{k}`?"));
        return (message.to_owned(), mend.unwrap_or_default());
    }
    let mend = match (word, token::nearest_keyword(word)) {
        ("", _) => "the expression stops too early: a value, a term or a `)` is missing".to_owned(),
        (_, Some(keyword)) => format!("did you mean `{keyword}`?"),
        (")", _) => "no `(` is open here, or what stands in it is not complete".to_owned(),
        _ => format!("`{word}` cannot stand here; join terms with `and`, `or`, `not`"),
    };
    ("syntax error".to_owned(), mend)
}

/// The header of a pcap file of this host's byte order, without packets.
fn file_header(link_type: LinkType, snaplen: u32) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_ne_bytes());
    header[4..6].copy_from_slice(&2u16.to_ne_bytes());
    header[6..8].copy_from_slice(&4u16.to_ne_bytes());
    header[16..20].copy_from_slice(&snaplen.to_ne_bytes());
    header[20..].copy_from_slice(&u32::from(link_type.0).to_ne_bytes());
    header
}

#[cfg(test)]
mod tests;

//! A mistake in a file that a user wrote, and where it stands.

use std::fmt;

/// Characters of a line that are shown, around the column.
const SHOWN_MAX: usize = 100;

/// Why a file of rules or of taps cannot be used.
///
/// `Display` shows the line with a mark under the column:
///
/// ```text
/// rules.toml:4:15: source_cidr `10.0.0.1/8` has bits set behind its prefix; write `10.0.0.0/8`
///   source_cidr = "10.0.0.1/8"
///                 ^
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub file: String,
    /// Line and column of the mistake, both from 1, in characters; none if it has no place.
    pub place: Option<(usize, usize)>,
    /// The line, without its end.
    pub line: String,
    /// What is wrong, with the value and the mend.
    pub reason: String,
    /// Whether the file could not be read at all, so that nothing is known of its content.
    pub is_unreadable: bool,
}

impl FileError {
    /// A mistake at a byte of the content.
    pub(crate) fn new(file: &str, content: &[u8], at: Option<usize>, reason: String) -> Self {
        // A byte order mark is not a column that an editor shows.
        let mark = if content.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let content = content.get(mark..).unwrap_or_default();
        let mistake = FileError {
            file: file.into(),
            place: None,
            line: String::new(),
            reason,
            is_unreadable: false,
        };
        let Some(at) = at else {
            return mistake;
        };
        let before = content.get(..at).unwrap_or(content);
        let line_at = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_at..]).chars().count() + 1;
        let rest = &content[line_at..];
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let text = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
        FileError { place: Some((line, column)), line: text, ..mistake }
    }

    /// A file that cannot be opened or read.
    pub(crate) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let mistake = FileError::new(file, b"", None, format!("cannot be read: {error}"));
        FileError { is_unreadable: true, ..mistake }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, column)) = self.place else {
            return write!(f, "{}: {}", self.file, self.reason);
        };
        write!(f, "{}:{line}:{column}: {}", self.file, self.reason)?;
        let skip = match self.line.chars().nth(SHOWN_MAX) {
            Some(_) => column.saturating_sub(SHOWN_MAX / 2 + 1),
            None => 0,
        };
        // One character a column, so that the mark stands below its own.
        let shown = self.line.chars().skip(skip).take(SHOWN_MAX);
        let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "\n  {shown}\n  {:>1$}", '^', column - skip)
    }
}

impl std::error::Error for FileError {}

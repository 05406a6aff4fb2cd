//! Tells Rust code from comments and literals.

/// Returns the source with comments and the insides of string and character literals replaced by
/// spaces. Lines and columns (in bytes) stay where they are.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while out.len() < bytes.len() {
        let at = out.len();
        let end = at + not_code(&source[at..], out.last().copied());
        if end == at {
            // Step over a whole character, so that the next slice starts at one.
            let width = source[at..].chars().next().map_or(1, char::len_utf8);
            out.extend_from_slice(&bytes[at..at + width]);
        } else {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        }
    }
    String::from_utf8(out).expect("whole characters were copied or replaced")
}

/// Length, in bytes, of the comment or literal that starts here; 0 where code goes on.
fn not_code(rest: &str, before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, 1);
    }
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|p| rest.starts_with(p));
    if let (Some(prefix), false) = (prefix, in_word) {
        let after = &rest[prefix.len()..];
        let hashes = after.len() - after.trim_start_matches('#').len();
        if prefix.ends_with('r') && after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = prefix.len() + hashes + 1;
            return rest[start..].find(&close).map_or(rest.len(), |n| start + n + close.len());
        }
        if hashes == 0 && after.starts_with('"') {
            return quoted(rest, prefix.len() + 1);
        }
    }
    if rest.starts_with('\'') { character(rest) } else { 0 }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let pair = rest.as_bytes().get(at..at + 2).unwrap_or_default();
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A literal whose inside starts at `start` and ends at a quote that no backslash takes.
fn quoted(rest: &str, start: usize) -> usize {
    let mut escaped = false;
    for (i, b) in rest.bytes().enumerate().skip(start) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; 0 if the quote starts a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The escaped character may itself be a quote.
            let close = rest.bytes().skip(3).position(|b| b == b'\'');
            close.map_or(rest.len(), |n| 3 + n + 1)
        }
        Some(_) => chars.next().filter(|&(_, c)| c == '\'').map_or(0, |(i, _)| i + 1),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn comments_and_literals_become_spaces() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", z)"#, r"f(      , z)"),
            (r##"f(r#"a"b"#, z)"##, "f(        , z)"),
            (r#"f(b"a", br"\", c"é")"#, r"f(    ,      ,      )"),
            (r"'a' 'é' '\'' '\u{1F}' x", "                       x"),
            ("fn f<'a>(x: &'a u8) {}", "fn f<'a>(x: &'a u8) {}"),
            ("r#type + bar\"x\"", "r#type + bar   "),
            ("é\"é\"é", "é    é"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }

    #[test]
    fn what_is_never_closed_runs_to_the_end() {
        for source in ["\"a\nb", "/* a\n*", "r#\"a\"\n", "'\\"] {
            let code = code_only(source);
            assert_eq!(code.trim(), "", "{source}");
            assert_eq!((code.len(), code.lines().count()), (source.len(), source.lines().count()));
        }
    }
}

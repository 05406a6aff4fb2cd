//! What stands in Rust sources.
//!
//! - Unsafe code only in crate `io`, in files named `sys.rs`, each use under a comment that says
//!   why it is sound.
//! - No file is longer than 800 lines.
//! - Nothing that stands for code still to be written, no debugging left in, no test switched off.

use crate::assert_none;
use crate::code::code_only;
use crate::tree::rust_files;

const LINES_MAX: usize = 800;

/// What must not stand in code, and what to do instead.
const UNFINISHED: [(&str, &str); 4] = [
    ("todo!", "write what is missing, or leave the feature out and say so in the documentation"),
    ("unimplemented!", "return an error that says what is not there"),
    ("dbg!", "remove it, or log with tracing"),
    ("#[ignore", "mend the test, or let it print `skipped: <why>` where it cannot run"),
];

#[test]
fn unsafe_code_stands_in_io_in_files_named_sys_and_says_why_it_is_sound() {
    let files = rust_files();
    let findings: Vec<_> = files.iter().flat_map(|f| unsafe_findings(&f.path, &f.text)).collect();
    assert_none(&findings);
    let uses = files.iter().filter(|f| code_only(&f.text).contains("unsafe {")).count();
    assert!(uses > 0, "crate io makes system calls: the scan sees nothing");
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let long = rust_files().into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        let mend = "look for the second idea in it and give it a file of its own";
        (lines > LINES_MAX)
            .then(|| format!("{}:{lines}: more than {LINES_MAX} lines; {mend}", file.path))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn nothing_unfinished_is_left() {
    let files = rust_files();
    let findings = files.iter().flat_map(|file| unfinished_findings(&file.path, &file.text));
    assert_none(&findings.collect::<Vec<_>>());
}

fn unfinished_findings(path: &str, source: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(code_only(source).lines()) {
        for (word, mend) in UNFINISHED {
            if line.contains(word) {
                findings.push(format!("{path}:{number}: `{word}` in code; {mend}"));
            }
        }
    }
    findings
}

fn unsafe_findings(path: &str, source: &str) -> Vec<String> {
    let (code, lines) = (code_only(source), source.lines().collect::<Vec<_>>());
    let may_be_unsafe = path.starts_with("crates/io/src/") && path.ends_with("/sys.rs");
    let mut findings = Vec::new();
    for (index, _) in code.lines().enumerate().filter(|(_, line)| uses_unsafe(line)) {
        let number = index + 1;
        if !may_be_unsafe {
            findings.push(format!(
                "{path}:{number}: unsafe outside crate io's files named sys.rs; move the call there"
            ));
        } else if !says_why(&lines[..index]) {
            findings.push(format!(
                "{path}:{number}: unsafe without a reason; write `// SAFETY:` (or `# Safety` in a \
                 function's documentation) above it"
            ));
        }
    }
    findings
}

/// Whether a line of code has a block, function or implementation that is unsafe; a function
/// pointer's type or an attribute is not.
fn uses_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let rest = &line[at + word.len()..];
        let is_word = !line[..at].ends_with(is_part) && !rest.starts_with(is_part);
        let rest = rest.trim_start();
        let is_pointer_type = rest.starts_with("extern") && rest.contains("fn(");
        is_word && !is_pointer_type && !rest.starts_with("fn(") && !rest.starts_with('(')
    })
}

/// Whether the comment right above a statement, whose earlier lines may lie between, gives the
/// reason.
fn says_why(above: &[&str]) -> bool {
    let mut lines = above.iter().rev().map(|line| line.trim()).peekable();
    // Up through the statement's own earlier lines and its attributes.
    let goes_on = |line: &str| {
        line.starts_with("#[") || !(line.is_empty() || line.ends_with([';', '{', '}']))
    };
    while lines.next_if(|line| !line.starts_with("//") && goes_on(line)).is_some() {}
    lines
        .take_while(|line| line.starts_with("//"))
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[test]
fn the_scan_for_unsafe_finds_what_it_should() {
    let why = "// SAFETY: open.\n";
    let split = format!("fn f() {{\n{why}let x =\n    unsafe {{ g() }};\n}}");
    let good = [
        format!("{why}unsafe {{ f() }}"),
        format!("{why}#[inline]\nunsafe impl Send for X {{}}"),
        split,
        "/// Reads.\n///\n/// # Safety\n/// Valid.\npub unsafe fn f() {}".into(),
        "type F = unsafe extern \"C\" fn(u8);\nlet unsafe_code = \"unsafe {\"; // unsafe {".into(),
    ];
    for source in &good {
        assert_eq!(unsafe_findings("crates/io/src/a/sys.rs", source), [""; 0], "{source}");
    }
    for source in
        ["unsafe { f() }", "// SAFETY: a.\nf();\nunsafe { g() }", "// why\nunsafe fn f() {}"]
    {
        assert_eq!(unsafe_findings("crates/io/src/sys.rs", source).len(), 1, "{source}");
    }
    for path in ["crates/io/src/ring.rs", "crates/wire/src/sys.rs", "crates/io/tests/sys.rs"] {
        let findings = unsafe_findings(path, &good[0]);
        assert!(findings.len() == 1 && findings[0].contains(&format!("{path}:2: ")), "{path}");
    }
}

#[test]
fn the_scan_for_unfinished_code_finds_it_in_code_alone() {
    let source = "todo!()\n// todo!\nlet s = \"dbg!\";\n#[ignore = \"slow\"]\n";
    let findings = unfinished_findings("a.rs", source);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].starts_with("a.rs:1: ") && findings[1].starts_with("a.rs:4: "));
}

//! Every `tapline` command line in the documentation is one that the program understands.
//!
//! Command lines are those of code blocks, and of comments in examples. Three spaces, a comment or an operator of the shell end
//! one; a backslash continues it.

use crate::cli::Cli;
use clap::{CommandFactory, Parser};
use std::fs;
use std::path::{Path, PathBuf};

/// Command words that may stand in front of the program.
const BEFORE: [&str; 4] = ["$", "#", "sudo", "exec"];

#[test]
fn every_command_line_of_the_documentation_is_understood() {
    let (mut count, mut findings) = (0, Vec::new());
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = match path.extension().is_some_and(|extension| extension == "md") {
            true => code_lines(&text),
            false => comment_lines(&text),
        };
        for (number, line) in lines {
            match finding(&line) {
                Some(Err(message)) => {
                    findings.push(format!("{}:{number}: {line}\n{message}", path.display()));
                }
                Some(Ok(())) => count += 1,
                None => {}
            }
        }
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    assert!(count >= 15, "only {count} command lines found");
}

/// The files that are read: Markdown of the root, of `docs` and `examples`, and the examples.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["", "docs", "examples", "examples/rules"].map(|folder| root.join(folder));
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_read = |path: &PathBuf| match path.extension() {
        Some(extension) => extension == "md" || (extension == "toml" && is_example(path)),
        None => false,
    };
    paths.filter(is_read).collect()
}

fn is_example(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "examples")
}

/// The commented lines of an example that are indented, with their numbers.
fn comment_lines(text: &str) -> Vec<(usize, String)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(n, line)| Some((n, line.strip_prefix("#   ")?.to_owned()))).collect()
}

/// The lines of Markdown's code blocks with their numbers; continued ones are joined.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let (mut fenced, mut continued) = (false, false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if !fenced && !line.starts_with("    ") {
            continue;
        }
        let (part, goes_on) = match line.trim().strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (line.trim(), false),
        };
        match lines.last_mut() {
            Some((_, last)) if continued => *last = format!("{last} {part}"),
            _ => lines.push((number, part.to_owned())),
        }
        continued = goes_on;
    }
    lines
}

/// What the program makes of a line; `None` if it is no command line of it.
pub fn finding(line: &str) -> Option<Result<(), String>> {
    let words = words(line);
    let at = words.iter().position(|word| word == "tapline" || word.ends_with("/tapline"))?;
    let cli = Cli::command();
    let is_command = |word: &String| cli.find_subcommand(word).is_some();
    let is_first = words[..at].iter().all(|word| BEFORE.contains(&word.as_str()));
    // Behind another program it may be an argument: a file that is copied, a user, a folder.
    if !is_first && !words.get(at + 1).is_some_and(is_command) {
        return None;
    }
    Some(match Cli::try_parse_from(&words[at..]) {
        Ok(_) => Ok(()),
        Err(error) if error.exit_code() == 0 => Ok(()), // --help, --version
        Err(error) => Err(error.to_string()),
    })
}

/// The words of a shell's command line, up to the end of the command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut spaces = 0;
    for c in line.chars() {
        spaces = if c == ' ' && quote.is_none() { spaces + 1 } else { 0 };
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) if spaces == 3 => break,
            (' ', None) => words.extend(word.take()),
            ('|' | ';' | '&' | '<' | '>', None) => break,
            ('#', None) if word.is_none() && !words.is_empty() => break,
            (_, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn lines_are_found_and_split_as_a_shell_does() {
    assert_eq!(words("a 'b c' \"d\" 'e'f # g"), ["a", "b c", "d", "ef"]);
    assert_eq!(words("a b   what it does"), ["a", "b"]);
    assert_eq!(words("a b | c"), ["a", "b"]);
    assert_eq!(words("# a"), ["#", "a"]);
    let text = "tapline one\n\n    tapline two \\\n      three\n\n```\ntapline four\n```\n";
    let lines = [(3, "tapline two three".to_owned()), (7, "tapline four".to_owned())];
    assert_eq!(code_lines(text), lines);
}

#[test]
fn only_what_is_wrong_is_a_finding() {
    for good in [
        "tapline capture -i eth0 'tcp port 80'   prints",
        "# ip netns exec b target/release/tapline receive --listen vxlan://0.0.0.0 -w - &",
        "sudo tapline mirror --help",
    ] {
        assert_eq!(finding(good), Some(Ok(())), "{good}");
    }
    for other in ["tapline: listening on eth0", "install target/release/tapline /usr/bin", "ls"] {
        assert_eq!(finding(other), None, "{other}");
    }
    for bad in ["tapline captur -i eth0", "tapline", "$ ip netns exec a tapline mirror -i eth0"] {
        assert!(matches!(finding(bad), Some(Err(_))), "{bad}");
    }
}

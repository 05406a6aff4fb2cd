//! Manual pages and completions: made of the declaration, and read by the programs they are for.

mod over_files;

use over_files::*;
use rig::Scratch;
use std::process::Command;

#[test]
fn every_page_is_rendered_without_a_warning() {
    let scratch = Scratch::new("man");
    let folder = scratch.path("man1");
    assert_done(&tapline(["man".as_ref(), folder.as_os_str()]));
    let mut pages: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    assert!(pages.len() >= 6 && pages.contains(&folder.join("tapline.1")), "{pages:?}");
    let main = tapline(["man"]);
    assert_done(&main);
    assert_eq!(main.stdout, std::fs::read(folder.join("tapline.1")).unwrap());
    if !rig::tool_or_skip("groff") {
        return;
    }
    for page in pages {
        let output =
            Command::new("groff").args(["-man", "-Tutf8", "-ww", "-P-cbu"]).arg(&page).output();
        let output = output.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("EXIT STATUS") && text.contains("--quiet"), "{text}");
    }
}

#[test]
fn pages_that_cannot_be_written_are_told() {
    let scratch = Scratch::new("man-file");
    let file = scratch.path("file");
    std::fs::write(&file, "").unwrap();
    let output = tapline(["man".as_ref(), file.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("choose a folder"), "{}", stderr(&output));
    assert_eq!(tapline(["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [&["man"][..], &["completions", "bash"]] {
        assert_done(&tapline_read_for(1, arguments));
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let script = tapline(["completions", "bash"]);
    assert_done(&script);
    let scratch = Scratch::new("completions");
    std::fs::write(scratch.path("script"), &script.stdout).unwrap();
    for (line, offered) in [
        (&["cap"][..], "capture"),
        (&["mirror", "--ov"], "--oversize"),
        (&["capture", "--format", "js"], "json"),
        (&["completions", "fi"], "fish"),
    ] {
        // What the shell does when TAB is pressed behind the last word.
        let output = Command::new("bash")
            .args(["--norc", "--noprofile", "-c"])
            .arg(
                "source ./script && function=$(complete -p tapline | sed 's/.*-F \\([^ ]*\\).*/\\1/') && \
                 COMP_WORDS=(tapline \"$@\") COMP_CWORD=$# && \
                 $function tapline \"${COMP_WORDS[$#]}\" \"${COMP_WORDS[$#-1]}\" && \
                 echo \"${COMPREPLY[@]}\"",
            )
            .arg("bash")
            .args(line)
            .current_dir(scratch.folder())
            .output()
            .unwrap();
        assert_eq!(stdout(&output).trim(), offered, "{line:?}: {}", stderr(&output));
    }
}

#[test]
fn other_shells_know_every_command() {
    for shell in ["zsh", "fish"] {
        let script = tapline(["completions", shell]);
        assert_done(&script);
        for word in ["capture", "mirror", "receive", "stats-json"] {
            assert!(stdout(&script).contains(word), "{shell}: {word}");
        }
    }
}

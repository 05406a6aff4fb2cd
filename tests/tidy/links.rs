//! Every relative link in the documentation leads to a file, and to a heading of it if it names one;
//! and the index of `docs` leads to every page there.

use crate::assert_none;
use crate::tree::{TextFile, root, text_files};
use std::path::{Component, Path, PathBuf};

const INDEX: &str = "docs/README.md";

#[test]
fn relative_links_lead_somewhere() {
    let pages: Vec<TextFile> =
        text_files().into_iter().filter(|file| file.path.ends_with(".md")).collect();
    let links: usize = pages.iter().map(|page| links(&page.text).len()).sum();
    assert!(links >= 30, "only {links} links found");
    let heads = |path: &Path| {
        let page = pages.iter().find(|page| Path::new(&page.path) == path);
        page.map(|page| headings(&page.text))
    };
    let exists = |path: &Path| root().join(path).exists();
    let findings = pages.iter().flat_map(|page| findings(page, &exists, &heads));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn the_index_leads_to_every_page() {
    let pages = text_files();
    let index = pages.iter().find(|page| page.path == INDEX).expect("docs has an index");
    let links: Vec<PathBuf> =
        links(&index.text).iter().map(|(_, link)| beside(INDEX, link)).collect();
    let is_page = |path: &str| path.starts_with("docs/") && path.ends_with(".md") && path != INDEX;
    let missing = pages.iter().filter(|page| is_page(&page.path));
    let missing = missing.filter(|page| !links.contains(&page.path.clone().into()));
    let finding =
        |page: &TextFile| format!("{INDEX}:1: does not lead to {}; add a line for it", page.path);
    assert_none(&missing.map(finding).collect::<Vec<_>>());
}

fn findings(
    page: &TextFile,
    exists: &dyn Fn(&Path) -> bool,
    heads: &dyn Fn(&Path) -> Option<Vec<String>>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, link) in links(&page.text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
        let path = match file {
            "" => Path::new(&page.path).into(),
            file => beside(&page.path, file),
        };
        let mut tell = |what: &str| {
            findings.push(format!("{}:{number}: link to `{link}`: {what}", page.path));
        };
        if !exists(&path) {
            tell("there is no such file; mend the path, which is relative to the page");
        } else if !heading.is_empty()
            && heads(&path).is_some_and(|heads| !heads.iter().any(|head| head == heading))
        {
            tell("the page has no such heading; write it in lower case, with `-` for spaces");
        }
    }
    findings
}

/// The targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || line.starts_with("    ") {
            continue;
        }
        // What stands between two marks of code is no link.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((number, target.to_owned()));
            }
        }
    }
    links
}

/// A page's headings as links name them.
fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    lines.map(slug).collect()
}

/// A path beside a page, from the root of the tree.
fn beside(page: &str, link: &str) -> PathBuf {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[test]
fn a_missing_file_and_a_missing_heading_are_found() {
    let text = "# A, `b` c!\n[x](y.md) [z](../a.md#a-b-c) `[q](r)`\n[w](https://h) [u](#no)\n\n    [v](v)\n";
    assert_eq!(headings(text), ["a-b-c"]);
    let page = TextFile { path: "docs/p.md".into(), text: text.into() };
    let exists = |path: &Path| path == Path::new("a.md") || path == Path::new("docs/p.md");
    let heads = |_: &Path| Some(headings(text));
    let found = findings(&page, &exists, &heads);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("docs/p.md:2: link to `y.md`"), "{found:?}");
    assert!(found[1].starts_with("docs/p.md:3: link to `#no`"), "{found:?}");
}

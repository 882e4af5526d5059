//! The documents lead where they say: every relative link goes to a file that exists, and to a
//! heading in it where it names one.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of the repository, below its root: its own, those of docs/, and every folder's
/// README.md.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "python", "tools/libtorch", "replication/node"] {
        found.extend(markdown_of(folder));
    }
    for parent in ["golden", "benches"] {
        for entry in fs::read_dir(root().join(parent)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                found.extend(markdown_of(Path::new(parent).join(entry.file_name())));
            }
        }
    }
    found
}

fn markdown_of(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(&folder)).unwrap();
    let names = entries.map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let markdown = names.filter(|name| name.extension().is_some_and(|end| end == "md"));
    markdown.map(|name| folder.as_ref().join(name)).collect()
}

/// What a text links to, outside blocks of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let rest = prose.flat_map(|part| part.split("](").skip(1));
    rest.filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchors that GitHub gives a text's headings.
fn anchors(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let headings = prose.filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() >= 25, "{documents:?}");
    let (mut count, mut wrong) = (0, Vec::new());
    for document in &documents {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(document),
                path => root().join(document).parent().unwrap().join(path),
            };
            let there = target.exists()
                && (anchor.is_empty() || {
                    let text = fs::read_to_string(&target).unwrap_or_default();
                    anchors(&text).contains(&anchor.to_string())
                });
            if !there {
                wrong.push(format!("{} links to {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 150, "only {count} links were found");
}

/// A stranger reads README.md in a minute or two, and every page of docs/ is listed.
#[test]
fn the_front_page_is_short_and_the_index_is_whole() {
    let readme = fs::metadata(root().join("README.md")).unwrap();
    assert!(readme.len() <= 12_000, "README.md has {} bytes; docs/ has room", readme.len());
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in markdown_of("docs") {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("({name})")), "{name}");
    }
}

#[test]
fn links_and_anchors_are_found() {
    let text =
        "# A *heading*, of `code`\n[one](a.md#b) and [two](https://x.org)\n```\n[no](c)\n```\n";
    assert_eq!(links(text), ["a.md#b", "https://x.org"]);
    assert_eq!(anchors(text), ["a-heading-of-code"]);
}

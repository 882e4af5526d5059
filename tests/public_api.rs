//! The public interface of the library beside the one that was reviewed last, `tests/public_api.txt`, so
//! that a change of it is seen in a review.
//!
//! It is read from the source as rustfmt lays it out, without macros. A private module's items are listed
//! where a `pub use` above it brings them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The source file of a module.
struct Module {
    path: String,
    public: bool,
    items: Vec<Item>,
}

impl Module {
    /// Whether a `pub use` here brings a name of a module below.
    fn brings(&self, below: &Module, name: &str) -> bool {
        let Some(inner) = below.path.strip_prefix(&format!("{}::", self.path)) else {
            return false;
        };
        let module = inner.rsplit("::").next();
        self.items.iter().filter(|item| item.is("pub use ")).any(|item| {
            let head = Item::head(&item.lines);
            let words: Vec<&str> = head.split([' ', ',', '{', '}', ';', ':']).collect();
            words.contains(&module.unwrap_or_default())
                && (words.contains(&name) || words.contains(&"*"))
        })
    }
}

/// An item at the outermost level of a file, without its comments.
struct Item {
    /// Conditions and derived traits.
    attributes: String,
    lines: Vec<String>,
}

impl Item {
    /// Its lines up to the body, or to a constant's value, as one.
    fn head(lines: &[String]) -> String {
        let ends = |line: &&String| line.ends_with('{') || line.ends_with([';', '}', ',']);
        let end = lines.iter().position(|line| {
            let is_argument = line.ends_with(',') && !line.trim_start().starts_with("pub ");
            ends(&line) && !is_argument
        });
        let words = lines[..=end.unwrap_or(lines.len() - 1)].join(" ");
        let words: Vec<&str> = words.split_whitespace().collect();
        let text = words.join(" ").replace("( ", "(").replace(",)", ")").replace(", )", ")");
        let is_const = text.starts_with("pub const ") && !text.starts_with("pub const fn ");
        let told = if is_const { text.split(" = ").next().unwrap_or_default() } else { &text };
        told.trim_end_matches([' ', '{', ';', ',']).to_owned()
    }

    fn is(&self, start: &str) -> bool {
        self.lines[0].starts_with(start)
    }

    /// The name that a `pub` item has.
    fn name(&self) -> Option<&str> {
        let words = self.lines[0].strip_prefix("pub ")?.split([' ', '(', '<', ':', ';', '{']);
        let qualifiers =
            ["fn", "struct", "enum", "trait", "const", "static", "type", "unsafe", "mod"];
        words.into_iter().find(|word| !qualifiers.contains(word) && !word.is_empty())
    }

    /// Whether it is the type of this name, public or not.
    fn defines(&self, name: &str) -> bool {
        let head =
            self.lines[0].replace("pub(crate) ", "").replace("pub(super) ", "").replace("pub ", "");
        let rest = ["struct ", "enum ", "trait "].iter().find_map(|kind| head.strip_prefix(kind));
        rest.and_then(|rest| rest.split([' ', '<', '(', ';', ':']).next()) == Some(name)
    }

    /// The name of the type that an `impl` is of.
    fn implements_for(&self) -> String {
        let head = Self::head(&self.lines);
        let of = head.rsplit_once(" for ").map_or_else(
            || head.trim_start_matches("impl").trim_start_matches(|c| c != ' ').to_owned(),
            |(_, of)| of.to_owned(),
        );
        let name = of.split(" where ").next().unwrap_or_default();
        let name = name.split('<').next().unwrap_or_default();
        name.trim().rsplit("::").next().unwrap_or_default().to_owned()
    }

    /// What lies within the braces, a member an entry: its lines at the first indent.
    fn members(&self) -> Vec<Vec<String>> {
        let mut members: Vec<Vec<String>> = Vec::new();
        let inner = self.lines.iter().skip_while(|line| !line.ends_with('{')).skip(1);
        for line in inner.take_while(|line| *line != "}") {
            let first = line.starts_with("    ") && !line[4..].starts_with([' ', '}', ')']);
            match members.last_mut() {
                Some(member) if !first => member.push(line.clone()),
                _ if line.starts_with("    #[") => {}
                _ => members.push(vec![line.clone()]),
            }
        }
        members
    }
}

/// The items of a file; what is there for tests alone is none of them.
fn items(text: &str) -> Vec<Item> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let (mut items, mut attributes) = (Vec::new(), Vec::new());
    let mut lines = code.filter(|line| !line.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        let mut whole = vec![line.to_owned()];
        let is_attribute = line.starts_with('#');
        let is_whole = |last: &str| {
            if is_attribute {
                last.ends_with(']')
            } else {
                !last.starts_with(' ') && last.ends_with(['}', ';'])
            }
        };
        while !is_whole(whole.last().expect("there is one"))
            && let Some(next) = lines.next()
        {
            whole.push(next.to_owned());
        }
        if is_attribute {
            attributes.push(Item::head(&whole));
        } else {
            let told = |text: &&String| text.starts_with("#[cfg") || text.starts_with("#[derive");
            let told: String = attributes.iter().filter(told).map(|a| format!("{a} ")).collect();
            if !told.contains("#[cfg(test)]") {
                items.push(Item { attributes: told, lines: whole });
            }
            attributes.clear();
        }
    }
    items
}

/// A module and those below it.
fn modules(file: &Path, path: &str, public: bool, all: &mut Vec<Module>) {
    let items = items(&fs::read_to_string(file).unwrap());
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let folder = match stem {
        "lib" | "mod" => file.parent().unwrap().to_path_buf(),
        _ => file.with_extension(""),
    };
    let mut below = Vec::new();
    for item in &items {
        let line = &item.lines[0];
        let name = line.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
        let Some(name) = name else { continue };
        let places = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        let place = places.into_iter().find(|place| place.exists());
        below.push((name.to_owned(), place.unwrap(), public && line.starts_with("pub mod ")));
    }
    all.push(Module { path: path.to_owned(), public, items });
    for (name, place, public) in below {
        modules(&place, &format!("{path}::{name}"), public, all);
    }
}

fn interface() -> String {
    let mut all = Vec::new();
    modules(&PathBuf::from(ROOT).join("src/lib.rs"), "forgetting_laws", true, &mut all);
    let shown = |module: &Module, item: &Item| {
        let Some(name) = item.name() else { return false };
        module.public || all.iter().any(|above| above.brings(module, name))
    };
    let listed = |module: &Module, name: &str| {
        module.items.iter().any(|item| item.name() == Some(name) && shown(module, item))
    };
    let implemented = |module: &Module, name: &str| {
        let is_here = module.items.iter().any(|item| item.defines(name));
        if is_here { listed(module, name) } else { all.iter().any(|m| listed(m, name)) }
    };
    let mut text = String::new();
    for module in &all {
        let mut entries = Vec::new();
        for item in &module.items {
            let head = format!("{}{}", item.attributes, Item::head(&item.lines));
            let is_impl = item.is("impl");
            let is_shown = shown(module, item)
                || item.is("pub use ") && module.public
                || is_impl && implemented(module, &item.implements_for());
            if !is_shown {
                continue;
            }
            let of_trait = item.is("pub trait ");
            let every = of_trait || item.is("pub enum ");
            let is_trait_impl = is_impl && head.contains(" for ");
            let members =
                if is_trait_impl || item.is("pub fn ") { Vec::new() } else { item.members() };
            let public = |member: &Vec<String>| every || member[0].starts_with("    pub ");
            let kept: Vec<String> =
                members.iter().filter(|m| public(m)).map(|m| Item::head(m)).collect();
            if is_impl && !is_trait_impl && kept.is_empty() {
                continue;
            }
            let private = members.iter().any(|member| !public(member)) && item.is("pub struct ");
            let mut entry = head + "\n";
            for member in kept {
                let _ = writeln!(entry, "    {member}");
            }
            if private {
                entry += "    ..\n";
            }
            entries.push(entry);
        }
        if !entries.is_empty() {
            let _ = writeln!(text, "\n# {}\n{}", module.path, entries.concat().trim_end());
        }
    }
    text.trim_start().to_owned()
}

#[test]
fn a_change_of_the_public_interface_is_seen() {
    let path = Path::new(ROOT).join("tests/public_api.txt");
    let interface = interface();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &interface).unwrap();
    }
    let reviewed = fs::read_to_string(&path).unwrap();
    let changed = |a: &str, b: &str| {
        let known: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !known.contains(line)).take(5).collect::<Vec<_>>().join("\n")
    };
    assert!(
        interface == reviewed,
        "the public interface has changed; if that is meant, say so in CHANGELOG.md and run \
         UPDATE_GOLDEN=1 cargo test -p forgetting-laws --test public_api\nnew:\n{}\ngone:\n{}",
        changed(&interface, &reviewed),
        changed(&reviewed, &interface),
    );
}

/// What the reader of the source makes of each kind of item.
#[test]
fn items_are_read_as_rustfmt_lays_them_out() {
    let text = "use a::b;\n\
        /// Doc.\n#[derive(Debug)]\n#[must_use]\npub struct A<T> {\n    /// One.\n    pub a: T,\n    b: u8,\n}\n\
        impl<T> A<T> {\n    pub fn long(\n        &self,\n        b: u8,\n    ) -> u8 {\n        match b {\n            \
        _ => 1,\n        }\n    }\n\n    fn hidden(&self) {}\n}\n\
        impl<T> From<T> for A<T> {\n    fn from(a: T) -> Self {\n        A { a, b: 0 }\n    }\n}\n\
        #[cfg(test)]\nmod tests {\n    pub fn none() {}\n}\n";
    let items = items(text);
    let heads: Vec<_> = items.iter().map(|item| Item::head(&item.lines)).collect();
    assert_eq!(heads, ["use a::b", "pub struct A<T>", "impl<T> A<T>", "impl<T> From<T> for A<T>"]);
    assert_eq!((items[1].name(), &*items[1].attributes), (Some("A"), "#[derive(Debug)] "));
    assert!(items[2..].iter().all(|item| item.implements_for() == "A"));
    let members = |item: &Item| item.members().iter().map(|m| Item::head(m)).collect::<Vec<_>>();
    assert_eq!(members(&items[1]), ["pub a: T", "b: u8"]);
    assert_eq!(members(&items[2])[0], "pub fn long(&self, b: u8) -> u8");
}

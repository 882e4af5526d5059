//! The layers of the program: a module uses those below it, and the leaves use none.

use std::fs;
use std::path::Path;

/// From the top; what is none of them is a leaf.
const LAYERS: [&str; 6] = ["cli", "report", "figures", "results", "experiment", "inputs"];

/// Checks every file of a folder; `above` are the layers that it must not use.
fn check(path: &Path, above: &[&str]) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| check(&entry.unwrap().path(), above));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).unwrap();
        for (i, line) in text.lines().enumerate() {
            let uses = |layer: &&&str| line.contains(&format!("crate::{layer}::"));
            let wrong = above.iter().find(uses);
            assert!(wrong.is_none(), "{}:{}: {line}", path.display(), i + 1);
        }
    }
}

#[test]
fn a_layer_uses_those_below_it_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (i, layer) in LAYERS.iter().enumerate() {
        assert!(source.join(layer).is_dir(), "{layer} is no layer");
        check(&source.join(layer), &LAYERS[..i]);
    }
    for entry in fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap();
        if name != "main" && !LAYERS.contains(&name) {
            check(&entry, &LAYERS);
        }
    }
}

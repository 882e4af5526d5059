//! The tables of figures from the planted grid, pinned in `golden/figures`.

use super::{Figure, Page};
use crate::blocks::MAIN;
use crate::results::planted::planted;
use crate::results::{Laws, Results};
use forgetting_laws::fit::{Bootstrap, Options};
use std::path::Path;
use std::sync::LazyLock;

/// Two machines' logarithms and powers differ in the last digits, and optima found with them a
/// little more.
const TOLERANCE: f64 = 1e-6;

/// The planted grid and its laws, from few resamples: they are fitted once for all tests.
pub static PLANTED: LazyLock<(Results, Laws)> = LazyLock::new(|| {
    let results = planted();
    let bootstrap = Bootstrap { resamples: 40, ..Bootstrap::default() };
    let options = Options { bootstrap, misfit: false, ..Options::default() };
    let laws = Laws::fitted(&results.table(MAIN), &options);
    (results, laws)
});

/// The figure of the planted grid, after its tables are found equal to the pinned ones. With the
/// variable UPDATE_GOLDEN they are pinned anew.
pub fn page(figure: &Figure) -> Page {
    let (results, laws) = &*PLANTED;
    let page = (figure.draw)(results, laws).expect("the planted grid can be drawn");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/figures").join(figure.id);
    assert_eq!(page.csv.first().map(|(stem, _)| stem.as_str()), Some(figure.id));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (stem, csv) in &page.csv {
            std::fs::write(folder.join(format!("{stem}.csv")), csv).unwrap();
        }
    }
    for (stem, csv) in &page.csv {
        let path = folder.join(format!("{stem}.csv"));
        let pinned = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; set UPDATE_GOLDEN=1", path.display()));
        if let Some(difference) = difference(&pinned, csv) {
            panic!("{}: {difference}; if that is meant, set UPDATE_GOLDEN=1", path.display());
        }
    }
    page
}

/// The first cell in which two tables differ.
pub fn difference(pinned: &str, made: &str) -> Option<String> {
    let (pinned_lines, made_lines) = (pinned.lines().count(), made.lines().count());
    if pinned_lines != made_lines {
        return Some(format!("{made_lines} lines in place of {pinned_lines}"));
    }
    let equal = |pinned: &str, made: &str| match (pinned.parse::<f64>(), made.parse::<f64>()) {
        _ if pinned == made => true,
        (Ok(a), Ok(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(TOLERANCE),
        _ => false,
    };
    for (i, (pinned, made)) in pinned.lines().zip(made.lines()).enumerate() {
        let cells = |line: &str| line.split(',').map(String::from).collect::<Vec<_>>();
        let (pinned_cells, made_cells) = (cells(pinned), cells(made));
        let alike = pinned_cells.len() == made_cells.len()
            && pinned_cells.iter().zip(&made_cells).all(|(a, b)| equal(a, b));
        if !alike {
            return Some(format!("line {}: {made} in place of {pinned}", i + 1));
        }
    }
    None
}

#[test]
fn tables_differ_where_a_cell_does() {
    assert_eq!(difference("a,b\nx,1\n", "a,b\nx,1.0000001\n"), None);
    assert!(difference("a,b\nx,1\n", "a,b\nx,1.00001\n").unwrap().starts_with("line 2"));
    assert!(difference("x,1\n", "y,1\n").is_some());
    assert!(difference("x,1\n", "x,1,\n").is_some());
    assert!(difference("x\n", "x\nx\n").unwrap().starts_with("2 lines"));
    assert_eq!(difference("0\n", "1e-13\n"), None);
}

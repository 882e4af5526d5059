//! Figure 14: how much of the progress of pretraining a finetuning loses, as in [Figure 2](super::fig2), for
//! every domain and amount of data.

use super::fig2;
use crate::blocks::{MAIN, SEEDS};
use crate::figures::style::{self, short};
use crate::figures::{Figure, Page};
use crate::results::{Finetuned, Laws, Results};
use forgetting_laws::Result;
use plot::Share;

/// Figure 14: every D_ft of every domain.
pub const FIG14: Figure = Figure {
    id: "fig14",
    paper: "Figure 14 (arXiv v2)",
    title: "Progress of pretraining that finetuning loses, for every domain and amount of data",
    blocks: &[MAIN, SEEDS],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let amounts = style::amounts(results.block(MAIN));
    let domains = results.domains_of(MAIN);
    let row = |domain: &str| {
        let at = |&d_ft: &u64| {
            let here = |run: &&Finetuned| run.domain == domain && run.d_ft_tokens == d_ft;
            fig2::panel(results, &results.block(MAIN).filter(here).collect::<Vec<_>>())
        };
        amounts.iter().map(at).collect::<Vec<_>>()
    };
    let rows: Vec<_> = domains.iter().map(|domain| row(&domain.name)).collect();
    let drawing = (!rows.is_empty()).then(|| {
        let mut drawing = fig2::drawing(&FIG14, results, rows);
        drawing.rows = domains.iter().map(|domain| domain.name.clone()).collect();
        let name = |&d_ft: &u64| format!("D_{{ft}} = {}", short(d_ft as f64));
        drawing.columns = amounts.iter().map(name).collect();
        drawing.share_y = Share::Row;
        drawing
    });
    let runs: Vec<_> = results.block(MAIN).collect();
    Ok(Page {
        drawing,
        csv: vec![(FIG14.id.into(), fig2::table(results, &runs))],
        notes: fig2::notes(results),
        ..Page::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use crate::results::planted::planted;

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&FIG14);
        let drawing = page.drawing.unwrap();
        let shape: Vec<_> = drawing.panels.iter().map(Vec::len).collect();
        assert_eq!(shape, [4, 4, 4]);
        // Two p of four sizes have other seeds, at the second D_ft.
        let bars: Vec<_> = drawing.panels[0].iter().map(|panel| panel.intervals.len()).collect();
        assert_eq!(bars, [0, 8, 0, 0]);
    }

    #[test]
    fn without_runs_there_is_no_drawing() {
        let mut results = planted();
        results.finetuned.clear();
        assert!(draw(&results, &PLANTED.1).unwrap().drawing.is_none());
    }
}

//! The report in Markdown.

use super::{claims, command, groups, name, provenance, summary};
use crate::figures::{Figure, Page};
use crate::results::Results;
use std::fmt::Write as _;

/// The whole report.
pub fn page(results: &Results, pages: &[(&Figure, Page)]) -> String {
    let claims = claims(pages);
    let mut text = format!(
        "# Scaling laws for forgetting, replicated: {}\n\n{}\n",
        results.preset,
        summary(&claims)
    );
    for (heading, claims) in groups(&claims) {
        let _ = write!(text, "\n## {heading}\n");
        for claim in claims {
            let _ = write!(text, "\n- {} ({})\n", claim.claim, claim.source);
            for (figure, finding) in &claim.findings {
                let _ = writeln!(
                    text,
                    "  - **{}**, [{}](#{}): {}\n    Supported if {}",
                    finding.verdict.words(),
                    name(figure),
                    figure.id,
                    finding.ours,
                    finding.rule
                );
            }
        }
    }
    for (figure, page) in pages {
        let id = figure.id;
        let _ = write!(
            text,
            "\n## <a id=\"{id}\"></a>{}: {}\n\n```sh\n{}\n```\n",
            figure.paper,
            figure.title,
            command(figure, results)
        );
        if page.drawing.is_some() {
            let _ = write!(text, "\n![{}]({id}/{id}.png)\n", figure.title);
        }
        for table in &page.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        if !page.notes.is_empty() {
            text.push('\n');
        }
        text.extend(page.notes.iter().map(|note| format!("- {note}\n")));
    }
    text += "\n## Provenance\n\n";
    text.extend(
        provenance(results).into_iter().map(|(name, value)| format!("- {name}: {value}\n")),
    );
    text
}

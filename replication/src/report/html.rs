//! The report as one HTML page.

use super::{claims, command, groups, name, panel, provenance, summary};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::results::{Laws, Results};
use std::fmt::Write as _;

/// The whole page.
pub fn page(results: &Results, laws: &Laws, pages: &[(&Figure, Page)]) -> String {
    fill(
        include_str!("page.html"),
        &[
            ("style", include_str!("style.css")),
            ("script", include_str!("panel.js")),
            ("preset", &escape(&results.preset)),
            ("summary", &escape(&summary(&claims(pages)))),
            ("contents", &contents(pages)),
            ("claims", &claim_groups(pages)),
            ("figures", &pages.iter().map(|(f, p)| section(f, p, results)).collect::<String>()),
            ("laws", &panel::json(laws)),
            ("provenance", &facts(results)),
        ],
    )
}

/// A separate page: its kind, its title, its first sentences, and the rest as HTML.
#[cfg(feature = "train")]
pub fn document(kicker: &str, title: &str, lead: &[String], body: &str) -> String {
    let mut class = " class=\"lede\"";
    let mut paragraphs = String::new();
    for sentence in lead {
        let _ = writeln!(paragraphs, "<p{class}>{}</p>", escape(sentence));
        class = "";
    }
    fill(
        include_str!("document.html"),
        &[
            ("style", include_str!("style.css")),
            ("kicker", &escape(kicker)),
            ("title", &escape(title)),
            ("lead", &paragraphs),
            ("body", body),
        ],
    )
}

/// The template with a text in place of every `{{name}}`. Inserted texts are not searched again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or((part, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        text += value.map_or_else(|| unreachable!("no value for {name}"), |(_, value)| value);
        text += rest;
    }
    text
}

/// Text, escaped for an element or an attribute in double quotation marks.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn contents(pages: &[(&Figure, Page)]) -> String {
    let item = |(figure, _): &(&Figure, Page)| {
        format!("<li><a href=\"#{}\">{}</a></li>\n", figure.id, escape(&name(figure)))
    };
    pages.iter().map(item).collect()
}

fn claim_groups(pages: &[(&Figure, Page)]) -> String {
    let mut html = String::new();
    for (heading, claims) in groups(&claims(pages)) {
        let _ = write!(html, "<h3>{heading}</h3>\n<ul class=\"claims\">\n");
        for claim in claims {
            let _ = write!(
                html,
                "<li>\n<p class=\"claim\">{} <cite>{}</cite></p>\n<ul class=\"findings\">\n",
                escape(claim.claim),
                escape(claim.source)
            );
            for (figure, finding) in &claim.findings {
                let _ = write!(
                    html,
                    "<li>{} <a href=\"#{}\">{}</a>\n<p>{}</p>\n<p class=\"rule\">Supported if {}</p>\
                     </li>\n",
                    verdict(finding),
                    figure.id,
                    escape(&name(figure)),
                    escape(&finding.ours),
                    escape(&finding.rule)
                );
            }
            html += "</ul>\n</li>\n";
        }
        html += "</ul>\n";
    }
    html
}

/// A verdict in words, with a sign and a colour.
fn verdict(finding: &Finding) -> String {
    let (class, sign) = match finding.verdict {
        Verdict::Supported => ("supported", "✓"),
        Verdict::NotSupported => ("not-supported", "✗"),
        Verdict::NotTestable => ("not-testable", "○"),
    };
    format!(
        "<strong class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {}</strong>",
        finding.verdict.words()
    )
}

/// A figure or a table.
fn section(figure: &Figure, page: &Page, results: &Results) -> String {
    let (id, title) = (figure.id, escape(figure.title));
    let mut html = format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h3 id=\"{id}-title\"><span \
         class=\"paper\">{}</span> {title}</h3>\n<pre><code>{}</code></pre>\n",
        escape(figure.paper),
        escape(&command(figure, results))
    );
    for finding in &page.findings {
        let claim = escape(&finding.claim);
        let _ = writeln!(html, "<p class=\"of\">{} {claim}</p>", verdict(finding));
    }
    if let Some(drawing) = &page.drawing {
        let svg = own_ids(&drawing.svg(), id);
        let _ = write!(html, "<figure tabindex=\"0\" aria-label=\"{title}\">\n{svg}</figure>\n");
    }
    html.extend(page.tables.iter().enumerate().map(|(i, t)| table(t, &format!("{id}-table-{i}"))));
    if !page.notes.is_empty() {
        html += "<ul class=\"notes\">\n";
        html.extend(page.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))));
        html += "</ul>\n";
    }
    html += "</section>\n";
    html
}

/// A drawing with ids that are unique on a page of several drawings. Quotation marks in texts are
/// escaped, so only attributes change.
fn own_ids(svg: &str, id: &str) -> String {
    svg.replace("<clipPath id=\"", &format!("<clipPath id=\"{id}-"))
        .replace("clip-path=\"url(#", &format!("clip-path=\"url(#{id}-"))
}

/// A table with its caption as its name.
pub fn table(table: &Table, id: &str) -> String {
    let (caption, name) = if table.caption.is_empty() {
        (String::new(), "aria-label=\"Table\"".into())
    } else {
        (
            format!("<p class=\"caption\" id=\"{id}\">{}</p>\n", escape(&table.caption)),
            format!("aria-labelledby=\"{id}\""),
        )
    };
    let mut html = format!(
        "{caption}<div class=\"scroll\" tabindex=\"0\" role=\"region\" {name}>\n<table {name}>\n"
    );
    html += "<thead><tr>";
    html.extend(table.columns.iter().map(|c| format!("<th scope=\"col\">{}</th>", escape(c))));
    html += "</tr></thead>\n<tbody>\n";
    for row in &table.rows {
        html += "<tr>";
        html.extend(row.iter().map(|cell| {
            let class = if is_number(cell) { " class=\"number\"" } else { "" };
            format!("<td{class}>{}</td>", escape(cell))
        }));
        html += "</tr>\n";
    }
    html += "</tbody>\n</table>\n</div>\n";
    html
}

/// Whether a cell is aligned to the right.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['+', '-', '−', '±', '<', '>', '≈', ' ']);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

fn facts(results: &Results) -> String {
    let fact = |(name, value): (String, String)| {
        format!("<dt>{}</dt>\n<dd>{}</dd>\n", escape(&name), escape(&value))
    };
    provenance(results).into_iter().map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once() {
        let values = [("a", "{{b}}"), ("b", "x")];
        assert_eq!(fill("1{{a}}2{{b}}3", &values), "1{{b}}2x3");
        assert_eq!(fill("no names", &values), "no names");
    }

    #[test]
    fn ids_of_two_drawings_differ_and_still_meet() {
        let svg = "<clipPath id=\"clip1\"></clipPath>\n<g clip-path=\"url(#clip1)\"><text>id=\
                   &quot;clip1&quot;</text></g>";
        let own = own_ids(svg, "fig2");
        assert!(own.contains("<clipPath id=\"fig2-clip1\">"));
        assert!(own.contains("clip-path=\"url(#fig2-clip1)\""));
        assert!(own.contains("<text>id=&quot;clip1&quot;</text>"));
    }

    #[test]
    fn numbers_are_told_from_words() {
        for number in ["1", "-0.5", "+2.72", "3.3% [1, 2]", "41,120", "−1"] {
            assert!(is_number(number), "{number}");
        }
        for word in ["", "nano-tiny", "[1, 2]", "—"] {
            assert!(!is_number(word), "{word}");
        }
    }
}

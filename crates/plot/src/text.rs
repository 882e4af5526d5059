//! Text that is measured, so that a figure is laid out alike everywhere.
//!
//! The widths and the outlines are those of DejaVu Sans, which the program carries. A viewer without
//! that font takes a similar one, and the SVG's `textLength` keeps every word where it was planned.

use std::sync::LazyLock;

use skrifa::charmap::Charmap;
use skrifa::instance::{LocationRef, Size};
use skrifa::metrics::GlyphMetrics;
use skrifa::outline::{DrawSettings, OutlineGlyphCollection, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider};

/// Ascent of capitals and figures in DejaVu Sans, as a share of the size.
pub(super) const CAP: f64 = 0.729;

/// Distance between the baselines of two lines, as a share of the size.
pub(super) const LEADING: f64 = 1.25;

/// Weight of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weight {
    #[default]
    Regular,
    Bold,
}

/// A font that the program carries, read at its design size.
struct Font {
    charmap: Charmap<'static>,
    metrics: GlyphMetrics<'static>,
    outlines: OutlineGlyphCollection<'static>,
    /// Units of the design in one em.
    units_per_em: f64,
}

impl Font {
    fn new(bytes: &'static [u8]) -> Self {
        let font = FontRef::new(bytes).expect("the embedded font is a font");
        let (size, location) = (Size::unscaled(), LocationRef::default());
        Self {
            charmap: font.charmap(),
            metrics: font.glyph_metrics(size, location),
            outlines: font.outline_glyphs(),
            units_per_em: f64::from(font.metrics(size, location).units_per_em),
        }
    }
}

static FONTS: LazyLock<[Font; 2]> =
    LazyLock::new(|| [dejavu::sans::regular(), dejavu::sans::bold()].map(Font::new));

/// The font of a weight.
fn font(weight: Weight) -> &'static Font {
    &FONTS[usize::from(weight == Weight::Bold)]
}

/// Units of the font's design in one em.
pub(super) fn units_per_em(weight: Weight) -> f64 {
    font(weight).units_per_em
}

/// The glyph of a character; a box where the font has none.
pub(super) fn glyph(weight: Weight, c: char) -> GlyphId {
    font(weight).charmap.map(c).unwrap_or(GlyphId::NOTDEF)
}

/// How far a glyph moves the pen, in points.
pub(super) fn advance(weight: Weight, glyph: GlyphId, size: f64) -> f64 {
    let font = font(weight);
    f64::from(font.metrics.advance_width(glyph).unwrap_or(0.0)) / font.units_per_em * size
}

/// Draws the outline of a glyph, in units of the font's design. A glyph without one draws nothing.
pub(super) fn outline(weight: Weight, glyph: GlyphId, pen: &mut impl OutlinePen) {
    if let Some(outline) = font(weight).outlines.get(glyph) {
        let settings = DrawSettings::unhinted(Size::unscaled(), LocationRef::default());
        outline.draw(settings, pen).expect("the embedded font's outlines are whole");
    }
}

/// Letters of one size on one baseline.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub text: String,
    /// Font size in points.
    pub size: f64,
    /// Start, from the start of the line.
    pub x: f64,
    /// Baseline, above that of the line.
    pub rise: f64,
    /// Length in points.
    pub width: f64,
}

/// One line of text, measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub runs: Vec<Run>,
    pub weight: Weight,
    /// Length in points.
    pub width: f64,
}

/// Sets one line. `_{…}` lowers and `^{…}` raises what is within; one after the other they are
/// stacked.
pub(super) fn line(markup: &str, size: f64, weight: Weight) -> Line {
    const SCRIPT: f64 = 0.7;
    let mut set = Line { weight, ..Line::default() };
    // Start and end of a script that its opposite may share.
    let mut open: Option<(char, f64, f64)> = None;
    for (kind, text) in pieces(markup) {
        let (size, rise) = match kind {
            '_' => (size * SCRIPT, -0.17 * size),
            '^' => (size * SCRIPT, 0.38 * size),
            _ => (size, 0.0),
        };
        let start = match open {
            Some((other, start, _)) if kind != ' ' && other != kind => start,
            _ => set.width,
        };
        let end = push(&mut set, &text, size, start, rise);
        set.width = set.width.max(end);
        open = (kind != ' ').then_some((kind, start, end));
    }
    set
}

/// Appends a run and returns where it ends. Spaces around it become distance, since XML readers may
/// drop them.
fn push(set: &mut Line, text: &str, size: f64, start: f64, rise: f64) -> f64 {
    let measure = |text: &str| -> f64 {
        text.chars().map(|c| advance(set.weight, glyph(set.weight, c), size)).sum()
    };
    let inner = text.trim_matches(' ');
    let lead = &text[..text.len() - text.trim_start_matches(' ').len()];
    let (x, width) = (start + measure(lead), measure(inner));
    if !inner.is_empty() {
        set.runs.push(Run { text: inner.into(), size, x, rise, width });
    }
    start + measure(text)
}

/// Splits markup into plain text (`' '`), subscripts (`'_'`) and superscripts (`'^'`).
fn pieces(markup: &str) -> Vec<(char, String)> {
    let mut pieces: Vec<(char, String)> = Vec::new();
    let mut rest = markup;
    while let Some(at) = rest.char_indices().map(|(i, _)| i).find(|&i| {
        (rest[i..].starts_with("_{") || rest[i..].starts_with("^{")) && rest[i..].contains('}')
    }) {
        let close = at + rest[at..].find('}').unwrap_or(0);
        if at > 0 {
            pieces.push((' ', visible(&rest[..at])));
        }
        let kind = if rest[at..].starts_with('_') { '_' } else { '^' };
        pieces.push((kind, visible(&rest[at + 2..close])));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push((' ', visible(rest)));
    }
    pieces
}

/// Line breaks and tabs as spaces; characters that XML cannot hold as U+FFFD.
pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Sets text in lines no longer than `width` where words allow it.
pub(super) fn wrap(markup: &str, size: f64, weight: Weight, width: f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for paragraph in markup.split('\n') {
        let mut current = String::new();
        for word in words(paragraph) {
            let longer =
                if current.is_empty() { word.clone() } else { format!("{current} {word}") };
            if !current.is_empty() && line(&longer, size, weight).width > width {
                lines.push(line(&current, size, weight));
                current = word;
            } else {
                current = longer;
            }
        }
        if !current.is_empty() {
            lines.push(line(&current, size, weight));
        }
    }
    lines
}

/// Words, not broken within `{…}`.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for part in text.split(' ') {
        match words.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(part);
            }
            _ => words.push(part.into()),
        }
        for c in part.chars() {
            open = match c {
                '{' => true,
                '}' => false,
                _ => open,
            };
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_fonts() {
        // Advances of DejaVu Sans in units of 1/2048 em: zero 1303, hyphen-minus 739.
        let zero = line("0", 2048.0, Weight::Regular);
        assert_eq!(zero.width, 1303.0);
        assert_eq!(line("0-", 2048.0, Weight::Regular).width, 1303.0 + 739.0);
        assert!(line("0", 2048.0, Weight::Bold).width > zero.width);
    }

    #[test]
    fn scripts_shrink_shift_and_stack() {
        let set = line("L_{pt}^{0} x", 10.0, Weight::Regular);
        let texts: Vec<&str> = set.runs.iter().map(|r| r.text.as_str()).collect();
        assert_eq!(texts, ["L", "pt", "0", "x"]);
        assert_eq!(set.runs[1].x, set.runs[0].width);
        assert_eq!(set.runs[2].x, set.runs[1].x);
        assert!(set.runs[1].rise < 0.0 && set.runs[2].rise > 0.0 && set.runs[3].rise == 0.0);
        assert!(set.runs[3].x > set.runs[1].x + set.runs[1].width);
        assert_eq!(set.runs[1].size, 7.0);
        assert!((set.width - set.runs[3].x - set.runs[3].width).abs() < 1e-9);
        let same = line("10^{2}^{3}", 10.0, Weight::Regular);
        assert!(same.runs[2].x > same.runs[1].x);
    }

    #[test]
    fn underscores_without_braces_are_letters() {
        let set = line("loss_ft ^ _{open", 8.0, Weight::Regular);
        assert_eq!(set.runs.len(), 1);
        assert_eq!(set.runs[0].text, "loss_ft ^ _{open");
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(visible("a\u{0}\tb\u{ffff}"), "a\u{fffd} b\u{fffd}");
    }

    #[test]
    fn wrapping_keeps_words_and_width() {
        let text = "one two three _{four five} six seven";
        let lines = wrap(text, 10.0, Weight::Regular, 60.0);
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|l| l.width <= 60.0));
        let words: usize = lines
            .iter()
            .map(|l| l.runs.iter().map(|r| r.text.split(' ').count()).sum::<usize>())
            .sum();
        assert_eq!(words, 7);
        assert!(wrap("", 10.0, Weight::Regular, 60.0).is_empty());
        assert_eq!(wrap("a\nb", 10.0, Weight::Regular, 60.0).len(), 2);
        assert_eq!(wrap("unbreakable", 10.0, Weight::Regular, 1.0).len(), 1);
    }
}

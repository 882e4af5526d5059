//! A drawing as a list of shapes, and its SVG.
//!
//! Everything is in points (1/72 inch) from the top left, rounded to hundredths, so that the SVG
//! and the PNG are made from the same numbers.

use std::fmt::Write as _;

use super::color::{Color, Dash};
use super::text::{self, Weight};

/// A place in points: to the right, downwards.
pub(super) type Point = (f64, f64);

/// A rectangle in points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub fn center(&self) -> Point {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }
}

/// The look of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Colour.
    pub color: Color,
    /// Width in points.
    pub width: f64,
    /// How the line is broken.
    pub dash: Dash,
}

impl Stroke {
    /// An unbroken line of `width` points.
    #[must_use]
    pub fn new(color: Color, width: f64) -> Self {
        Self { color, width, dash: Dash::Solid }
    }

    /// The same line, broken.
    #[must_use]
    pub fn dashed(mut self, dash: Dash) -> Self {
        self.dash = dash;
        self
    }
}

impl Default for Stroke {
    fn default() -> Self {
        Self::new(Color::BLACK, 1.0)
    }
}

/// Ink of a path or circle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ink {
    pub fill: Option<Color>,
    /// Opacity of the fill, from 0 to 1.
    pub opacity: f64,
    pub stroke: Option<Stroke>,
}

impl Ink {
    pub fn fill(color: Color) -> Self {
        Self { fill: Some(color), opacity: 1.0, stroke: None }
    }

    pub fn stroke(stroke: Stroke) -> Self {
        Self { fill: None, opacity: 1.0, stroke: Some(stroke) }
    }
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trace {
    pub points: Vec<Point>,
    pub closed: bool,
}

/// Which point of a text is at its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Anchor {
    #[default]
    Start,
    Middle,
    End,
}

impl Anchor {
    /// Share of the length that lies before the anchor.
    pub fn share(self) -> f64 {
        match self {
            Self::Start => 0.0,
            Self::Middle => 0.5,
            Self::End => 1.0,
        }
    }
}

/// A line of text in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub line: text::Line,
    /// The baseline, at the anchor.
    pub at: Point,
    pub anchor: Anchor,
    /// Clockwise degrees about `at`.
    pub turn: f64,
    pub color: Color,
    /// Whether a white rim keeps it legible over lines.
    pub rim: bool,
}

/// Width of the white rim of a text, in points.
pub(super) const RIM: f64 = 2.0;

/// Something drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Path { traces: Vec<Trace>, ink: Ink },
    Circle { center: Point, radius: f64, ink: Ink },
    Text(Label),
    Clip { to: Rect, items: Vec<Item> },
}

/// A whole drawing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scene {
    pub width: f64,
    pub height: f64,
    pub title: String,
    pub description: String,
    pub provenance: String,
    pub items: Vec<Item>,
}

/// Rounds to the grid that both outputs share.
pub(super) fn snap(v: f64) -> f64 {
    // Adding zero turns -0 into 0.
    (v * 100.0).round() / 100.0 + 0.0
}

/// Escapes text for XML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c => out.push_str(&text::visible(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

impl Scene {
    /// The drawing as an SVG document.
    pub fn svg(&self) -> String {
        let (w, h) = (snap(self.width), snap(self.height));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}pt\" height=\"{h}pt\" \
             viewBox=\"0 0 {w} {h}\" role=\"img\" font-family=\"'DejaVu Sans',Verdana,sans-serif\" \
             style=\"font-kerning:none\">\n"
        );
        for (tag, text) in
            [("title", &self.title), ("desc", &self.description), ("metadata", &self.provenance)]
        {
            if !text.is_empty() {
                let _ = writeln!(out, "<{tag}>{}</{tag}>", escape(text));
            }
        }
        let _ = writeln!(out, "<rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>");
        let mut clips = 0;
        for item in &self.items {
            write_item(&mut out, item, &mut clips);
        }
        out.push_str("</svg>\n");
        out
    }
}

fn write_item(out: &mut String, item: &Item, clips: &mut usize) {
    match item {
        Item::Path { traces, ink } => {
            let mut data = String::new();
            for trace in traces {
                for (i, &(x, y)) in trace.points.iter().enumerate() {
                    let command = if i == 0 { 'M' } else { 'L' };
                    let _ = write!(data, "{command}{} {}", snap(x), snap(y));
                }
                if trace.closed {
                    data.push('Z');
                }
            }
            if !data.is_empty() {
                let _ = writeln!(out, "<path d=\"{data}\"{}/>", attributes(ink));
            }
        }
        Item::Circle { center, radius, ink } => {
            let (x, y, r) = (snap(center.0), snap(center.1), snap(*radius));
            let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\"{}/>", attributes(ink));
        }
        Item::Text(label) => write_text(out, label),
        Item::Clip { to, items } => {
            *clips += 1;
            let id = format!("clip{clips}");
            let (x, y, w, h) = (snap(to.left), snap(to.top), snap(to.width), snap(to.height));
            let _ = writeln!(
                out,
                "<clipPath id=\"{id}\"><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>\
                 </clipPath>\n<g clip-path=\"url(#{id})\">"
            );
            for item in items {
                write_item(out, item, clips);
            }
            out.push_str("</g>\n");
        }
    }
}

fn attributes(ink: &Ink) -> String {
    let mut out = match ink.fill {
        Some(color) => format!(" fill=\"{}\"", color.hex()),
        None => " fill=\"none\"".into(),
    };
    if ink.fill.is_some() && ink.opacity < 1.0 {
        let _ = write!(out, " fill-opacity=\"{}\"", snap(ink.opacity));
    }
    if let Some(Stroke { color, width, dash }) = ink.stroke {
        let _ = write!(
            out,
            " stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"",
            color.hex(),
            snap(width)
        );
        let pattern = dash.pattern(width);
        if !pattern.is_empty() {
            let lengths: Vec<String> = pattern.iter().map(|&l| snap(l).to_string()).collect();
            let _ = write!(out, " stroke-dasharray=\"{}\"", lengths.join(" "));
        }
    }
    out
}

fn write_text(out: &mut String, label: &Label) {
    let (x, y) = (snap(label.at.0), snap(label.at.1));
    let mut style = format!(" fill=\"{}\"", label.color.hex());
    if label.line.weight == Weight::Bold {
        style.push_str(" font-weight=\"bold\"");
    }
    if label.turn != 0.0 {
        let _ = write!(style, " transform=\"rotate({} {x} {y})\"", snap(label.turn));
    }
    if label.rim {
        let _ = write!(
            style,
            " stroke=\"#fff\" stroke-width=\"{RIM}\" stroke-linejoin=\"round\" paint-order=\"stroke\""
        );
    }
    let length = |run: &text::Run| {
        format!("font-size=\"{}\" textLength=\"{}\"", snap(run.size), snap(run.width))
    };
    match label.line.runs.as_slice() {
        [] => {}
        // A single run is anchored by the viewer, so that it sits right in any font.
        [run] if run.x == 0.0 && run.rise == 0.0 && run.width == label.line.width => {
            let anchor = match label.anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let text = escape(&run.text);
            let _ = writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" {}{anchor}{style}>{text}</text>",
                length(run)
            );
        }
        runs => {
            let start = label.at.0 - label.anchor.share() * label.line.width;
            let _ = write!(out, "<text{style}>");
            for run in runs {
                let (x, y) = (snap(start + run.x), snap(label.at.1 - run.rise));
                let text = escape(&run.text);
                let _ = write!(out, "<tspan x=\"{x}\" y=\"{y}\" {}>{text}</tspan>", length(run));
            }
            out.push_str("</text>\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_signless_at_zero() {
        assert_eq!(snap(1.005_1).to_string(), "1.01");
        assert_eq!(snap(-0.001).to_string(), "0");
        assert_eq!(snap(-1.5).to_string(), "-1.5");
    }

    #[test]
    fn markup_characters_are_escaped() {
        assert_eq!(escape("a<b>&\"c\n\u{1}"), "a&lt;b&gt;&amp;&quot;c\n\u{fffd}");
    }

    #[test]
    fn an_svg_says_what_was_drawn() {
        let scene = Scene {
            width: 20.0,
            height: 10.0,
            title: "T & t".into(),
            description: String::new(),
            provenance: "{\"seed\":1}".into(),
            items: vec![Item::Clip {
                to: Rect { left: 1.0, top: 2.0, width: 3.0, height: 4.0 },
                items: vec![Item::Path {
                    traces: vec![Trace { points: vec![(0.0, 0.0), (1.234_5, 2.0)], closed: true }],
                    ink: Ink::stroke(Stroke::default().dashed(Dash::Dashed)),
                }],
            }],
        };
        let svg = scene.svg();
        assert!(svg.contains("width=\"20pt\" height=\"10pt\" viewBox=\"0 0 20 10\""));
        assert!(svg.contains("<title>T &amp; t</title>") && !svg.contains("<desc>"));
        assert!(svg.contains("<metadata>{&quot;seed&quot;:1}</metadata>"));
        assert!(svg.contains("<path d=\"M0 0L1.23 2Z\" fill=\"none\" stroke=\"#000000\""));
        assert!(svg.contains("stroke-dasharray=\"4 2\""));
        assert!(svg.contains("<g clip-path=\"url(#clip1)\">"));
    }
}

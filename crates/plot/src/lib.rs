//! Figures: small multiples of lines, bands, bars and marks, as SVG and PNG.
//!
//! A [`Figure`] is a grid of [`Panel`]s with shared labels, a legend and a footnote. SVG and PNG
//! are made from one layout. The fonts are part of the program, so that a bare machine draws the
//! same. Equal figures give equal bytes.
//!
//! Labels may contain `_{…}` and `^{…}`, as in `L_{pt}^{0}`. Lengths are points, 1/72 inch.
//! Values that are not finite, or not positive on a log axis, leave gaps.
//!
//! ```
//! use plot::{Axis, Color, Figure, Glyph, Line, Mark, Panel, Stroke};
//!
//! let curve = vec![(0.0, 3.1), (10.0, 2.4), (100.0, 2.0), (1000.0, 2.7)];
//! let mut panel = Panel::new(Axis::symlog("Finetuning steps", 10.0), Axis::linear("Loss (nats)"));
//! panel.lines.push(Line::new(curve, Stroke::new(Color::categorical(0), 1.2)));
//! panel.marks.push(Mark::new((100.0, 2.0), Glyph::dot(Color::BLACK)));
//! let figure = Figure::new("Overfitting", vec![vec![panel]]);
//! assert!(figure.svg().starts_with("<svg"));
//! assert!(figure.png(plot::DPI)?.starts_with(b"\x89PNG"));
//! # Ok::<(), plot::Error>(())
//! ```

mod axis;
mod cell;
mod color;
mod layout;
mod raster;
mod scene;
mod text;

pub use axis::{Axis, Numbers, Scale};
pub use color::{Color, Dash, Shape};
pub use scene::Stroke;

/// A resolution that is sharp in print, in dots per inch.
pub const DPI: f64 = 200.0;

/// Why a figure could not be drawn as PNG.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image would have no pixels, or too many to be of use.
    #[error("a figure of {width} by {height} pixels cannot be drawn")]
    Size {
        /// Width in pixels.
        width: f64,
        /// Height in pixels.
        height: f64,
    },
    /// The PNG could not be encoded.
    #[error("cannot encode the PNG: {0}")]
    Png(#[from] png::EncodingError),
}

/// Which panels have the same range on an axis. Only the outermost of them show its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Each panel has its own range.
    #[default]
    Panel,
    /// The panels of a row have the same range.
    Row,
    /// The panels of a column have the same range.
    Column,
    /// All panels have the same range.
    Figure,
}

/// How a mark looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glyph {
    /// Form.
    pub shape: Shape,
    /// Whether it is filled or an outline on white.
    pub filled: bool,
    /// Colour.
    pub color: Color,
    /// Radius in points.
    pub radius: f64,
    /// Whether a filled mark has a white rim, which sets it off from lines and from other marks.
    pub rim: bool,
}

impl Glyph {
    /// A filled mark of usual size.
    #[must_use]
    pub fn new(shape: Shape, color: Color) -> Self {
        Self { shape, filled: true, color, radius: 2.4, rim: true }
    }

    /// A dot.
    #[must_use]
    pub fn dot(color: Color) -> Self {
        Self::new(Shape::Circle, color)
    }

    /// The same mark as an outline.
    #[must_use]
    pub fn hollow(mut self) -> Self {
        self.filled = false;
        self
    }

    /// The same mark without a rim, for marks so dense that their rims would hide them.
    #[must_use]
    pub fn without_rim(mut self) -> Self {
        self.rim = false;
        self
    }
}

/// A curve. A point between two gaps is drawn as a dot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// x and y, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// Colour, width and dashes of the line.
    pub stroke: Stroke,
    /// A name to write to the right of the panel, at the height where the curve ends.
    pub label: Option<String>,
}

impl Line {
    /// An unnamed curve.
    #[must_use]
    pub fn new(points: Vec<(f64, f64)>, stroke: Stroke) -> Self {
        Self { points, stroke, label: None }
    }
}

/// The area between two curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// x, lower y and upper y.
    pub points: Vec<(f64, f64, f64)>,
    /// Colour.
    pub color: Color,
    /// Opacity, from 0 (invisible) to 1.
    pub opacity: f64,
}

/// A mark at a place. Outside the panel's range, or infinite, it stands at the edge beside an arrow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// The position of its centre: x and y.
    pub at: (f64, f64),
    /// How the mark looks.
    pub glyph: Glyph,
}

impl Mark {
    /// A mark at a place.
    #[must_use]
    pub fn new(at: (f64, f64), glyph: Glyph) -> Self {
        Self { at, glyph }
    }
}

/// The direction of an [`Interval`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Along y, at an x.
    #[default]
    Vertical,
    /// Along x, at a y.
    Horizontal,
}

/// An error bar: a stretch with caps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The x of a vertical one, the y of a horizontal one.
    pub at: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether it is vertical or horizontal.
    pub direction: Direction,
    /// Colour, width and dashes of the line.
    pub stroke: Stroke,
}

/// A bar that stands on zero, or on the axis where zero is out of range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Centre.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Width, in units of x.
    pub width: f64,
    /// Colour.
    pub color: Color,
}

/// Where a [`Rule`] lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// A horizontal line at this y.
    Horizontal(f64),
    /// A vertical line at this x.
    Vertical(f64),
    /// The line y = x.
    Identity,
}

/// A reference line. Ranges make room for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where it lies.
    pub place: Place,
    /// Colour, width and dashes of the line.
    pub stroke: Stroke,
    /// A name at its far end; empty for none.
    pub label: String,
}

impl Rule {
    /// A thin dashed grey line.
    #[must_use]
    pub fn new(place: Place, label: impl Into<String>) -> Self {
        let stroke = Stroke::new(Color::GREY, 0.9).dashed(Dash::Dashed);
        Self { place, stroke, label: label.into() }
    }
}

/// A corner of a panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Corner {
    /// Top left.
    #[default]
    TopLeft,
    /// Top right.
    TopRight,
    /// Bottom left.
    BottomLeft,
    /// Bottom right.
    BottomRight,
}

/// Words in a corner of a panel, a line each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// The words; `\n` starts a new line.
    pub text: String,
    /// The corner that the text stands in.
    pub corner: Corner,
}

/// One plot. Bands lie lowest, then bars, rules, lines, intervals and marks; within a kind, later
/// ones lie over earlier ones. An empty panel shows its first note, or "no data".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Above the panel; empty for none.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Whether x and y share one range, as for predicted against observed values.
    pub equal: bool,
    /// Areas.
    pub bands: Vec<Band>,
    /// Bars.
    pub bars: Vec<Bar>,
    /// Reference lines.
    pub rules: Vec<Rule>,
    /// Curves.
    pub lines: Vec<Line>,
    /// Error bars.
    pub intervals: Vec<Interval>,
    /// Marks.
    pub marks: Vec<Mark>,
    /// Words.
    pub notes: Vec<Note>,
}

impl Panel {
    /// An empty panel.
    #[must_use]
    pub fn new(x: Axis, y: Axis) -> Self {
        Self { x, y, ..Self::default() }
    }
}

/// What a legend's entry shows; any of the parts may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Key {
    /// A patch, with its opacity.
    pub fill: Option<(Color, f64)>,
    /// A line.
    pub stroke: Option<Stroke>,
    /// A mark.
    pub glyph: Option<Glyph>,
}

impl From<Stroke> for Key {
    fn from(stroke: Stroke) -> Self {
        Self { stroke: Some(stroke), ..Self::default() }
    }
}

impl From<Glyph> for Key {
    fn from(glyph: Glyph) -> Self {
        Self { glyph: Some(glyph), ..Self::default() }
    }
}

/// Entries of a legend that belong together, one row where they fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Legend {
    /// A title above the entries; empty for none.
    pub title: String,
    /// Each entry: a sample of what is drawn, and its name.
    pub entries: Vec<(Key, String)>,
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// One line, also the title for screen readers.
    pub title: String,
    /// What the figure shows, for those who cannot see it; kept in the files, not drawn.
    pub description: String,
    /// Where the data come from, in any form; kept in the files, not drawn.
    pub provenance: String,
    /// Headers of the columns; equal neighbours share one. May be empty.
    pub columns: Vec<String>,
    /// Headers of the rows; equal neighbours share one. May be empty.
    pub rows: Vec<String>,
    /// Rows of panels; they may differ in length.
    pub panels: Vec<Vec<Panel>>,
    /// Which panels have one x range.
    pub share_x: Share,
    /// Which panels have one y range.
    pub share_y: Share,
    /// Legends, which stand above the panels.
    pub legend: Vec<Legend>,
    /// Below the panels; empty for none.
    pub footnote: String,
    /// Width in points. [`Figure::new`] takes 504, 7 inches, a page's width.
    pub width: f64,
    /// Height of a panel over its width. [`Figure::new`] takes 0.72.
    pub aspect: f64,
}

impl Figure {
    /// A figure a page wide.
    #[must_use]
    pub fn new(title: impl Into<String>, panels: Vec<Vec<Panel>>) -> Self {
        Self {
            title: title.into(),
            description: String::new(),
            provenance: String::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            panels,
            share_x: Share::Panel,
            share_y: Share::Panel,
            legend: Vec::new(),
            footnote: String::new(),
            width: 504.0,
            aspect: 0.72,
        }
    }

    /// The figure as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        layout::scene(self).svg()
    }

    /// The figure as a PNG image at `dpi` dots an inch.
    ///
    /// # Errors
    /// [`Error::Size`] where `dpi` or the figure would give no pixels or more than a hundred million.
    pub fn png(&self, dpi: f64) -> Result<Vec<u8>, Error> {
        raster::png(&layout::scene(self), dpi)
    }
}

#[cfg(test)]
mod tests;

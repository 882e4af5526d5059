//! From a figure to a drawing: ranges, margins, and every shape in its place.

use super::cell::{self, Cell, Ruler, SLANT, SPINE, slanted, stretch};
use super::color::Color;
use super::scene::{Anchor, Ink, Item, Label, Point, Rect, Scene, Stroke, Trace};
use super::text::{self, CAP, LEADING, Line as TextLine, Weight};
use super::{Axis, Figure, Key, Legend, Panel, Scale, Share};

// Sizes of text and distances, in points.
const TITLE: f64 = 10.0;
const HEADER: f64 = 8.5;
/// The size of axis labels and panel titles.
pub(super) const LABEL: f64 = 8.0;
/// The size of numbers, names and notes.
pub(super) const SMALL: f64 = 7.0;
const MARGIN: f64 = 8.0;
/// The length of a labelled tick.
pub(super) const TICK: f64 = 3.0;
/// The space between the columns of panels.
const GAP: f64 = 12.0;

/// The colour of words.
pub(super) const INK: Color = Color(0x22, 0x22, 0x22);

/// The drawing of a figure.
pub(super) fn scene(figure: &Figure) -> Scene {
    let width = if figure.width.is_finite() { figure.width.clamp(72.0, 7200.0) } else { 504.0 };
    let mut items = Vec::new();
    let mut y = MARGIN;
    for line in text::wrap(&figure.title, TITLE, Weight::Bold, width - 2.0 * MARGIN) {
        items.push(label(line, (MARGIN, y + CAP * TITLE), Anchor::Start, INK));
        y += TITLE * LEADING;
    }
    if !figure.title.is_empty() {
        y += 4.0;
    }
    y = legend(&mut items, &figure.legend, width, y);
    y = Grid::new(figure, width).draw(&mut items, y);
    let notes = text::wrap(&figure.footnote, SMALL, Weight::Regular, width - 2.0 * MARGIN);
    if !notes.is_empty() {
        y += 5.0;
    }
    for line in notes {
        items.push(label(line, (MARGIN, y + CAP * SMALL), Anchor::Start, Color::GREY));
        y += SMALL * LEADING;
    }
    Scene {
        width,
        height: y + MARGIN,
        title: figure.title.clone(),
        description: figure.description.clone(),
        provenance: figure.provenance.clone(),
        items,
    }
}

/// A level line of text without a rim.
pub(super) fn label(line: TextLine, at: Point, anchor: Anchor, color: Color) -> Item {
    Item::Text(Label { line, at, anchor, turn: 0.0, color, rim: false })
}

/// Lines of text below each other, their block's top at `top`.
fn block(items: &mut Vec<Item>, lines: Vec<TextLine>, size: f64, x: f64, top: f64) {
    for (i, line) in lines.into_iter().enumerate() {
        let baseline = top + CAP * size + i as f64 * size * LEADING;
        items.push(label(line, (x, baseline), Anchor::Middle, INK));
    }
}

/// Lines of text read upwards beside each other, the first one's top at `left`, centred on `y`.
fn upright(items: &mut Vec<Item>, lines: Vec<TextLine>, size: f64, left: f64, y: f64) {
    for (i, line) in lines.into_iter().enumerate() {
        let at = (left + CAP * size + i as f64 * size * LEADING, y);
        let anchor = Anchor::Middle;
        items.push(Item::Text(Label { line, at, anchor, turn: -90.0, color: INK, rim: false }));
    }
}

/// Room that `count` lines take, with a gap after them.
fn room(count: usize, size: f64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * size * LEADING + 2.0 }
}

/// Draws the legend from `y` on, and returns where it ends.
fn legend(items: &mut Vec<Item>, groups: &[Legend], width: f64, mut y: f64) -> f64 {
    const KEY: f64 = 20.0;
    const LINE: f64 = 11.5;
    let (left, right) = (MARGIN, width - MARGIN);
    let mut x = left;
    for group in groups.iter().filter(|g| !g.entries.is_empty()) {
        let title = text::line(&group.title, SMALL + 0.5, Weight::Bold);
        let entries: Vec<(&Key, TextLine)> = group
            .entries
            .iter()
            .map(|(key, name)| (key, text::line(name, SMALL + 0.5, Weight::Regular)))
            .collect();
        let lengths = entries.iter().map(|(_, name)| KEY + 4.0 + name.width + GAP);
        let head = if title.runs.is_empty() { 0.0 } else { title.width + 8.0 };
        if x > left && x + head + lengths.sum::<f64>() - GAP > right {
            (x, y) = (left, y + LINE);
        }
        let baseline = |y: f64| y + LINE / 2.0 + CAP * SMALL / 2.0;
        items.push(label(title, (x, baseline(y)), Anchor::Start, INK));
        x += head;
        let indent = x;
        for (key, name) in entries {
            let length = KEY + 4.0 + name.width;
            if x > indent && x + length > right {
                (x, y) = (if indent < width / 2.0 { indent } else { left }, y + LINE);
            }
            swatch(items, key, x, y + LINE / 2.0, KEY);
            items.push(label(name, (x + KEY + 4.0, baseline(y)), Anchor::Start, INK));
            x += length + GAP;
        }
        x += 6.0;
    }
    if x > left { y + LINE + 5.0 } else { y }
}

fn swatch(items: &mut Vec<Item>, key: &Key, x: f64, y: f64, width: f64) {
    if let Some((color, opacity)) = key.fill {
        let points = vec![(x, y - 3.5), (x + width, y - 3.5), (x + width, y + 3.5), (x, y + 3.5)];
        let traces = vec![Trace { points, closed: true }];
        items.push(Item::Path { traces, ink: Ink { opacity, ..Ink::fill(color) } });
    }
    if let Some(stroke) = key.stroke {
        items.push(stretch((x, y), (x + width, y), stroke));
    }
    if let Some(glyph) = key.glyph {
        items.push(cell::mark((x + width / 2.0, y), &glyph));
    }
}

struct Grid<'a> {
    figure: &'a Figure,
    cells: Vec<Cell<'a>>,
    width: f64,
    rows: usize,
    columns: usize,
    /// The x label of all, if they have only one.
    x_label: Option<&'a str>,
    /// Width and height of a panel.
    panel: (f64, f64),
    /// Left and right of each column's panels.
    gutters: Vec<(f64, f64)>,
    headers: (f64, f64),
}

impl<'a> Grid<'a> {
    fn new(figure: &'a Figure, width: f64) -> Self {
        let rows = figure.panels.len();
        let columns = figure.panels.iter().map(Vec::len).max().unwrap_or(0);
        let mut x_labels: Vec<&str> =
            figure.panels.iter().flatten().map(|p| p.x.label.as_str()).collect();
        x_labels.dedup();
        let x_label = match x_labels.as_slice() {
            [one] if columns > 1 => Some(*one),
            _ => None,
        };
        // Ticks depend on a panel's size and its size on their names; a first guess is near enough.
        let guess = (width - 2.0 * MARGIN - 40.0) / columns.max(1) as f64 - 18.0;
        let guess = (guess.max(30.0), guess.max(30.0) * aspect(figure));
        let cells = cells(figure, x_label.is_some(), guess);
        let mut grid = Self {
            figure,
            cells,
            width,
            rows,
            columns,
            x_label,
            panel: guess,
            gutters: Vec::new(),
            headers: (0.0, 0.0),
        };
        grid.measure();
        grid
    }

    fn column(&self, j: usize) -> impl Iterator<Item = &Cell<'a>> {
        self.cells.iter().filter(move |c| c.column == j)
    }

    fn row(&self, i: usize) -> impl Iterator<Item = &Cell<'a>> {
        self.cells.iter().filter(move |c| c.row == i)
    }

    fn measure(&mut self) {
        self.gutters = (0..self.columns)
            .map(|j| {
                let y_lines = |c: &Cell| self.y_label(c).len();
                let labels = self.column(j).map(y_lines).max().unwrap_or(0);
                let names = self
                    .column(j)
                    .filter(|c| c.y_names && c.full)
                    .map(|c| c.y.longest_name())
                    .fold(0.0, f64::max);
                let ends = self
                    .column(j)
                    .flat_map(|c| &c.panel.lines)
                    .filter_map(|l| l.label.as_ref())
                    .map(|l| text::line(l, SMALL, Weight::Regular).width + 5.0)
                    .fold(0.0, f64::max);
                let names = if names > 0.0 { names + TICK + 2.0 } else { TICK };
                let right = if j + 1 == self.columns { MARGIN / 2.0 } else { GAP };
                (room(labels, LABEL) + names, ends + right)
            })
            .collect();
        let left = if self.figure.rows.is_empty() { 0.0 } else { HEADER * LEADING + 9.0 };
        let top = (0..self.columns).map(|j| self.column_header(j).len()).max().unwrap_or(0);
        self.headers = (left, room(top, HEADER));
        let taken: f64 = self.gutters.iter().map(|g| g.0 + g.1).sum();
        let free = self.width - 2.0 * MARGIN - left - taken;
        let width = (free / self.columns.max(1) as f64).max(20.0);
        self.panel = (width, width * aspect(self.figure));
    }

    fn column_header(&self, j: usize) -> Vec<TextLine> {
        let text = self.figure.columns.get(j).map_or("", String::as_str);
        text::wrap(text, HEADER, Weight::Bold, self.panel.0 * self.span(&self.figure.columns, j))
    }

    /// How many equal neighbours a header stands for.
    fn span(&self, headers: &[String], at: usize) -> f64 {
        headers[at.min(headers.len())..]
            .iter()
            .take_while(|h| Some(*h) == headers.get(at))
            .count()
            .max(1) as f64
    }

    fn y_label(&self, cell: &Cell) -> Vec<TextLine> {
        if !cell.y_label {
            return Vec::new();
        }
        text::wrap(&cell.panel.y.label, LABEL, Weight::Regular, self.panel.1 + 8.0)
    }

    fn x_label(&self, cell: &Cell) -> Vec<TextLine> {
        if !cell.x_label {
            return Vec::new();
        }
        text::wrap(&cell.panel.x.label, LABEL, Weight::Regular, self.panel.0 + 12.0)
    }

    fn title(&self, cell: &Cell) -> Vec<TextLine> {
        text::wrap(&cell.panel.title, LABEL, Weight::Bold, self.panel.0)
    }

    /// Draws all panels from `top` on, and returns where they end.
    fn draw(&self, items: &mut Vec<Item>, top: f64) -> f64 {
        let mut lefts = Vec::new();
        let mut x = MARGIN + self.headers.0;
        for &(left, right) in &self.gutters {
            lefts.push(x + left);
            x += left + self.panel.0 + right;
        }
        for (j, left) in lefts.iter().enumerate() {
            let header = &self.figure.columns;
            if j > 0 && header.get(j) == header.get(j - 1) {
                continue;
            }
            let last = (j + self.span(header, j) as usize - 1).min(self.columns - 1);
            let middle = (left + lefts[last] + self.panel.0) / 2.0;
            block(items, self.column_header(j), HEADER, middle, top);
        }
        let mut y = top + self.headers.1;
        let mut tops = Vec::new();
        for i in 0..self.rows {
            let titles = self.row(i).map(|c| self.title(c).len()).max().unwrap_or(0);
            // Room for the upper half of the topmost number.
            y += room(titles, LABEL).max(3.0);
            tops.push(y);
            let below = self.row(i).map(|c| self.below(c)).fold(0.0, f64::max);
            for cell in self.row(i) {
                let frame = Rect {
                    left: lefts[cell.column],
                    top: y,
                    width: self.panel.0,
                    height: self.panel.1,
                };
                let titles = self.title(cell);
                let over = room(titles.len(), LABEL);
                block(items, titles, LABEL, frame.center().0, y - over);
                self.labels(items, cell, frame);
                cell::draw(items, cell, frame);
            }
            y += self.panel.1 + below;
            if i + 1 < self.rows {
                y += if below > TICK { 6.0 } else { 8.0 };
                if self.figure.rows.get(i) != self.figure.rows.get(i + 1) {
                    y += 6.0;
                }
            }
        }
        self.row_headers(items, &tops);
        if let (Some(text), Some(first), Some(last)) = (self.x_label, lefts.first(), lefts.last()) {
            let (middle, width) =
                ((first + last + self.panel.0) / 2.0, last + self.panel.0 - first);
            let lines = text::wrap(text, LABEL, Weight::Regular, width);
            let height = room(lines.len(), LABEL);
            block(items, lines, LABEL, middle, y + 3.0);
            y += height + 1.0;
        }
        y
    }

    /// Room below a panel for ticks, their names and its label.
    fn below(&self, cell: &Cell) -> f64 {
        let names = if !cell.x_names || !cell.full {
            TICK
        } else if slanted(cell, self.panel.0) {
            TICK + 3.0 + SMALL + cell.x.longest_name() * SLANT.to_radians().sin()
        } else {
            TICK + 3.0 + SMALL
        };
        let labels = self.x_label(cell).len();
        names + if labels > 0 { room(labels, LABEL) + 1.0 } else { 0.0 }
    }

    fn labels(&self, items: &mut Vec<Item>, cell: &Cell, frame: Rect) {
        let lines = self.x_label(cell);
        let height = room(lines.len(), LABEL);
        let bottom = frame.bottom() + self.below(cell);
        block(items, lines, LABEL, frame.center().0, bottom - height + 2.0);
        let lines = self.y_label(cell);
        let left = frame.left - self.gutters[cell.column].0;
        upright(items, lines, LABEL, left, frame.center().1);
    }

    /// Headers at the left, a thin line along the rows each stands for.
    fn row_headers(&self, items: &mut Vec<Item>, tops: &[f64]) {
        let headers = &self.figure.rows;
        for (i, top) in tops.iter().enumerate() {
            let Some(text) = headers.get(i).filter(|h| !h.is_empty()) else { continue };
            if i > 0 && headers.get(i - 1) == Some(text) {
                continue;
            }
            let last = (i + self.span(headers, i) as usize - 1).min(self.rows - 1);
            let bottom = tops[last] + self.panel.1;
            let line = text::line(text, HEADER, Weight::Bold);
            upright(items, vec![line], HEADER, MARGIN, (top + bottom) / 2.0);
            let x = MARGIN + HEADER * LEADING + 2.0;
            items.push(stretch((x, *top), (x, bottom), Stroke::new(SPINE, 0.6)));
        }
    }
}

fn aspect(figure: &Figure) -> f64 {
    if figure.aspect.is_finite() { figure.aspect.clamp(0.1, 10.0) } else { 0.72 }
}

/// Works out ranges and who shows which labels.
fn cells<'a>(figure: &'a Figure, one_x_label: bool, size: (f64, f64)) -> Vec<Cell<'a>> {
    let places: Vec<(usize, usize, &Panel)> = figure
        .panels
        .iter()
        .enumerate()
        .flat_map(|(i, row)| row.iter().enumerate().map(move |(j, panel)| (i, j, panel)))
        .collect();
    let extents: Vec<[Option<(f64, f64)>; 2]> =
        places.iter().map(|(_, _, panel)| cell::extent(panel)).collect();
    let range = |at: usize, dimension: usize, share: Share| {
        let (row, column, _) = places[at];
        let own = extents[at][dimension];
        let mut union: Option<(f64, f64)> = own;
        for (k, &(i, j, _)) in places.iter().enumerate() {
            let together = match share {
                Share::Panel => false,
                Share::Row => i == row,
                Share::Column => j == column,
                Share::Figure => true,
            };
            if let (true, Some((low, high))) = (together, extents[k][dimension]) {
                union = Some(union.map_or((low, high), |(a, b)| (a.min(low), b.max(high))));
            }
        }
        union
    };
    let fallback = |axis: &Axis| match axis.scale {
        Scale::Log => (1.0, 10.0),
        _ => (0.0, 1.0),
    };
    places
        .iter()
        .enumerate()
        .map(|(at, &(row, column, panel))| {
            let [x_range, y_range] = [range(at, 0, figure.share_x), range(at, 1, figure.share_y)];
            let below = |deeper: &Panel| deeper.x.label == panel.x.label;
            let lower = figure.panels.get(row + 1).and_then(|r| r.get(column));
            let sides = figure.panels.get(row).map_or(&[][..], |r| r.as_slice());
            let full = extents[at].iter().all(Option::is_some);
            Cell {
                panel,
                row,
                column,
                full,
                x: Ruler::new(&panel.x, x_range.unwrap_or(fallback(&panel.x)), size.0, false),
                y: Ruler::new(&panel.y, y_range.unwrap_or(fallback(&panel.y)), size.1, true),
                x_names: lower.is_none()
                    || !matches!(figure.share_x, Share::Column | Share::Figure),
                y_names: column == 0 || !matches!(figure.share_y, Share::Row | Share::Figure),
                x_label: !one_x_label && !lower.is_some_and(below),
                y_label: column == 0 || sides.iter().any(|p| p.y.label != panel.y.label),
            }
        })
        .collect()
}

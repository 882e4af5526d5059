//! One panel: its ranges, and its shapes in its frame.

use super::axis::{self, Ticks};
use super::color::{Color, Shape};
use super::layout::{INK, LABEL, SMALL, TICK, label};
use super::scene::{Anchor, Ink, Item, Label, Point, Rect, Stroke, Trace};
use super::text::{self, CAP, LEADING, Line as TextLine, Weight};
use super::{
    Axis, Band, Corner, Direction, Glyph, Interval, Line, Mark, Panel, Place, Rule, Scale,
};

/// The colour of axes.
pub(super) const SPINE: Color = Color(0x44, 0x44, 0x44);
const GRID: Color = Color(0xE9, 0xE9, 0xE9);

/// An axis with its range and ticks.
#[derive(Clone, Debug)]
pub(super) struct Ruler {
    axis: Axis,
    low: f64,
    high: f64,
    ticks: Ticks,
    names: Vec<TextLine>,
}

impl Ruler {
    /// Chooses ticks for an axis about `length` points long.
    pub fn new(axis: &Axis, (low, high): (f64, f64), length: f64, upright: bool) -> Self {
        let mut ruler =
            Self { axis: axis.clone(), low, high, ticks: Ticks::default(), names: Vec::new() };
        if let Some(given) = &axis.ticks {
            let shown: Vec<_> = given.iter().filter(|(v, _)| ruler.inside(*v)).collect();
            ruler.ticks.major = shown.iter().map(|t| t.0).collect();
            ruler.names = shown.iter().map(|t| text::line(&t.1, SMALL, Weight::Regular)).collect();
            return ruler;
        }
        let mut want = (length / if upright { 19.0 } else { 26.0 }) as usize;
        loop {
            ruler.ticks = axis::ticks(axis.scale, low, high, want);
            ruler.names = axis::labels(axis, &ruler.ticks.major)
                .iter()
                .map(|name| text::line(name, SMALL, Weight::Regular))
                .collect();
            if upright || want <= 3 || !ruler.crowded(length) {
                return ruler;
            }
            want -= 1;
        }
    }

    /// Whether neighbouring names would touch on an axis of this length.
    fn crowded(&self, length: f64) -> bool {
        let places: Vec<f64> =
            self.ticks.major.iter().map(|&v| self.share(v).unwrap_or(0.0) * length).collect();
        (1..places.len()).any(|i| {
            (places[i] - places[i - 1]).abs()
                < (self.names[i].width + self.names[i - 1].width) / 2.0 + 3.0
        })
    }

    /// Where a value lies between the ends, 0 to 1 within; `None` where the scale cannot show it.
    fn share(&self, v: f64) -> Option<f64> {
        let scale = self.axis.scale;
        let (a, b) = (scale.forward(self.low)?, scale.forward(self.high)?);
        Some((scale.forward(v)? - a) / (b - a))
    }

    fn inside(&self, v: f64) -> bool {
        self.share(v).is_some_and(|s| (-1e-9..=1.0 + 1e-9).contains(&s))
    }

    pub fn longest_name(&self) -> f64 {
        self.names.iter().map(|n| n.width).fold(0.0, f64::max)
    }
}

/// A panel that knows its rulers.
pub(super) struct Cell<'a> {
    pub panel: &'a Panel,
    pub row: usize,
    pub column: usize,
    /// Whether there is anything to show.
    pub full: bool,
    pub x: Ruler,
    pub y: Ruler,
    /// Whether it shows the numbers of its axes.
    pub x_names: bool,
    pub y_names: bool,
    /// Whether it shows its own labels.
    pub x_label: bool,
    pub y_label: bool,
}

/// Degrees by which crowded names are turned.
pub(super) const SLANT: f64 = 35.0;

/// Whether the names at the x axis must be turned: only given ones, since chosen ones are thinned.
pub(super) fn slanted(cell: &Cell, width: f64) -> bool {
    cell.panel.x.ticks.is_some() && cell.x.crowded(width)
}

/// A straight line.
pub(super) fn stretch(from: Point, to: Point, stroke: Stroke) -> Item {
    let traces = vec![Trace { points: vec![from, to], closed: false }];
    Item::Path { traces, ink: Ink::stroke(stroke) }
}

/// A mark in its place.
pub(super) fn mark((x, y): Point, glyph: &Glyph) -> Item {
    let r = glyph.radius;
    let open = |points: &[Point]| Trace {
        points: points.iter().map(|(a, b)| (x + a * r, y + b * r)).collect(),
        closed: false,
    };
    let solid = |points: &[Point]| Trace { closed: true, ..open(points) };
    let ink = if glyph.filled {
        let stroke = glyph.rim.then(|| Stroke::new(Color::WHITE, 0.5));
        Ink { stroke, ..Ink::fill(glyph.color) }
    } else {
        Ink { stroke: Some(Stroke::new(glyph.color, 1.1)), ..Ink::fill(Color::WHITE) }
    };
    let lines = Ink::stroke(Stroke::new(glyph.color, 1.4));
    // Radii are chosen for equal areas.
    let (traces, ink) = match glyph.shape {
        Shape::Circle => return Item::Circle { center: (x, y), radius: r, ink },
        Shape::Square => {
            (vec![solid(&[(-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)])], ink)
        }
        Shape::Triangle => (vec![solid(&[(0.0, -1.55), (1.35, 0.78), (-1.35, 0.78)])], ink),
        Shape::Diamond => {
            (vec![solid(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)])], ink)
        }
        Shape::Cross => (
            vec![open(&[(-0.95, -0.95), (0.95, 0.95)]), open(&[(-0.95, 0.95), (0.95, -0.95)])],
            lines,
        ),
        Shape::Plus => {
            (vec![open(&[(-1.2, 0.0), (1.2, 0.0)]), open(&[(0.0, -1.2), (0.0, 1.2)])], lines)
        }
    };
    Item::Path { traces, ink }
}

/// The ranges of x and y that a panel asks for.
pub(super) fn extent(panel: &Panel) -> [Option<(f64, f64)>; 2] {
    let mut points: Vec<(f64, f64)> = Vec::new();
    points.extend(panel.lines.iter().flat_map(|l| &l.points));
    points
        .extend(panel.bands.iter().flat_map(|b| &b.points).flat_map(|&(x, l, h)| [(x, l), (x, h)]));
    points.extend(panel.marks.iter().map(|m| m.at));
    points.extend(panel.intervals.iter().flat_map(|i| match i.direction {
        Direction::Vertical => [(i.at, i.low), (i.at, i.high)],
        Direction::Horizontal => [(i.low, i.at), (i.high, i.at)],
    }));
    points.extend(panel.bars.iter().flat_map(|b| {
        let half = b.width / 2.0;
        [(b.x - half, b.y), (b.x + half, 0.0)]
    }));
    let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
    let shown =
        |axis: &Axis, values: &[f64]| values.iter().any(|&v| axis.scale.forward(v).is_some());
    if !shown(&panel.x, &xs) || !shown(&panel.y, &ys) {
        return [None, None];
    }
    for rule in &panel.rules {
        match rule.place {
            Place::Horizontal(y) => ys.push(y),
            Place::Vertical(x) => xs.push(x),
            Place::Identity => {}
        }
    }
    if panel.equal {
        xs.extend_from_slice(&ys);
        ys.clone_from(&xs);
    }
    let grounded = !panel.bars.is_empty();
    [panel.x.range(xs, false), panel.y.range(ys, grounded)]
}

/// Places of values in a frame.
struct Map<'a> {
    cell: &'a Cell<'a>,
    frame: Rect,
}

impl Map<'_> {
    /// Far beyond any frame, and still near enough for single precision and for dashes to be drawn.
    const FAR: f64 = 1e4;

    fn x(&self, v: f64) -> Option<f64> {
        let x = self.frame.left + self.cell.x.share(v)? * self.frame.width;
        Some(x.clamp(-Self::FAR, Self::FAR))
    }

    fn y(&self, v: f64) -> Option<f64> {
        let y = self.frame.bottom() - self.cell.y.share(v)? * self.frame.height;
        Some(y.clamp(-Self::FAR, Self::FAR))
    }

    fn at(&self, (x, y): (f64, f64)) -> Option<Point> {
        Some((self.x(x)?, self.y(y)?))
    }
}

/// Draws a panel in its frame, with the numbers around it.
pub(super) fn draw(items: &mut Vec<Item>, cell: &Cell, frame: Rect) {
    let map = Map { cell, frame };
    let (bottom, right) = (frame.bottom(), frame.right());
    if !cell.full {
        let said = cell.panel.notes.first().map_or("no data", |note| &note.text);
        let line = text::line(said, LABEL, Weight::Regular);
        let (x, y) = frame.center();
        items.push(label(line, (x, y + CAP * LABEL / 2.0), Anchor::Middle, Color::GREY));
        axes(items, frame);
        return;
    }
    let grid = Stroke::new(GRID, 0.6);
    let x_ticks: Vec<f64> = cell.x.ticks.major.iter().filter_map(|&v| map.x(v)).collect();
    let y_ticks: Vec<f64> = cell.y.ticks.major.iter().filter_map(|&v| map.y(v)).collect();
    if cell.panel.bars.is_empty() {
        items.extend(x_ticks.iter().map(|&x| stretch((x, frame.top), (x, bottom), grid)));
    }
    items.extend(y_ticks.iter().map(|&y| stretch((frame.left, y), (right, y), grid)));

    let mut inner = Vec::new();
    inner.extend(cell.panel.bands.iter().flat_map(|band| draw_band(band, &map)));
    bars(&mut inner, &map);
    for rule in &cell.panel.rules {
        inner.extend(draw_rule(rule, &map));
    }
    inner.extend(cell.panel.lines.iter().flat_map(|line| draw_line(line, &map)));
    inner.extend(cell.panel.intervals.iter().flat_map(|i| draw_interval(i, &map)));
    items.push(Item::Clip { to: frame, items: inner });

    axes(items, frame);
    let spine = Stroke::new(SPINE, 0.6);
    let short = TICK * 0.55;
    items.extend(x_ticks.iter().map(|&x| stretch((x, bottom), (x, bottom + TICK), spine)));
    items.extend(y_ticks.iter().map(|&y| stretch((frame.left - TICK, y), (frame.left, y), spine)));
    let minor = |ticks: &Ticks| ticks.minor.clone();
    items.extend(
        minor(&cell.x.ticks)
            .into_iter()
            .filter_map(|v| map.x(v))
            .map(|x| stretch((x, bottom), (x, bottom + short), Stroke::new(SPINE, 0.4))),
    );
    items.extend(
        minor(&cell.y.ticks)
            .into_iter()
            .filter_map(|v| map.y(v))
            .map(|y| stretch((frame.left - short, y), (frame.left, y), Stroke::new(SPINE, 0.4))),
    );
    if cell.x_names {
        let slanted = slanted(cell, frame.width);
        for (&x, name) in x_ticks.iter().zip(&cell.x.names) {
            let at = (x, bottom + TICK + 2.0 + CAP * SMALL);
            let line = name.clone();
            items.push(if slanted {
                let anchor = Anchor::End;
                Item::Text(Label {
                    line,
                    at: (x + 2.0, at.1),
                    anchor,
                    turn: -SLANT,
                    color: INK,
                    rim: false,
                })
            } else {
                label(line, at, Anchor::Middle, INK)
            });
        }
    }
    if cell.y_names {
        for (&y, name) in y_ticks.iter().zip(&cell.y.names) {
            let at = (frame.left - TICK - 2.0, y + CAP * SMALL / 2.0);
            items.push(label(name.clone(), at, Anchor::End, INK));
        }
    }
    for rule in &cell.panel.rules {
        items.extend(rule_name(rule, &map));
    }
    items.extend(cell.panel.marks.iter().flat_map(|m| draw_mark(m, &map)));
    end_names(items, &map);
    notes(items, cell.panel, frame);
}

fn axes(items: &mut Vec<Item>, frame: Rect) {
    let points = vec![
        (frame.left, frame.top),
        (frame.left, frame.bottom()),
        (frame.right(), frame.bottom()),
    ];
    let traces = vec![Trace { points, closed: false }];
    items.push(Item::Path { traces, ink: Ink::stroke(Stroke::new(SPINE, 0.7)) });
}

/// Cuts a sequence where values are missing.
fn stretches<T>(points: impl Iterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    for point in points {
        match (point, parts.last_mut()) {
            (Some(point), Some(part)) => part.push(point),
            _ => parts.push(Vec::new()),
        }
    }
    parts.retain(|p| !p.is_empty());
    parts
}

fn draw_line(line: &Line, map: &Map) -> Vec<Item> {
    let parts = stretches(line.points.iter().map(|&p| map.at(p)));
    let mut items = Vec::new();
    let mut traces = Vec::new();
    for points in parts {
        match points.as_slice() {
            [center] => items.push(Item::Circle {
                center: *center,
                radius: line.stroke.width.max(0.8),
                ink: Ink::fill(line.stroke.color),
            }),
            _ => traces.push(Trace { points, closed: false }),
        }
    }
    items.push(Item::Path { traces, ink: Ink::stroke(line.stroke) });
    items
}

fn draw_band(band: &Band, map: &Map) -> Vec<Item> {
    let corners = |&(x, low, high): &(f64, f64, f64)| Some((map.at((x, low))?, map.at((x, high))?));
    let opacity = if band.opacity.is_finite() { band.opacity.clamp(0.0, 1.0) } else { 1.0 };
    let ink = Ink { opacity, ..Ink::fill(band.color) };
    stretches(band.points.iter().map(corners))
        .into_iter()
        .filter(|part| part.len() > 1)
        .map(|part| {
            let back = part.iter().rev().map(|p| p.1);
            let points = part.iter().map(|p| p.0).chain(back).collect();
            Item::Path { traces: vec![Trace { points, closed: true }], ink }
        })
        .collect()
}

fn bars(items: &mut Vec<Item>, map: &Map) {
    let (top, bottom) = (map.frame.top, map.frame.bottom());
    let ground = map.y(0.0).map_or(bottom, |y| y.clamp(top, bottom));
    for bar in &map.cell.panel.bars {
        let half = bar.width / 2.0;
        let sides = (map.x(bar.x - half), map.x(bar.x + half), map.y(bar.y));
        let (Some(left), Some(right), Some(y)) = sides else { continue };
        let points = vec![(left, ground), (left, y), (right, y), (right, ground)];
        items.push(Item::Path {
            traces: vec![Trace { points, closed: true }],
            ink: Ink { stroke: Some(Stroke::new(Color::WHITE, 0.5)), ..Ink::fill(bar.color) },
        });
    }
    if !map.cell.panel.bars.is_empty() && ground > top && ground < bottom {
        let (left, right) = (map.frame.left, map.frame.right());
        items.push(stretch((left, ground), (right, ground), Stroke::new(SPINE, 0.6)));
    }
}

fn draw_rule(rule: &Rule, map: &Map) -> Option<Item> {
    let frame = map.frame;
    Some(match rule.place {
        Place::Horizontal(y) => {
            let y = map.y(y)?;
            stretch((frame.left, y), (frame.right(), y), rule.stroke)
        }
        Place::Vertical(x) => {
            let x = map.x(x)?;
            stretch((x, frame.bottom()), (x, frame.top), rule.stroke)
        }
        Place::Identity => {
            // Axes of unlike scales bend it, so it is drawn in short pieces.
            const PIECES: usize = 128;
            let scale = map.cell.x.axis.scale;
            let (a, b) = (scale.forward(map.cell.x.low)?, scale.forward(map.cell.x.high)?);
            let value = |i: usize| scale.inverse(a + (b - a) * i as f64 / PIECES as f64);
            let points = (0..=PIECES).filter_map(|i| map.at((value(i), value(i)))).collect();
            let traces = vec![Trace { points, closed: false }];
            Item::Path { traces, ink: Ink::stroke(rule.stroke) }
        }
    })
}

/// A rule's name at its far end, on the side where there is room.
fn rule_name(rule: &Rule, map: &Map) -> Option<Item> {
    if rule.label.is_empty() {
        return None;
    }
    let line = text::line(&rule.label, SMALL, Weight::Regular);
    let (frame, color) = (map.frame, rule.stroke.color);
    let named = |at, anchor, turn| {
        Some(Item::Text(Label { line: line.clone(), at, anchor, turn, color, rim: true }))
    };
    let near = SMALL + 4.0;
    match rule.place {
        Place::Horizontal(v) if map.cell.y.inside(v) => {
            let y = map.y(v)?;
            let low = y - frame.top < near;
            let baseline = if low { y + 3.5 + CAP * SMALL } else { y - 3.5 };
            named((frame.right() - 2.0, baseline), Anchor::End, 0.0)
        }
        Place::Vertical(v) if map.cell.x.inside(v) => {
            let x = map.x(v)?;
            let before = frame.right() - x < near;
            let baseline = if before { x - 3.0 } else { x + 3.0 + CAP * SMALL };
            named((baseline, frame.top + 2.0), Anchor::End, -90.0)
        }
        Place::Identity => {
            // Left of where the line leaves the frame: points gather on the line.
            let low = map.cell.x.low.max(map.cell.y.low);
            let high = map.cell.x.high.min(map.cell.y.high);
            let (x, y) = map.at((high, high)).filter(|_| low < high)?;
            named((x - 2.0 * SMALL, y + CAP * SMALL), Anchor::End, 0.0)
        }
        _ => None,
    }
}

fn draw_interval(interval: &Interval, map: &Map) -> Vec<Item> {
    const CAP_LENGTH: f64 = 2.2;
    // An infinite end lies beyond the frame, where it is clipped.
    let end = |v: f64, place: &dyn Fn(f64) -> Option<f64>, ruler: &Ruler| {
        if v == f64::NEG_INFINITY || (v <= 0.0 && ruler.axis.scale == Scale::Log) {
            place(ruler.low)
        } else if v == f64::INFINITY {
            place(ruler.high)
        } else {
            place(v)
        }
    };
    let (x, y) = (|v| map.x(v), |v| map.y(v));
    let caps = |from: Point, to: Point, across: Point| {
        let cap = |(a, b): Point| {
            stretch((a - across.0, b - across.1), (a + across.0, b + across.1), interval.stroke)
        };
        vec![stretch(from, to, interval.stroke), cap(from), cap(to)]
    };
    match interval.direction {
        Direction::Vertical => {
            let ruler = &map.cell.y;
            let ends = (end(interval.low, &y, ruler), end(interval.high, &y, ruler));
            let (Some(x), (Some(low), Some(high))) = (x(interval.at), ends) else { return vec![] };
            caps((x, low), (x, high), (CAP_LENGTH, 0.0))
        }
        Direction::Horizontal => {
            let ruler = &map.cell.x;
            let ends = (end(interval.low, &x, ruler), end(interval.high, &x, ruler));
            let (Some(y), (Some(low), Some(high))) = (y(interval.at), ends) else { return vec![] };
            caps((low, y), (high, y), (0.0, CAP_LENGTH))
        }
    }
}

/// A mark; one out of range stands at the edge, with an arrow that points to where it belongs.
fn draw_mark(mark_: &Mark, map: &Map) -> Vec<Item> {
    let pinned = |v: f64, ruler: &Ruler, place: &dyn Fn(f64) -> Option<f64>| {
        let (v, way) = match v {
            v if v.is_nan() => return None,
            v if ruler.inside(v) => (v, 0.0),
            v if v > ruler.high => (ruler.high, 1.0),
            _ => (ruler.low, -1.0),
        };
        Some((place(v)?, way))
    };
    let x = pinned(mark_.at.0, &map.cell.x, &|v| map.x(v));
    let y = pinned(mark_.at.1, &map.cell.y, &|v| map.y(v));
    let (Some((x, right)), Some((y, up))) = (x, y) else { return Vec::new() };
    let inset = if (right, up) == (0.0, 0.0) { 0.0 } else { mark_.glyph.radius + 3.5 };
    let at = (x - right * inset, y + up * inset);
    let mut items = Vec::new();
    if inset > 0.0 {
        let tip = (x, y);
        let wing = 2.0;
        let base = (x - right * 2.6, y + up * 2.6);
        let points = vec![
            tip,
            (base.0 + up.abs() * wing, base.1 + right.abs() * wing),
            (base.0 - up.abs() * wing, base.1 - right.abs() * wing),
        ];
        let traces = vec![Trace { points, closed: true }];
        items.push(Item::Path { traces, ink: Ink::fill(mark_.glyph.color) });
    }
    items.push(mark(at, &mark_.glyph));
    items
}

/// Names of lines at their right ends, moved apart where they would overlap.
fn end_names(items: &mut Vec<Item>, map: &Map) {
    const APART: f64 = SMALL * 1.15;
    let frame = map.frame;
    let mut names: Vec<(f64, &str, Color)> = Vec::new();
    for line in &map.cell.panel.lines {
        let Some(name) = &line.label else { continue };
        let end = line.points.iter().rev().find_map(|&p| map.at(p));
        if let Some((_, y)) = end {
            names.push((y.clamp(frame.top, frame.bottom()), name, line.stroke.color));
        }
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Down past each other, then up again from the bottom edge.
    for i in 1..names.len() {
        names[i].0 = names[i].0.max(names[i - 1].0 + APART);
    }
    let mut limit = frame.bottom();
    for name in names.iter_mut().rev() {
        name.0 = name.0.min(limit);
        limit = name.0 - APART;
    }
    for (y, name, color) in names {
        let line = text::line(name, SMALL, Weight::Regular);
        let at = (frame.right() + 4.0, y + CAP * SMALL / 2.0);
        items.push(label(line, at, Anchor::Start, color));
    }
}

fn notes(items: &mut Vec<Item>, panel: &Panel, frame: Rect) {
    for note in &panel.notes {
        let lines = text::wrap(&note.text, SMALL, Weight::Regular, frame.width - 8.0);
        let (x, anchor) = match note.corner {
            Corner::TopLeft | Corner::BottomLeft => (frame.left + 4.0, Anchor::Start),
            Corner::TopRight | Corner::BottomRight => (frame.right() - 4.0, Anchor::End),
        };
        let top = match note.corner {
            Corner::TopLeft | Corner::TopRight => frame.top + 3.0,
            _ => frame.bottom() - 4.0 - SMALL * (LEADING * (lines.len() as f64 - 1.0) + CAP),
        };
        for (i, line) in lines.into_iter().enumerate() {
            let at = (x, top + SMALL * (CAP + LEADING * i as f64));
            items.push(Item::Text(Label { line, at, anchor, turn: 0.0, color: INK, rim: true }));
        }
    }
}

use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;

fn panel(points: Vec<(f64, f64)>) -> Panel {
    let mut panel = Panel::new(Axis::linear("step"), Axis::linear("loss"));
    panel.lines.push(Line::new(points, Stroke::new(Color(1, 2, 3), 1.0)));
    panel
}

fn figure(panels: Vec<Vec<Panel>>) -> Figure {
    Figure::new("A figure", panels)
}

/// The words of a drawing, a run each.
fn words(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let is_text = |n: &Node| n.has_tag_name("text") || n.has_tag_name("tspan");
    document.descendants().filter(is_text).filter_map(|n| n.text()).map(Into::into).collect()
}

/// The path data of everything stroked in the given colour.
fn strokes(svg: &str, color: Color) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let hex = color.hex();
    document
        .descendants()
        .filter(|n| n.attribute("stroke") == Some(&hex))
        .filter_map(|n| n.attribute("d"))
        .map(Into::into)
        .collect()
}

/// The corners of the first panel's frame: left, top, right, bottom.
fn frame(svg: &str) -> [f64; 4] {
    let document = Document::parse(svg).unwrap();
    let rect = document
        .descendants()
        .find(|n| n.has_tag_name("clipPath"))
        .and_then(|n| n.first_element_child())
        .unwrap();
    let [x, y, w, h] =
        ["x", "y", "width", "height"].map(|a| rect.attribute(a).unwrap().parse::<f64>().unwrap());
    [x, y, x + w, y + h]
}

/// One of everything.
fn rich() -> Figure {
    let mut first = panel(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, 2.0)]);
    first.lines[0].label = Some("named".into());
    first.title = "Title".into();
    first.bands.push(Band {
        points: vec![(0.0, 0.5, 1.5), (3.0, 1.0, 2.5)],
        color: Color::categorical(0),
        opacity: 0.2,
    });
    first.rules.push(Rule::new(Place::Horizontal(2.0), "L_{pt}^{0}"));
    first.rules.push(Rule::new(Place::Vertical(1.0), "here"));
    first.rules.push(Rule::new(Place::Identity, "y = x"));
    for i in 0..6 {
        let glyph = Glyph::new(Shape::nth(i), Color::categorical(i));
        first.marks.push(Mark::new((i as f64 / 2.0, 1.0), glyph));
        first.marks.push(Mark::new((i as f64 / 2.0, 2.0), glyph.hollow()));
    }
    first.notes.push(Note { text: "n = 6\nmore".into(), corner: Corner::BottomRight });
    let mut second = Panel::new(Axis::categories("kind", ["a", "b"]), Axis::linear("share"));
    for i in 0..2 {
        let (x, y) = (f64::from(i), 1.0 - 2.0 * f64::from(i));
        second.bars.push(Bar { x, y, width: 0.6, color: Color::categorical(1) });
        second.intervals.push(Interval {
            at: x,
            low: y - 0.1,
            high: y + 0.1,
            direction: Direction::Vertical,
            stroke: Stroke::default(),
        });
    }
    let mut rich = figure(vec![vec![first, second], vec![Panel::default()]]);
    rich.columns = vec!["left".into(), "right".into()];
    rich.rows = vec!["above".into(), "below".into()];
    rich.legend = vec![Legend {
        title: "Keys".into(),
        entries: vec![
            (Stroke::default().dashed(Dash::Dotted).into(), "line".into()),
            (Glyph::dot(Color::BLACK).into(), "dot".into()),
            (Key { fill: Some((Color::GREY, 0.3)), ..Key::default() }, "area".into()),
        ],
    }];
    rich.footnote = "A note.".into();
    rich.description = "What is seen".into();
    rich.provenance = "{\"seed\":7}".into();
    rich
}

#[test]
fn equal_figures_give_equal_bytes() {
    let (one, two) = (rich(), rich());
    assert_eq!(one.svg(), two.svg());
    assert_eq!(one.png(60.0).unwrap(), two.png(60.0).unwrap());
    let mut other = rich();
    other.panels[0][0].lines[0].points[0].1 = 1.3;
    assert_ne!(one.svg(), other.svg());
    assert_ne!(one.png(60.0).unwrap(), other.png(60.0).unwrap());
}

#[test]
fn everything_asked_for_is_drawn() {
    let svg = rich().svg();
    let words = words(&svg);
    for word in [
        "A figure", "Title", "named", "pt", "here", "y = x", "n = 6", "more", "kind", "a", "b",
        "share", "left", "right", "above", "below", "Keys", "line", "dot", "area", "A note.",
        "no data", "step", "loss",
    ] {
        assert!(words.iter().any(|w| w == word), "{word} is missing from {words:?}");
    }
    let document = Document::parse(&svg).unwrap();
    let child = |tag| {
        document.root_element().children().find(|n| n.has_tag_name(tag)).and_then(|n| n.text())
    };
    assert_eq!(child("title"), Some("A figure"));
    assert_eq!(child("desc"), Some("What is seen"));
    assert_eq!(child("metadata"), Some("{\"seed\":7}"));
    assert_eq!(document.root_element().attribute("role"), Some("img"));
}

#[test]
fn an_empty_panel_says_why() {
    let mut figure = rich();
    let why = Note { text: "not measured".into(), corner: Corner::TopLeft };
    figure.panels = vec![vec![Panel { notes: vec![why], ..Panel::default() }]];
    let words = words(&figure.svg());
    assert!(words.iter().any(|word| word == "not measured"), "{words:?}");
    assert!(!words.iter().any(|word| word == "no data"), "{words:?}");
}

#[test]
fn missing_values_leave_gaps_and_lone_points_are_dots() {
    let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
    let svg = figure(vec![vec![panel(points)]]).svg();
    let paths = strokes(&svg, Color(1, 2, 3));
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].matches('M').count(), 2);
    assert_eq!(paths[0].matches('L').count(), 2);

    let points = vec![(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0)];
    let svg = figure(vec![vec![panel(points)]]).svg();
    assert!(strokes(&svg, Color(1, 2, 3)).is_empty());
    assert_eq!(svg.matches("<circle").count(), 3);
}

#[test]
fn values_lie_where_the_axes_say() {
    let mut one = panel(vec![(0.0, 0.0), (5.0, 2.5), (10.0, 10.0)]);
    one.x = one.x.limited(Some(0.0), Some(10.0));
    one.y = one.y.limited(Some(0.0), Some(10.0));
    let svg = figure(vec![vec![one]]).svg();
    let [left, top, right, bottom] = frame(&svg);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 0.02, "{a} and {b}");
    let path = &strokes(&svg, Color(1, 2, 3))[0];
    let numbers: Vec<f64> =
        path.split(['M', 'L', ' ']).filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    let expected = [left, bottom, (left + right) / 2.0, bottom - 0.25 * (bottom - top), right, top];
    numbers.iter().zip(expected).for_each(|(a, b)| close(*a, b));
    // The lowest number stands beside the corner.
    let document = Document::parse(&svg).unwrap();
    let zero = document.descendants().find(|n| n.text() == Some("0") && n.has_tag_name("text"));
    let y: f64 = zero.unwrap().attribute("y").unwrap().parse().unwrap();
    assert!(y > bottom);
}

#[test]
fn shared_ranges_are_numbered_once() {
    let low = || panel(vec![(0.0, 0.0), (10.0, 1.0)]);
    let high = || panel(vec![(0.0, 0.0), (1000.0, 40.0)]);
    let mut grid = figure(vec![vec![low(), high()], vec![low(), high()]]);
    let count = |f: &Figure, word: &str| words(&f.svg()).iter().filter(|w| *w == word).count();
    assert_eq!(count(&grid, "0.0"), 2, "each small panel has its own numbers");
    grid.share_y = Share::Row;
    grid.share_x = Share::Column;
    assert_eq!(count(&grid, "0.0"), 0);
    assert_eq!(count(&grid, "40"), 2);
    assert_eq!(count(&grid, "10"), 3, "twice on y and once on x");
    grid.share_x = Share::Figure;
    grid.share_y = Share::Figure;
    assert_eq!(count(&grid, "1000"), 2);
    assert_eq!(count(&grid, "40"), 2);
    assert_eq!(count(&grid, "step"), 1, "one label for all");
    assert_eq!(count(&grid, "loss"), 2, "one label a row");
}

#[test]
fn equal_headers_are_merged() {
    let mut grid = figure(vec![vec![panel(vec![(0.0, 0.0), (1.0, 1.0)])]; 3]);
    grid.rows = vec!["small".into(), "small".into(), "large".into()];
    let words = words(&grid.svg());
    assert_eq!(words.iter().filter(|w| *w == "small").count(), 1);
    assert_eq!(words.iter().filter(|w| *w == "large").count(), 1);
}

#[test]
fn marks_out_of_range_stand_at_the_edge_beside_an_arrow() {
    let color = Color(9, 8, 7);
    let with = |at| {
        let mut one = panel(vec![(0.0, 0.0), (1.0, 1.0)]);
        one.y = one.y.limited(None, Some(2.0));
        one.marks.push(Mark::new(at, Glyph::dot(color)));
        figure(vec![vec![one]]).svg()
    };
    let inked = |svg: &str| svg.matches(&format!("fill=\"{}\"", color.hex())).count();
    assert_eq!(inked(&with((0.5, 1.0))), 1);
    assert_eq!(inked(&with((0.5, f64::INFINITY))), 2);
    assert_eq!(inked(&with((0.5, f64::NAN))), 0);
    let svg = with((0.5, 3.0));
    assert_eq!(inked(&svg), 2);
    let [_, top, _, bottom] = frame(&svg);
    let document = Document::parse(&svg).unwrap();
    let dot = document.descendants().find(|n| n.has_tag_name("circle")).unwrap();
    let y: f64 = dot.attribute("cy").unwrap().parse().unwrap();
    assert!(y > top && y < top + 0.2 * (bottom - top));
}

#[test]
fn bars_stand_on_zero() {
    let mut one = Panel::new(Axis::categories("", ["a"]), Axis::linear("y"));
    one.bars.push(Bar { x: 0.0, y: 5.0, width: 0.5, color: Color(7, 7, 7) });
    let svg = figure(vec![vec![one]]).svg();
    let [_, top, _, bottom] = frame(&svg);
    let document = Document::parse(&svg).unwrap();
    let bar = document.descendants().find(|n| n.attribute("fill") == Some("#070707")).unwrap();
    let path = bar.attribute("d").unwrap();
    assert!(path.contains(&format!(" {}", scene::snap(bottom))), "{path} does not reach {bottom}");
    let expected = scene::snap(bottom - (bottom - top) / 1.04);
    let y: f64 = path.split(['L', ' ']).nth(3).unwrap().parse().unwrap();
    assert!((y - expected).abs() < 0.02, "{path} is not as high as {expected}");
}

#[test]
fn names_of_lines_do_not_overlap() {
    let mut one = Panel::default();
    for i in 0..5 {
        let mut line =
            Line::new(vec![(0.0, 0.0), (1.0, 1.0 + 0.01 * f64::from(i))], Stroke::default());
        line.label = Some(format!("name {i}"));
        one.lines.push(line);
    }
    one.lines.push(Line::new(vec![(0.0, 4.0), (1.0, 4.0)], Stroke::default()));
    let svg = figure(vec![vec![one]]).svg();
    let document = Document::parse(&svg).unwrap();
    let mut heights: Vec<f64> = document
        .descendants()
        .filter(|n| n.has_tag_name("text") && n.text().is_some_and(|t| t.starts_with("name")))
        .map(|n| n.attribute("y").unwrap().parse().unwrap())
        .collect();
    heights.sort_by(f64::total_cmp);
    assert_eq!(heights.len(), 5);
    assert!(heights.windows(2).all(|w| w[1] - w[0] > 7.0), "{heights:?}");
}

#[test]
fn markup_in_words_is_harmless() {
    let hostile = "<b>&amp; \"q\" ]]> \u{1}\u{7f} _{ ^{} é";
    let mut one = rich();
    one.title = hostile.into();
    one.provenance = hostile.into();
    one.panels[0][0].rules[0].label = hostile.into();
    one.panels[0][0].y.label = hostile.into();
    let svg = one.svg();
    let document = Document::parse(&svg).unwrap();
    let title = document.descendants().find(|n| n.has_tag_name("title")).unwrap();
    assert_eq!(title.text().unwrap(), hostile.replace('\u{1}', "\u{fffd}"));
    assert!(document.descendants().all(|n| !n.has_tag_name("b")));
    one.png(40.0).unwrap();
}

#[test]
fn figures_without_panels_or_sense_are_drawn() {
    for panels in [vec![], vec![vec![]], vec![vec![], vec![Panel::default()]]] {
        let mut empty = figure(panels);
        empty.rows = vec!["r".into(); 5];
        empty.columns = vec!["c".into(); 5];
        for width in [f64::NAN, -3.0, 0.0, 1e9] {
            (empty.width, empty.aspect) = (width, width);
            Document::parse(&empty.svg()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_data_break_a_drawing(
        points in proptest::collection::vec((proptest::num::f64::ANY, proptest::num::f64::ANY), 0..12),
        linear in proptest::num::f64::ANY,
        low in proptest::option::of(proptest::num::f64::ANY),
        high in proptest::option::of(proptest::num::f64::ANY),
        words in "\\PC{0,12}",
    ) {
        let mut rows = Vec::new();
        for (k, scale) in [Scale::Linear, Scale::Log, Scale::SymLog { linear }].into_iter().enumerate() {
            let axis = Axis { scale, label: words.clone(), ..Axis::default() };
            let mut one = panel(points.clone());
            (one.x, one.y) = (axis.clone(), axis.limited(low, high));
            one.title.clone_from(&words);
            one.equal = k == 1;
            one.lines[0].label = Some(words.clone());
            for &(a, b) in &points {
                one.marks.push(Mark::new((a, b), Glyph::dot(Color::BLACK)));
                one.bars.push(Bar { x: a, y: b, width: 1.0, color: Color::BLACK });
                one.bands.push(Band { points: vec![(a, b, a), (b, a, b)], color: Color::BLACK, opacity: a });
                one.rules.push(Rule::new(Place::Horizontal(b), "h"));
                one.rules.push(Rule::new(Place::Identity, "i"));
                let direction = if a > b { Direction::Horizontal } else { Direction::Vertical };
                let stroke = Stroke::default();
                one.intervals.push(Interval { at: a, low: b, high: a, direction, stroke });
            }
            rows.push(vec![one.clone(), one]);
        }
        let mut drawing = figure(rows);
        drawing.share_y = Share::Row;
        let svg = drawing.svg();
        let document = Document::parse(&svg).unwrap();
        for node in document.descendants() {
            for attribute in node.attributes().filter(|a| a.name() != "fill" && a.name() != "style") {
                let value = attribute.value();
                prop_assert!(!value.contains("NaN") && !value.contains("inf"), "{:?}", attribute);
            }
        }
        drawing.png(20.0).unwrap();
    }
}

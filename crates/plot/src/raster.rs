//! The PNG of a drawing.

use skrifa::outline::OutlinePen;
use tiny_skia::{
    FillRule, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, StrokeDash, Transform,
};

use super::color::Color;
use super::scene::{Ink, Item, Label, RIM, Rect, Scene, Stroke, snap};
use super::{Error, text};

/// Draws a scene at `dpi` dots an inch.
///
/// # Errors
/// [`Error::Size`] where the image would be empty or larger than a hundred million pixels.
pub(super) fn png(scene: &Scene, dpi: f64) -> Result<Vec<u8>, Error> {
    const LARGEST: f64 = 1e8;
    let scale = dpi / 72.0;
    let (width, height) = ((scene.width * scale).ceil(), (scene.height * scale).ceil());
    let size = || Error::Size { width, height };
    if !(width >= 1.0 && height >= 1.0 && width * height <= LARGEST) {
        return Err(size());
    }
    let mut pixmap = Pixmap::new(width as u32, height as u32).ok_or_else(size)?;
    pixmap.fill(tiny_skia::Color::WHITE);
    let transform = Transform::from_scale(scale as f32, scale as f32);
    for item in &scene.items {
        draw(&mut pixmap, item, transform, None);
    }
    encode(scene, &pixmap, dpi)
}

/// Writes the pixels without their opacity, which is one everywhere, beside the scene's words.
fn encode(scene: &Scene, pixmap: &Pixmap, dpi: f64) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, pixmap.width(), pixmap.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let per_metre = (dpi / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: per_metre,
        yppu: per_metre,
        unit: png::Unit::Meter,
    }));
    for (keyword, text) in [
        ("Title", &scene.title),
        ("Description", &scene.description),
        ("Provenance", &scene.provenance),
    ] {
        if !text.is_empty() {
            let text: Vec<String> = text.split('\n').map(text::visible).collect();
            encoder.add_itxt_chunk(keyword.into(), text.join("\n"))?;
        }
    }
    let mut writer = encoder.write_header()?;
    let rgb: Vec<u8> =
        pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(out)
}

fn draw(pixmap: &mut Pixmap, item: &Item, transform: Transform, mask: Option<&Mask>) {
    match item {
        Item::Path { traces, ink } => {
            let mut builder = PathBuilder::new();
            for trace in traces {
                for (i, &(x, y)) in trace.points.iter().enumerate() {
                    let (x, y) = (snap(x) as f32, snap(y) as f32);
                    if i == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
                }
                if trace.closed {
                    builder.close();
                }
            }
            if let Some(path) = builder.finish() {
                paint(pixmap, &path, ink, transform, mask);
            }
        }
        Item::Circle { center, radius, ink } => {
            let (x, y, r) = (snap(center.0) as f32, snap(center.1) as f32, snap(*radius) as f32);
            if let Some(path) = PathBuilder::from_circle(x, y, r) {
                paint(pixmap, &path, ink, transform, mask);
            }
        }
        Item::Text(label) => draw_text(pixmap, label, transform, mask),
        Item::Clip { to, items } => {
            let Some(mask) = clip(pixmap, *to, transform) else { return };
            for item in items {
                draw(pixmap, item, transform, Some(&mask));
            }
        }
    }
}

fn clip(pixmap: &Pixmap, to: Rect, transform: Transform) -> Option<Mask> {
    let (x, y, w, h) = (snap(to.left), snap(to.top), snap(to.width), snap(to.height));
    let rect = tiny_skia::Rect::from_xywh(x as f32, y as f32, w as f32, h as f32)?;
    let mut mask = Mask::new(pixmap.width(), pixmap.height())?;
    mask.fill_path(&PathBuilder::from_rect(rect), FillRule::Winding, true, transform);
    Some(mask)
}

fn solid(color: Color, opacity: f64) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(color.0, color.1, color.2, (opacity * 255.0).round() as u8);
    paint
}

fn paint(pixmap: &mut Pixmap, path: &Path, ink: &Ink, transform: Transform, mask: Option<&Mask>) {
    if let Some(color) = ink.fill {
        let paint = solid(color, ink.opacity);
        pixmap.fill_path(path, &paint, FillRule::Winding, transform, mask);
    }
    if let Some(Stroke { color, width, dash }) = ink.stroke {
        let pattern = dash.pattern(width).into_iter().map(|l| snap(l) as f32).collect();
        let stroke = tiny_skia::Stroke {
            width: snap(width) as f32,
            line_join: LineJoin::Round,
            dash: StrokeDash::new(pattern, 0.0),
            ..tiny_skia::Stroke::default()
        };
        pixmap.stroke_path(path, &solid(color, 1.0), &stroke, transform, mask);
    }
}

fn draw_text(pixmap: &mut Pixmap, label: &Label, transform: Transform, mask: Option<&Mask>) {
    let start = -label.anchor.share() * label.line.width;
    let mut outline = Outline { path: PathBuilder::new(), x: 0.0, y: 0.0, scale: 1.0 };
    for run in &label.line.runs {
        let weight = label.line.weight;
        outline.scale = (run.size / text::units_per_em(weight)) as f32;
        outline.y = -run.rise as f32;
        let mut x = start + run.x;
        for c in run.text.chars() {
            let glyph = text::glyph(weight, c);
            outline.x = x as f32;
            text::outline(weight, glyph, &mut outline);
            x += text::advance(weight, glyph, run.size);
        }
    }
    let Some(path) = outline.path.finish() else { return };
    let placed = transform
        .pre_translate(snap(label.at.0) as f32, snap(label.at.1) as f32)
        .pre_rotate(label.turn as f32);
    if label.rim {
        let rim = Ink::stroke(Stroke::new(Color::WHITE, RIM));
        paint(pixmap, &path, &rim, placed, mask);
    }
    paint(pixmap, &path, &Ink::fill(label.color), placed, mask);
}

/// Collects glyph outlines, whose y points up, in a path whose y points down.
struct Outline {
    path: PathBuilder,
    x: f32,
    y: f32,
    scale: f32,
}

impl Outline {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlinePen for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (a, b) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(a.0, a.1, b.0, b.1);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (a, b, c) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(a.0, a.1, b.0, b.1, c.0, c.1);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Anchor;
    use super::super::text::Weight;
    use super::*;

    fn scene(items: Vec<Item>) -> Scene {
        Scene {
            width: 72.0,
            height: 36.0,
            title: "T".into(),
            description: String::new(),
            provenance: "p\u{e9}".into(),
            items,
        }
    }

    /// Width, height and RGB bytes.
    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn pixels_words_and_density() {
        let square = vec![(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)];
        let path = Item::Path {
            traces: vec![super::super::scene::Trace { points: square, closed: true }],
            ink: Ink::fill(Color(200, 0, 0)),
        };
        let clipped = Item::Clip {
            to: Rect { left: 0.0, top: 0.0, width: 15.0, height: 36.0 },
            items: vec![path],
        };
        let bytes = png(&scene(vec![clipped]), 72.0).unwrap();
        let (width, height, pixels) = decoded(&bytes);
        assert_eq!((width, height), (72, 36));
        let at = |x: usize, y: usize| &pixels[(y * 72 + x) * 3..][..3];
        assert_eq!(at(12, 15), [200, 0, 0]);
        assert_eq!(at(17, 15), [255, 255, 255], "beyond the clip");
        assert_eq!(at(12, 25), [255, 255, 255]);
        let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let words: Vec<_> = reader
            .info()
            .utf8_text
            .iter()
            .map(|t| (t.keyword.clone(), t.get_text().unwrap()))
            .collect();
        assert_eq!(
            words,
            [("Title".into(), "T".into()), ("Provenance".into(), "p\u{e9}".to_string())]
        );
        assert_eq!(reader.info().pixel_dims.unwrap().xppu, 2835);
    }

    #[test]
    fn text_is_inked_where_it_stands() {
        let label = Label {
            line: text::line("H", 20.0, Weight::Bold),
            at: (36.0, 30.0),
            anchor: Anchor::Middle,
            turn: 0.0,
            color: Color::BLACK,
            rim: false,
        };
        let (_, _, pixels) = decoded(&png(&scene(vec![Item::Text(label)]), 72.0).unwrap());
        let dark: Vec<usize> =
            (0..72 * 36).filter(|&i| pixels[i * 3] < 100).map(|i| i % 72).collect();
        let (left, right) = (dark.iter().min().unwrap(), dark.iter().max().unwrap());
        assert!((27..=33).contains(left) && (38..=44).contains(right), "{left} to {right}");
        let rows: Vec<usize> =
            (0..72 * 36).filter(|&i| pixels[i * 3] < 100).map(|i| i / 72).collect();
        assert!(*rows.iter().max().unwrap() <= 30 && *rows.iter().min().unwrap() >= 14);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for dpi in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
            assert!(matches!(png(&scene(Vec::new()), dpi), Err(Error::Size { .. })), "{dpi}");
        }
    }
}

//! Colours that survive colour blindness and grey print, and the dashes and shapes that back them up.

/// An opaque sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// Black.
    pub const BLACK: Self = Self(0, 0, 0);
    /// White.
    pub const WHITE: Self = Self(255, 255, 255);
    /// The grey of reference lines and secondary text.
    pub const GREY: Self = Self(0x66, 0x66, 0x66);

    /// The i-th colour for unordered categories, after which they repeat.
    ///
    /// These are the eight of Okabe and Ito, ordered so that the first ones also differ in lightness
    /// and the yellow, faint on white, comes last.
    #[must_use]
    pub fn categorical(i: usize) -> Self {
        const OKABE_ITO: [Color; 8] = [
            Color(0x00, 0x72, 0xB2), // blue
            Color(0xD5, 0x5E, 0x00), // vermillion
            Color(0x00, 0x9E, 0x73), // bluish green
            Color(0xCC, 0x79, 0xA7), // reddish purple
            Color(0xE6, 0x9F, 0x00), // orange
            Color(0x56, 0xB4, 0xE9), // sky blue
            Color(0x00, 0x00, 0x00),
            Color(0xF0, 0xE4, 0x42), // yellow
        ];
        OKABE_ITO[i % OKABE_ITO.len()]
    }

    /// `n` colours for ordered categories, dark to light at even steps of the viridis map.
    ///
    /// The map's last fifth, too faint on white, is left out.
    #[must_use]
    pub fn sequential(n: usize) -> Vec<Self> {
        const VIRIDIS: [Color; 9] = [
            Color(0x44, 0x01, 0x54),
            Color(0x47, 0x2D, 0x7B),
            Color(0x3B, 0x52, 0x8B),
            Color(0x2C, 0x72, 0x8E),
            Color(0x21, 0x91, 0x8C),
            Color(0x28, 0xAE, 0x80),
            Color(0x5E, 0xC9, 0x62),
            Color(0xAD, 0xDC, 0x30),
            Color(0xFD, 0xE7, 0x25),
        ];
        const LAST: f64 = 0.8 * (VIRIDIS.len() - 1) as f64;
        (0..n)
            .map(|i| {
                let at = if n > 1 { LAST * i as f64 / (n - 1) as f64 } else { 0.0 };
                let (low, share) = (at.floor() as usize, at.fract());
                let (a, b) = (VIRIDIS[low], VIRIDIS[low + 1]);
                let mix = |a: u8, b: u8| {
                    (f64::from(a) + share * (f64::from(b) - f64::from(a))).round() as u8
                };
                Self(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
            })
            .collect()
    }

    /// The colour as SVG writes it, `#rrggbb`.
    #[must_use]
    pub fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// How a line is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dash {
    /// An unbroken line.
    #[default]
    Solid,
    /// Even dashes.
    Dashed,
    /// Dots.
    Dotted,
    /// Dashes and dots in turn, a chain line.
    Chain,
    /// Long dashes.
    Long,
}

impl Dash {
    /// The i-th pattern, after which they repeat.
    #[must_use]
    pub fn nth(i: usize) -> Self {
        [Self::Solid, Self::Dashed, Self::Dotted, Self::Chain, Self::Long][i % 5]
    }

    /// Lengths of ink and gap in points, for a line of the given width; empty where it is solid.
    pub(super) fn pattern(self, width: f64) -> Vec<f64> {
        let unit = width.max(0.8);
        let lengths: &[f64] = match self {
            Self::Solid => &[],
            Self::Dashed => &[4.0, 2.0],
            Self::Dotted => &[1.2, 1.6],
            Self::Chain => &[4.5, 1.6, 1.2, 1.6],
            Self::Long => &[8.0, 2.4],
        };
        lengths.iter().map(|l| l * unit).collect()
    }
}

/// The form of a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// A disc or ring.
    #[default]
    Circle,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A diagonal cross; never filled.
    Cross,
    /// An upright cross; never filled.
    Plus,
}

impl Shape {
    /// The i-th shape, after which they repeat.
    #[must_use]
    pub fn nth(i: usize) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Diamond, Self::Cross, Self::Plus][i % 6]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance as WCAG 2 defines it.
    fn luminance(c: Color) -> f64 {
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(c.0) + 0.7152 * linear(c.1) + 0.0722 * linear(c.2)
    }

    #[test]
    fn sequential_colours_get_lighter_and_stay_visible_on_white() {
        for n in 2..=9 {
            let colours = Color::sequential(n);
            assert_eq!(colours.len(), n);
            assert!(colours.windows(2).all(|w| luminance(w[1]) > luminance(w[0]) + 0.01), "{n}");
            assert!(luminance(colours[n - 1]) < 0.55);
        }
        assert_eq!(Color::sequential(1), [Color(0x44, 0x01, 0x54)]);
        assert!(Color::sequential(0).is_empty());
    }

    #[test]
    fn categorical_colours_are_distinct_and_repeat() {
        for i in 0..8 {
            for j in 0..i {
                assert_ne!(Color::categorical(i), Color::categorical(j));
            }
        }
        assert_eq!(Color::categorical(8), Color::categorical(0));
        assert_eq!(Color::categorical(0).hex(), "#0072b2");
    }

    #[test]
    fn dashes_scale_with_the_width() {
        assert!(Dash::Solid.pattern(1.0).is_empty());
        assert_eq!(Dash::Dashed.pattern(2.0), [8.0, 4.0]);
        assert_eq!(Dash::Dashed.pattern(0.1), Dash::Dashed.pattern(0.8));
    }
}

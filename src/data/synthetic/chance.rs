//! Skewed choices in integer arithmetic, so that a document has the same bytes on every platform.

use crate::rng::Draws;

/// Walker's alias table: one draw from a fixed distribution in constant time.
pub(super) struct Alias {
    /// For each column the 32-bit threshold below which it is kept, and the index otherwise.
    columns: Vec<(u64, u16)>,
}

impl Alias {
    /// The table of `weights`: fewer than 2¹⁶, with a positive sum.
    pub(super) fn new(weights: &[u64]) -> Self {
        let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
        let mut share: Vec<u128> =
            weights.iter().map(|&w| u128::from(w) * weights.len() as u128).collect();
        let mut columns: Vec<(u64, u16)> =
            (0..weights.len()).map(|i| (1 << 32, i as u16)).collect();
        let (mut poor, mut rich): (Vec<_>, Vec<_>) =
            (0..weights.len()).partition(|&i| share[i] < total);
        while let (Some(p), Some(&r)) = (poor.pop(), rich.last()) {
            columns[p] = (((share[p] << 32) / total) as u64, r as u16);
            share[r] -= total - share[p];
            if share[r] < total {
                rich.pop();
                poor.push(r);
            }
        }
        Self { columns }
    }

    /// Zipf's law as Mandelbrot shifted it: the weight of rank r, counted from 0, is
    /// 1 / (r + `shift`).
    pub(super) fn zipf(n: usize, shift: u64) -> Self {
        Self::new(&(0..n as u64).map(|r| (1 << 40) / (r + shift)).collect::<Vec<_>>())
    }

    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        let word = draws.word();
        let column = (((word >> 32) * self.columns.len() as u64) >> 32) as usize;
        let (threshold, other) = self.columns[column];
        if word & 0xffff_ffff < threshold { column } else { usize::from(other) }
    }
}

/// True in `percent` of the draws.
pub(super) fn chance(draws: &mut Draws, percent: u64) -> bool {
    draws.below(100) < percent
}

/// An index below `n`, small ones more likely: the smaller of two even draws.
pub(super) fn low(draws: &mut Draws, n: usize) -> usize {
    draws.below(n as u64).min(draws.below(n as u64)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    #[test]
    fn alias_draws_have_their_weights() {
        let weights = [5, 0, 1, 10, 4];
        let alias = Alias::new(&weights);
        let mut draws = Draws::new(Key::new(1));
        let mut counts = [0u64; 5];
        for _ in 0..200_000 {
            counts[alias.draw(&mut draws)] += 1;
        }
        assert_eq!(counts[1], 0);
        for (&count, &weight) in counts.iter().zip(&weights) {
            let expected = weight as f64 / 20.0 * 200_000.0;
            // Five binomial standard deviations.
            assert!((count as f64 - expected).abs() <= 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn zipf_halves_from_rank_0_to_rank_shift() {
        let alias = Alias::zipf(100, 4);
        let mut draws = Draws::new(Key::new(2));
        let (mut first, mut fifth) = (0.0, 0.0);
        for _ in 0..400_000 {
            match alias.draw(&mut draws) {
                0 => first += 1.0,
                4 => fifth += 1.0,
                _ => (),
            }
        }
        // About 29,000 and 14,500 draws: the ratio's standard deviation is 0.02.
        assert!((first / fifth - 2.0f64).abs() < 0.1, "{first} {fifth}");
    }
}

//! Which runs of the main grid are predicted before they are made.

use serde::{Deserialize, Serialize};

/// Which runs are beyond a size and a D_ft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beyond {
    /// Runs with at least that size and at least that D_ft.
    #[default]
    Both,
    /// Runs with at least that size, or at least that D_ft.
    Either,
}

/// The smallest size and D_ft of predicted runs: the largest of the grid, unless the settings say
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corner {
    /// The rank of the smallest size of a predicted run.
    pub rank: usize,
    /// The smallest D_ft, as asked for, in tokens.
    pub d_ft_tokens: u64,
    /// Whether a predicted run must have both or either.
    pub beyond: Beyond,
}

impl Corner {
    /// The corner of a grid of cells, each given by the rank of its size and its D_ft; `None` if there
    /// are none.
    pub fn of(cells: impl IntoIterator<Item = (usize, u64)>) -> Option<Self> {
        let larger = |a: Self, b: Self| Self {
            rank: a.rank.max(b.rank),
            d_ft_tokens: a.d_ft_tokens.max(b.d_ft_tokens),
            ..a
        };
        let corner = |(rank, d_ft_tokens)| Self { rank, d_ft_tokens, beyond: Beyond::Both };
        cells.into_iter().map(corner).reduce(larger)
    }

    /// Whether a run of the main grid is predicted.
    pub fn withholds(self, rank: usize, d_ft_tokens: u64) -> bool {
        let (larger, more) = (rank >= self.rank, d_ft_tokens >= self.d_ft_tokens);
        match self.beyond {
            Beyond::Both => larger && more,
            Beyond::Either => larger || more,
        }
    }

    /// Whether a run of the main grid is fitted, which it is if it has neither. Such runs are trained
    /// first.
    pub fn fits(self, rank: usize, d_ft_tokens: u64) -> bool {
        rank < self.rank && d_ft_tokens < self.d_ft_tokens
    }
}

//! Which runs of the main grid are predicted before they are made.

use serde::{Deserialize, Serialize};

/// Which runs lie beyond a size and an amount of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beyond {
    /// Those with that size or a larger one, and that much data or more.
    #[default]
    Both,
    /// Those with that size or a larger one, and those with that much data or more.
    Either,
}

/// Where the runs that are predicted begin: the largest size and the most data of a grid, unless the
/// settings say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corner {
    /// The rank of the smallest size of a run that is predicted.
    pub rank: usize,
    /// Its D_ft as asked for, in tokens.
    pub d_ft_tokens: u64,
    /// Whether a run needs both to be predicted.
    pub beyond: Beyond,
}

impl Corner {
    /// The corner of cells, each the rank of its size and its D_ft; None where there are none.
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

    /// Whether a run of the main grid is fitted, and so has to be done before: it has neither.
    pub fn fits(self, rank: usize, d_ft_tokens: u64) -> bool {
        rank < self.rank && d_ft_tokens < self.d_ft_tokens
    }
}

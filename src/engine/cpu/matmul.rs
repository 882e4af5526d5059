//! Matrix products. Element (i, j) of a product is one chain of fused multiply-adds over k, from the
//! first to the last, whatever tiles and vectors it is computed in.

use super::aligned::Aligned;
use super::simd::{Kernel, Simd};
use std::ops::Range;
use std::slice::Chunks;

/// A left operand, `[m, k]`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left<'a> {
    /// Element (i, k) lies at i · stride + k.
    Rows { data: &'a [f32], stride: usize },
    /// Element (i, k) lies at k · stride + i: the transpose of a matrix. It may have fewer k than the right
    /// operand.
    Columns { data: &'a [f32], stride: usize },
}

/// A right operand, `[k, n]`, in panels of three vectors' columns or fewer: panel after panel, each row by
/// row, the last one filled up with zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Panels {
    data: Aligned,
    k: usize,
    n: usize,
}

/// The number of columns of the next panel if this many are left: three vectors, or two if a third
/// would leave a single one, on which a product is slow.
#[inline(always)]
fn next_width(columns: usize, lanes: usize) -> usize {
    match columns.div_ceil(lanes) {
        1 => lanes,
        2 | 4 => 2 * lanes,
        _ => 3 * lanes,
    }
}

/// The first column and the width of each panel.
fn panels(simd: Simd, n: usize) -> impl Iterator<Item = (usize, usize)> {
    let next = move |&(start, width): &(usize, usize)| {
        let start = start + width;
        (start < n).then(|| (start, next_width(n - start, simd.lanes())))
    };
    std::iter::successors(next(&(0, 0)), next)
}

/// So many columns with the padding that fills the last vector.
pub(super) fn panel_width(simd: Simd, columns: usize) -> usize {
    columns.next_multiple_of(simd.lanes())
}

/// A matrix `[rows, columns]` whose element (i, j) lies at i · stride + j.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow one another without gaps.
    pub fn dense(data: &'a [f32], columns: usize) -> Self {
        Self { data, stride: columns, rows: data.len() / columns, columns }
    }
}

impl Panels {
    /// Makes room for `[k, n]`.
    fn resize(&mut self, simd: Simd, k: usize, n: usize) {
        (self.k, self.n) = (k, n);
        self.data.resize(panel_width(simd, n) * k, 0.0);
    }

    /// Takes a matrix `[k, n]`.
    pub fn pack(&mut self, simd: Simd, matrix: Matrix<'_>) {
        let Matrix { data, stride, rows: k, columns: n } = matrix;
        self.resize(simd, k, n);
        for (start, width) in panels(simd, n) {
            let panel = &mut self.data[start * k..][..width * k];
            let columns = start..n.min(start + width);
            simd.run(Pack { panel, width, rows: data.chunks(stride), columns });
        }
    }

    /// Takes the transpose of a matrix `[n, k]`.
    pub fn pack_transposed(&mut self, simd: Simd, matrix: Matrix<'_>) {
        let Matrix { data, stride, rows: n, columns: k } = matrix;
        self.resize(simd, k, n);
        for (start, width) in panels(simd, n) {
            let panel = &mut self.data[start * k..][..width * k];
            let rows = data.chunks(stride).skip(start).take(width.min(n - start));
            if n - start < width {
                panel.fill(0.0);
            }
            for (j, row) in rows.enumerate() {
                for (packed, &value) in panel.chunks_exact_mut(width).zip(&row[..k]) {
                    packed[j] = value;
                }
            }
        }
    }

    /// Becomes one panel `[k, width]` that the caller fills.
    pub fn panel(&mut self, k: usize, width: usize) {
        (self.k, self.n) = (k, width);
        self.data.resize(k * width, 0.0);
    }

    /// Takes the padding for columns.
    pub fn widen(&mut self) {
        self.n = self.data.len() / self.k;
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// Packing of one panel.
struct Pack<'a> {
    panel: &'a mut [f32],
    width: usize,
    rows: Chunks<'a, f32>,
    columns: Range<usize>,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(self) {
        match self.width {
            width if width == ONE => self.panel::<ONE>(),
            width if width == TWO => self.panel::<TWO>(),
            _ => self.panel::<THREE>(),
        }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn panel<const WIDTH: usize>(self) {
        for (packed, row) in self.panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(self.rows) {
            match <&[f32; WIDTH]>::try_from(&row[self.columns.clone()]) {
                Ok(row) => *packed = *row,
                Err(_) => {
                    let (filled, padding) = packed.split_at_mut(self.columns.len());
                    filled.copy_from_slice(&row[self.columns.clone()]);
                    padding.fill(0.0);
                }
            }
        }
    }
}

/// Whether a product replaces what its output held, or is added to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output<'a> {
    /// It is overwritten; every chain begins with the column's bias, or with 0.
    Set(Option<&'a [f32]>),
    /// The product is added to it.
    Add,
    /// Every chain begins with it: k goes on.
    Extend,
}

/// `out` (`[m, n]`, element (i, j) at i · stride + j) from the product of `left` and `right`.
pub(super) struct Product<'a> {
    pub left: Left<'a>,
    pub right: &'a Panels,
    pub out: &'a mut [f32],
    pub stride: usize,
    pub rows: usize,
    pub output: Output<'a>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(mut self) {
        let mut start = 0;
        while start < self.right.n {
            let width = next_width(self.right.n - start, ONE);
            match width {
                width if width == ONE => self.panel::<8, ONE>(start),
                width if width == TWO => self.panel::<ROWS, TWO>(start),
                _ => self.panel::<4, THREE>(start),
            }
            start += width;
        }
    }
}

impl Product<'_> {
    /// The columns of one panel.
    #[inline(always)]
    fn panel<const ROWS: usize, const WIDTH: usize>(&mut self, start: usize) {
        let k = self.right.k;
        let panel = self.right.data[start * k..][..WIDTH * k].as_chunks::<WIDTH>().0;
        let mut row = 0;
        while self.rows - row >= ROWS {
            self.tile::<ROWS, WIDTH>(panel, row, start);
            row += ROWS;
        }
        while row < self.rows {
            self.tile::<1, WIDTH>(panel, row, start);
            row += 1;
        }
    }

    /// `ROWS` × `WIDTH` elements of the output.
    #[inline(always)]
    fn tile<const ROWS: usize, const WIDTH: usize>(
        &mut self,
        panel: &[[f32; WIDTH]],
        row: usize,
        start: usize,
    ) {
        let columns = self.right.n - start;
        if columns >= WIDTH {
            return self.whole_tile::<ROWS, WIDTH>(panel, row, start);
        }
        let stride = self.stride;
        let mut first = [[0f32; WIDTH]; ROWS];
        for (r, first) in first.iter_mut().enumerate() {
            match self.output {
                Output::Set(Some(bias)) => first[..columns].copy_from_slice(&bias[start..]),
                Output::Extend => {
                    first[..columns]
                        .copy_from_slice(&self.out[(row + r) * stride + start..][..columns]);
                }
                Output::Set(None) | Output::Add => {}
            }
        }
        let sums = self.chains(panel, row, first);
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + r) * stride + start..][..columns];
            match self.output {
                Output::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
                Output::Set(_) | Output::Extend => out.copy_from_slice(&sums[..columns]),
            }
        }
    }

    /// The same where the output has all columns. Only loops over constants are here, so that the tile
    /// stays in registers.
    #[inline(always)]
    fn whole_tile<const ROWS: usize, const WIDTH: usize>(
        &mut self,
        panel: &[[f32; WIDTH]],
        row: usize,
        start: usize,
    ) {
        let (from, stride) = (row * self.stride + start, self.stride);
        let mut first = [[0f32; WIDTH]; ROWS];
        match self.output {
            Output::Set(Some(bias)) => first = [*whole(&bias[start..]); ROWS],
            Output::Extend => {
                let out = &self.out[from..];
                for r in 0..ROWS {
                    first[r] = *whole(&out[r * stride..]);
                }
            }
            Output::Set(None) | Output::Add => {}
        }
        let sums = self.chains(panel, row, first);
        let out = &mut self.out[from..];
        if let Output::Add = self.output {
            for r in 0..ROWS {
                let out = out[r * stride..].first_chunk_mut::<WIDTH>().expect("a whole row");
                for j in 0..WIDTH {
                    out[j] += sums[r][j];
                }
            }
        } else {
            for r in 0..ROWS {
                *out[r * stride..].first_chunk_mut().expect("a whole row") = sums[r];
            }
        }
    }

    /// The chains of a tile, which stay in registers: the reason for values in place of references.
    #[inline(always)]
    fn chains<const ROWS: usize, const WIDTH: usize>(
        &self,
        panel: &[[f32; WIDTH]],
        row: usize,
        first: [[f32; WIDTH]; ROWS],
    ) -> [[f32; WIDTH]; ROWS] {
        let mut sums = first;
        match self.left {
            Left::Rows { data, stride } => {
                let mut rows = [&data[..0]; ROWS];
                for (r, values) in rows.iter_mut().enumerate() {
                    *values = &data[(row + r) * stride..][..panel.len()];
                }
                for (k, right) in panel.iter().enumerate() {
                    let mut left = [0f32; ROWS];
                    for r in 0..ROWS {
                        left[r] = rows[r][k];
                    }
                    multiply_add(left, right, &mut sums);
                }
            }
            Left::Columns { data, stride } => {
                for (left, right) in data[row..].chunks(stride).zip(panel) {
                    multiply_add(*whole(left), right, &mut sums);
                }
            }
        }
        sums
    }
}

/// The first elements of a slice that has them.
#[inline(always)]
fn whole<const N: usize>(values: &[f32]) -> &[f32; N] {
    values.first_chunk().expect("the operand has the elements")
}

/// One step of every chain. The rows are the inner loop: the compiler unrolls it, and makes vectors of
/// the outer one.
#[inline(always)]
fn multiply_add<const ROWS: usize, const WIDTH: usize>(
    left: [f32; ROWS],
    right: &[f32; WIDTH],
    sums: &mut [[f32; WIDTH]; ROWS],
) {
    for j in 0..WIDTH {
        for i in 0..ROWS {
            sums[i][j] = left[i].mul_add(right[j], sums[i][j]);
        }
    }
}

//! Buffers on cache lines: a vector that lies across two of them is read and written at half the rate.

use std::ops::{Deref, DerefMut};

/// Elements of a cache line of 64 bytes.
const LINE: usize = 64 / size_of::<f32>();

/// A `Vec<f32>` whose first element begins a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    data: Vec<f32>,
    begin: usize,
    len: usize,
}

impl Aligned {
    /// This many zeros.
    pub fn zeros(len: usize) -> Self {
        let mut zeros = Self::default();
        zeros.resize(len, 0.0);
        zeros
    }

    /// Does what `Vec::resize` does.
    pub fn resize(&mut self, len: usize, value: f32) {
        if self.data.len() < self.begin + len {
            let mut data = vec![0.0; len + LINE];
            let begin = data.as_ptr().align_offset(64).min(LINE);
            data[begin..][..self.len].copy_from_slice(self);
            (self.data, self.begin) = (data, begin);
        }
        let old = std::mem::replace(&mut self.len, len);
        if let Some(new) = self.get_mut(old..) {
            new.fill(value);
        }
    }

    /// Holds a copy of these.
    pub fn copy(&mut self, values: &[f32]) {
        self.resize(values.len(), 0.0);
        self.copy_from_slice(values);
    }

    /// Does what `Vec::clear` does.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.begin..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.begin..][..self.len]
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut clone = Self::default();
        clone.clone_from(self);
        clone
    }

    fn clone_from(&mut self, source: &Self) {
        self.copy(source);
    }
}

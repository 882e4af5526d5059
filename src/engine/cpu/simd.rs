//! Vector instructions: every kernel is compiled once for each set below, from one body of safe Rust
//! over arrays and slices that the compiler vectorises, and the processor's best set is called.
//!
//! The bits of a result do not depend on the set. Rust neither reorders nor contracts floating-point
//! operations, so that vectorising changes nothing; sums are written in an order that knows nothing of
//! vectors, and [`f32::mul_add`] rounds once everywhere: in software where there is no instruction.
//!
//! Functions with `#[target_feature]` are enough for this. `multiversion` would generate the same
//! functions, but cannot be told which to call, as a test must; `pulp` and `wide` would have the kernels
//! written in vectors of their own.

/// A set of vector instructions that this processor has. On 64-bit ARM the plain set is NEON, which
/// has fused multiply-add. On x86-64 it is SSE2, which does not: it is slow, but right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Simd(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Code that is compiled for a set of instructions: mark `run` and all that it calls
/// `#[inline(always)]`, since what is not inlined is compiled for the plain set.
///
/// `ONE`, `TWO` and `THREE` are the numbers of elements in one, two and three vectors. The set's
/// registers have room for `ROWS` × `TWO`, 8 × `ONE` or 4 × `THREE` elements of a matrix product.
pub(super) trait Kernel {
    fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(self);
}

impl Simd {
    /// The best set of this processor.
    pub fn best() -> Self {
        Self::all().pop().expect("the plain set is always there")
    }

    /// Every set of this processor, the best last.
    pub fn all() -> Vec<Self> {
        let mut sets = vec![Self(Set::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                sets.push(Self(Set::Avx2));
            }
            if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") {
                sets.push(Self(Set::Avx512));
            }
        }
        sets
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Plain => "DEFAULT",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX512",
        }
    }

    /// Runs a kernel.
    #[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "calls of target_feature"))]
    pub fn run(self, kernel: impl Kernel) {
        match self.0 {
            Set::Plain => plain(kernel),
            // SAFETY: `all` makes these sets where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512(kernel) },
        }
    }

    /// Runs a closure marked `#[inline(always)]`.
    pub fn map(self, body: impl FnOnce()) {
        struct Map<F>(F);
        impl<F: FnOnce()> Kernel for Map<F> {
            #[inline(always)]
            fn run<const ROWS: usize, const ONE: usize, const TWO: usize, const THREE: usize>(
                self,
            ) {
                (self.0)();
            }
        }
        self.run(Map(body));
    }

    /// Elements of a vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            Set::Plain => 4,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => 16,
        }
    }
}

fn plain(kernel: impl Kernel) {
    kernel.run::<8, 4, 8, 12>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(kernel: impl Kernel) {
    kernel.run::<4, 8, 16, 24>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
fn avx512(kernel: impl Kernel) {
    kernel.run::<8, 16, 32, 48>();
}

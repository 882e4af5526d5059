//! Functions whose results are the same to the bit on every machine: they use only IEEE arithmetic,
//! which rounds every operation as the standard says, and nothing of the system's mathematical
//! library.

/// e^x within 1 ulp; 0 where the result would lie below 2^-125.5, the smallest e^x that is returned, and
/// e^88 where x is above.
///
/// x = n · ln 2 + r with |r| ≤ ln 2 / 2; the polynomial for e^r is that of Moshier's Cephes library.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    const MOST: f32 = 88.0;
    /// Adding 1.5 · 2^23 rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// Few bits, so that n times it is exact, and the rest of ln 2.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let within = if x > MOST { MOST } else { x };
    let within = if within < LEAST { LEAST } else { within };
    let rounded = within.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2.1, n.mul_add(-LN_2.0, within));
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        polynomial = r.mul_add(polynomial, coefficient);
    }
    let e_r = (r * r).mul_add(polynomial, r) + 1.0;
    let scaled = f32::from_bits(e_r.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < LEAST { 0.0 } else { scaled }
}

/// The natural logarithm of a positive normal number, within 1e-15 of it relatively or absolutely.
///
/// x = m · 2^e with m between √½ and √2, and ln m = 2·artanh s with s = (m − 1) / (m + 1), |s| < 0.172.
pub(super) fn ln(x: f64) -> f64 {
    const EXPONENT_BIAS: i64 = 1023;
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - EXPONENT_BIAS;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | (EXPONENT_BIAS as u64) << 52);
    let (m, exponent) = if mantissa > std::f64::consts::SQRT_2 {
        (mantissa / 2.0, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (0..11).rev().fold(0.0, |sum, i| sum * square + 1.0 / f64::from(2 * i + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

/// Lanes of a reduction over a row: element i belongs to lane i modulo this.
pub(super) const LANES: usize = 16;

/// Rows that are reduced together: only then does the compiler keep the lanes in vectors.
pub(super) const ROWS: usize = 8;

/// Some rows: row r begins at r · stride. A stride of 0 repeats one.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl Rows<'_> {
    /// The elements of each row from a column on, by value, so that the compiler need not ask what
    /// overlaps.
    #[inline(always)]
    pub fn chunk<const R: usize>(self, start: usize) -> [[f32; LANES]; R] {
        let mut chunk = [[0f32; LANES]; R];
        for (r, chunk) in chunk.iter_mut().enumerate() {
            *chunk = *self.data[r * self.stride + start..].first_chunk().expect("a whole chunk");
        }
        chunk
    }

    #[inline(always)]
    pub fn at(self, r: usize, column: usize) -> f32 {
        self.data[r * self.stride + column]
    }
}

/// For each of `R` rows of `d` elements, the sum that f(row, sum so far, element of a, element of
/// b) accumulates, lane by lane.
#[inline(always)]
pub(super) fn sum_rows<const R: usize>(
    d: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    f: impl Fn(usize, f32, f32, f32) -> f32,
) -> [f32; R] {
    let whole = d / LANES * LANES;
    let mut lanes = sum_chunks(whole, a, b, &f);
    for (r, lanes) in lanes.iter_mut().enumerate() {
        for column in whole..d {
            let lane = &mut lanes[column - whole];
            *lane = f(r, *lane, a.at(r, column), b.at(r, column));
        }
    }
    sum_lanes(lanes)
}

#[inline(always)]
fn sum_chunks<const R: usize>(
    whole: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    f: impl Fn(usize, f32, f32, f32) -> f32,
) -> [[f32; LANES]; R] {
    let mut lanes = [[0f32; LANES]; R];
    for start in (0..whole).step_by(LANES) {
        let (a, b) = (a.chunk::<R>(start), b.chunk::<R>(start));
        for i in 0..LANES {
            for r in 0..R {
                lanes[r][i] = f(r, lanes[r][i], a[r][i], b[r][i]);
            }
        }
    }
    lanes
}

/// The sum of each row's lanes, halves added to halves.
#[inline(always)]
pub(super) fn sum_lanes<const R: usize>(lanes: [[f32; LANES]; R]) -> [f32; R] {
    let mut sums = [0f32; R];
    for r in 0..R {
        let [a, b]: [f32; 2] = halve::<4, 2>(halve::<8, 4>(halve::<LANES, 8>(lanes[r])));
        sums[r] = a + b;
    }
    sums
}

#[inline(always)]
fn halve<const N: usize, const HALF: usize>(lanes: [f32; N]) -> [f32; HALF] {
    let mut sums = [0f32; HALF];
    for i in 0..HALF {
        sums[i] = lanes[i] + lanes[i + HALF];
    }
    sums
}

/// σ(x), and 1 − σ(x) without cancellation.
#[inline(always)]
fn sigmoid(x: f32) -> (f32, f32) {
    let e = exp(-x);
    let sigmoid = 1.0 / (1.0 + e);
    (sigmoid, e * sigmoid)
}

/// silu(x) = x·σ(x), and its derivative σ + x·σ·(1 − σ).
#[inline(always)]
pub(super) fn silu(x: f32) -> (f32, f32) {
    let (sigmoid, rest) = sigmoid(x);
    let value = x * sigmoid;
    (value, value.mul_add(rest, sigmoid))
}

/// GELU in its tanh form, ½·x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³), and its derivative.
///
/// Since 1 + tanh u = 2·σ(2u), it is x·σ(2u), and the derivative σ + x·σ·(1 − σ)·2u'.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> (f32, f32) {
    /// 2·√(2/π), and that times 0.044715.
    const A: f32 = 1.595_769_2;
    const B: f32 = 0.071_354_82;
    let square = x * x;
    let (sigmoid, rest) = sigmoid(x * square.mul_add(B, A));
    let value = x * sigmoid;
    let slope = square.mul_add(3.0 * B, A);
    (value, (value * rest).mul_add(slope, sigmoid))
}

/// erf(x) within 2 ulp: Taylor's series, and 1 − e^p(|x|) beyond, with polynomials by Norbert Juffa.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const SERIES_TO: f32 = 0.927_734_4;
    let (t, square) = (x.abs(), x * x);
    let mut near = -5.967_617e-4;
    for coefficient in
        [4.991_194e-3, -2.676_813_5e-2, 1.128_199_3e-1, -3.761_253_4e-1, 1.283_791_7e-1]
    {
        near = square.mul_add(near, coefficient);
    }
    let high = t.mul_add(-1.728_534_7e-5, 3.831_971e-4);
    let low = t.mul_add(-3.883_964_4e-3, 2.425_462_2e-2);
    let mut far = square.mul_add(high, low);
    for coefficient in [-1.067_778_8e-1, -6.348_468_7e-1, -1.287_175_1e-1] {
        far = t.mul_add(far, coefficient);
    }
    far = t.mul_add(far, -t);
    if t > SERIES_TO { (1.0 - exp(far)).copysign(x) } else { x.mul_add(near, x) }
}

/// GELU, x·Φ(x) with Φ(x) = ½·(1 + erf(x/√2)), and its derivative Φ + x·φ with φ(x) = e^(−x²/2)/√(2π).
#[inline(always)]
pub(super) fn gelu(x: f32) -> (f32, f32) {
    const OF_DENSITY: f32 = 0.398_942_3;
    let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    let density = OF_DENSITY * exp(-0.5 * x * x);
    (x * below, x.mul_add(density, below))
}

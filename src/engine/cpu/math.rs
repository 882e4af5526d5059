//! Functions whose bits are the same on every machine: IEEE arithmetic, which rounds every operation as
//! the standard says, and nothing of the system's library of mathematics.

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
    let (m, exponent) = match mantissa > std::f64::consts::SQRT_2 {
        true => (mantissa / 2.0, exponent + 1),
        false => (mantissa, exponent),
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

/// Of each of some rows the lanes, begun with `first`: f(row, lane, element of a, element of b).
#[inline(always)]
pub(super) fn lanes<const R: usize>(
    a: [&[f32]; R],
    b: [&[f32]; R],
    first: f32,
    f: impl Fn(usize, f32, f32, f32) -> f32,
) -> [[f32; LANES]; R] {
    let mut lanes = [[first; LANES]; R];
    let whole = a[0].len() / LANES;
    for start in (0..whole).map(|chunk| chunk * LANES) {
        let (mut a_chunks, mut b_chunks) = ([[0f32; LANES]; R], [[0f32; LANES]; R]);
        for r in 0..R {
            a_chunks[r].copy_from_slice(&a[r][start..][..LANES]);
            b_chunks[r].copy_from_slice(&b[r][start..][..LANES]);
        }
        for i in 0..LANES {
            for r in 0..R {
                lanes[r][i] = f(r, lanes[r][i], a_chunks[r][i], b_chunks[r][i]);
            }
        }
    }
    for r in 0..R {
        let rest = a[r][whole * LANES..].iter().zip(&b[r][whole * LANES..]);
        let (mut row, mut lane) = (lanes[r], 0);
        for (&a, &b) in rest {
            row[lane] = f(r, row[lane], a, b);
            lane += 1;
        }
        lanes[r] = row;
    }
    lanes
}

/// The sum of each row's lanes, halves added to halves.
#[inline(always)]
pub(super) fn sum_lanes<const R: usize>(mut lanes: [[f32; LANES]; R]) -> [f32; R] {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            for lanes in &mut lanes {
                lanes[i] += lanes[i + half];
            }
        }
        half /= 2;
    }
    let mut sums = [0f32; R];
    for r in 0..R {
        sums[r] = lanes[r][0];
    }
    sums
}

/// GELU in its tanh form, ½·x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³), and its derivative.
///
/// Since 1 + tanh u = 2·σ(2u), it is x·σ(2u), and the derivative σ + x·σ·(1 − σ)·2u'.
#[inline(always)]
pub(super) fn gelu(x: f32) -> (f32, f32) {
    /// 2·√(2/π), and that times 0.044715.
    const A: f32 = 1.595_769_2;
    const B: f32 = 0.071_354_82;
    let square = x * x;
    let e = exp(-x * square.mul_add(B, A));
    let sigmoid = 1.0 / (1.0 + e);
    let value = x * sigmoid;
    let slope = square.mul_add(3.0 * B, A);
    // 1 − σ = e·σ, without cancellation.
    (value, (value * (e * sigmoid)).mul_add(slope, sigmoid))
}

//! Sums in 16 lanes: the one order in which everything here is added.
//!
//! Lane `l` takes the elements `l`, `l + 16`, `l + 32` ... in turn; then the lanes are folded in
//! halves. Sixteen lanes fill two or four vector registers, enough to hide an addition's latency.

/// Lanes of a sum.
pub(super) const LANES: usize = 16;

/// Folds the lanes.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The dot products of `TILE` rows, one after the other in `weights`, with `x`.
#[inline(always)]
pub(super) fn dots<const TILE: usize>(weights: &[f32], x: &[f32]) -> [f32; TILE] {
    let mut sums = [[0.0f32; LANES]; TILE];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let rows: [&[f32]; TILE] = core::array::from_fn(|t| &weights[t * x.len()..][..x.len()]);
    let whole: [&[[f32; LANES]]; TILE] =
        core::array::from_fn(|t| &rows[t].as_chunks::<LANES>().0[..chunks.len()]);
    for c in 0..chunks.len() {
        for t in 0..TILE {
            for l in 0..LANES {
                sums[t][l] += whole[t][c][l] * chunks[c][l];
            }
        }
    }
    let first = x.len() - rest.len();
    for t in 0..TILE {
        for (l, x) in rest.iter().enumerate() {
            sums[t][l] += rows[t][first + l] * x;
        }
    }
    sums.map(fold)
}

/// The sum of `f` over the elements.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            sums[l] += f(chunk[l]);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(x);
    }
    fold(sums)
}

/// The largest element; negative infinity for none. NaN is passed over.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

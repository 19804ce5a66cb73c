//! What is drawn from logits, so that these need not come back: the likeliest token, or the 64
//! likeliest with the sum over all.

use std::sync::Arc;

use crate::buffer::Binding;
use crate::compose::{compose, room, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::limits::GROUPS_MAX;
use crate::step::Step;

/// Candidates that come back for a row.
pub const CANDIDATES: usize = 64;

/// Threads of a workgroup, and items that it works on.
const THREADS: usize = 256;
const ITEMS: usize = 4096;

/// Parts that are joined by one workgroup.
const PARTS: usize = ITEMS / CANDIDATES;

/// Words before the candidates of a part.
const HEADER: usize = 4;

/// A candidate that there is not, in rows of fewer than 64 logits.
const NONE: u32 = u32::MAX;

/// What is wanted of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawKind {
    /// The likeliest token.
    Likeliest,
    /// The 64 likeliest too.
    Candidates,
}

impl DrawKind {
    /// Words of a result.
    const fn words(self) -> usize {
        match self {
            Self::Likeliest => HEADER,
            Self::Candidates => HEADER + 2 * CANDIDATES,
        }
    }
}

/// What came back for a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The likeliest token, the lowest id among equals; `u32::MAX` where no logit is a number.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
    /// The sum of the exponentials of all logits' distances to it; its logarithm plus `logit` is
    /// that of the whole sum.
    pub sum: f32,
    /// Whether all logits are numbers. Nothing may be drawn from others.
    pub sound: bool,
    /// The likeliest tokens and their logits, likeliest first and among equals the lowest id
    /// first: 64, or all that there are; none unless they were asked for.
    pub candidates: Vec<(u32, f32)>,
}

/// Kernels of one kind.
#[derive(Clone, Debug)]
struct Levels {
    logits: Arc<Kernel>,
    parts: Arc<Kernel>,
}

/// Draws from rows of logits.
#[derive(Clone, Debug)]
pub struct Draw {
    likeliest: Levels,
    candidates: Levels,
}

impl Draw {
    /// Compiles the kernels.
    ///
    /// # Errors
    /// A shader that does not compile, a lost device.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let compile = |name, kind: DrawKind, merge: bool| {
            let constants = [
                ("THREADS", THREADS.into()),
                ("ENTRY", kind.words().into()),
                ("SELECT", (kind == DrawKind::Candidates).into()),
                ("MERGE", merge.into()),
            ];
            let files = [include_str!("shaders/fold.wgsl"), include_str!("shaders/draw.wgsl")];
            let source = compose(&constants, &files);
            gpu.kernel(name, &source, &[Access::Read, Access::Write], &[])
        };
        let levels = |logits, parts, kind| {
            Ok(Levels { logits: compile(logits, kind, false)?, parts: compile(parts, kind, true)? })
        };
        Ok(Self {
            likeliest: levels("likeliest", "likeliest of parts", DrawKind::Likeliest)?,
            candidates: levels("candidates", "candidates of parts", DrawKind::Candidates)?,
        })
    }

    /// Bytes of the two buffers that [`Draw::record`] writes, for rows of so many logits: either
    /// may be the larger one, so both have this size.
    #[must_use]
    pub const fn scratch_bytes(kind: DrawKind, rows: usize, vocab: usize) -> u64 {
        let parts = if vocab > ITEMS { vocab.div_ceil(ITEMS) } else { 1 };
        (rows as u64).saturating_mul(parts as u64).saturating_mul(kind.words() as u64 * 4)
    }

    /// Draws from each row of `logits`, `[rows, vocab]`, `f32`. The result lies at the start of one
    /// of the two buffers of `scratch`: `false` is the first. [`Draw::result_bytes`] of it are to
    /// be read back.
    pub fn record(
        &self,
        step: &mut Step<'_>,
        kind: DrawKind,
        rows: usize,
        vocab: usize,
        logits: Binding<'_>,
        scratch: [Binding<'_>; 2],
    ) -> bool {
        if rows > GROUPS_MAX || vocab == 0 {
            let what = format!("{rows} rows of {vocab} logits cannot be drawn from in one run");
            step.fail(GpuError::misuse(what));
            return false;
        }
        room(step, "logits", logits, rows.saturating_mul(vocab));
        let bytes = Self::scratch_bytes(kind, rows, vocab);
        for scratch in scratch {
            room(step, "parts of draws", scratch, (bytes / 4) as usize);
        }
        let levels = match kind {
            DrawKind::Likeliest => &self.likeliest,
            DrawKind::Candidates => &self.candidates,
        };
        let mut parts = vocab.div_ceil(ITEMS);
        let params = [word(step, vocab), word(step, vocab)];
        let rows = word(step, rows);
        step.run(&levels.logits, &[logits, scratch[0]], &params, [parts as u32, rows, 1]);
        let mut second = false;
        while parts > 1 {
            let params = [word(step, parts), word(step, parts * kind.words())];
            parts = parts.div_ceil(PARTS);
            let [from, to] = if second { [scratch[1], scratch[0]] } else { scratch };
            step.run(&levels.parts, &[from, to], &params, [parts as u32, rows, 1]);
            second = !second;
        }
        second
    }

    /// Bytes that are to be read back.
    #[must_use]
    pub const fn result_bytes(kind: DrawKind, rows: usize) -> u64 {
        (rows as u64).saturating_mul(kind.words() as u64 * 4)
    }

    /// What the bytes that were read back say, row after row.
    #[must_use]
    pub fn results(kind: DrawKind, bytes: &[u8]) -> Vec<Drawn> {
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes.as_chunks::<4>().0);
        let one = |words: &[u32]| {
            let (header, candidates) = words.split_first_chunk::<HEADER>()?;
            let [token, logit, sum, broken] = *header;
            let pairs = candidates.as_chunks::<2>().0.iter();
            let kept = pairs.filter(|[token, _]| *token != NONE);
            Some(Drawn {
                token,
                logit: f32::from_bits(logit),
                sum: f32::from_bits(sum),
                sound: broken == 0,
                candidates: kept.map(|[token, logit]| (*token, f32::from_bits(*logit))).collect(),
            })
        };
        words.chunks_exact(kind.words()).filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{both, upload, values};

    fn run(gpu: &Gpu, kind: DrawKind, rows: usize, logits: &[f32]) -> Vec<Drawn> {
        let draw = Draw::new(gpu).unwrap();
        let vocab = logits.len() / rows;
        let logits = upload(gpu, logits);
        let bytes = Draw::scratch_bytes(kind, rows, vocab);
        let scratch = [(); 2].map(|()| gpu.buffer("scratch", bytes).unwrap());
        let mut step = gpu.step();
        let [first, second] = scratch.each_ref();
        let at =
            draw.record(&mut step, kind, rows, vocab, logits.all(), [first.all(), second.all()]);
        let result = if at { second } else { first };
        let ticket = step.read(result, 0..Draw::result_bytes(kind, rows));
        Draw::results(kind, step.submit().unwrap().bytes(ticket))
    }

    fn check(found: &Drawn, logits: &[f32], kind: DrawKind) {
        let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        let top = all[0];
        assert_eq!((found.token, found.logit), top);
        assert!(found.sound);
        let sum: f64 = logits.iter().map(|x| f64::from(x - top.1).exp()).sum();
        // Exponentials of devices are good to some units in the last place.
        assert!((f64::from(found.sum) / sum - 1.0).abs() < 3e-6, "{} {sum}", found.sum);
        all.truncate(if kind == DrawKind::Candidates { CANDIDATES } else { 0 });
        assert_eq!(found.candidates, all);
    }

    #[test]
    fn the_likeliest_are_exact_and_in_order_whatever_the_size() {
        for gpu in both() {
            for kind in [DrawKind::Likeliest, DrawKind::Candidates] {
                for (rows, vocab) in
                    [(1, 1), (3, 5), (2, 64), (2, 65), (4, 4095), (3, 4097), (2, 49_152)]
                {
                    let logits: Vec<f32> =
                        values(rows * vocab, vocab as u64).iter().map(|x| x * 20.0).collect();
                    let found = run(gpu, kind, rows, &logits);
                    assert_eq!(found.len(), rows);
                    for (found, logits) in found.iter().zip(logits.chunks(vocab)) {
                        check(found, logits, kind);
                    }
                }
            }
        }
    }

    #[test]
    fn more_parts_than_one_workgroup_joins() {
        let gpu = crate::testing::gpu();
        let logits = values(PARTS * ITEMS + 1, 5);
        for kind in [DrawKind::Likeliest, DrawKind::Candidates] {
            check(&run(gpu, kind, 1, &logits)[0], &logits, kind);
        }
    }

    #[test]
    fn of_equal_logits_the_lowest_ids_come_first() {
        for gpu in both() {
            for (levels, vocab) in [(1, 9_000), (3, 9_000), (40, 20_000), (2, 100)] {
                let logits: Vec<f32> = values(vocab, 8)
                    .iter()
                    .map(|x| {
                        ((x * levels as f32).round() / 2.0) * if *x > 0.0 { 1.0 } else { -0.0 }
                    })
                    .collect();
                let found = run(gpu, DrawKind::Candidates, 1, &logits);
                check(&found[0], &logits, DrawKind::Candidates);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_told_and_infinities_are_in_order() {
        for gpu in both() {
            for kind in [DrawKind::Likeliest, DrawKind::Candidates] {
                let mut logits = values(10_000, 2);
                logits[3] = f32::NEG_INFINITY;
                logits[9_000] = f32::INFINITY;
                let found = &run(gpu, kind, 1, &logits)[0];
                assert_eq!((found.token, found.logit, found.sound), (9_000, f32::INFINITY, true));
                for nan in [f32::NAN, -f32::NAN] {
                    logits[77] = nan;
                    let found = &run(gpu, kind, 1, &logits)[0];
                    assert_eq!((found.token, found.sound), (9_000, false));
                }
                let none = vec![f32::NAN; 5000];
                assert!(!run(gpu, kind, 1, &none)[0].sound);
                let low = vec![f32::NEG_INFINITY; 5000];
                let found = &run(gpu, kind, 1, &low)[0];
                assert_eq!((found.token, found.logit, found.sound), (0, f32::NEG_INFINITY, true));
            }
        }
    }
}

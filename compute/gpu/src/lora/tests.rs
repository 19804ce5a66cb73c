//! What adapters add, against the reference.

use openledger_kernels::reference::lora_add;

use super::*;
use crate::testing::{both, distance, floats, gpu, upload, values};

/// Sums of up to a few thousand products in another order; halves and codes are compared as what
/// they stand for.
const TOLERANCE: f32 = 3e-6;

const FORMATS: [ArenaFormat; 2] = [ArenaFormat::F16, ArenaFormat::Q8];

/// Matrices A and B of one site.
struct Made {
    rank: usize,
    cols: usize,
    rows: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    scale: f32,
}

impl Made {
    /// Numbers that the format stores exactly, so that both sides compute with the same.
    fn new(format: ArenaFormat, rank: usize, cols: usize, rows: usize, seed: u64) -> Self {
        let mut a = values(rank * cols, seed);
        let mut b = values(rank * rows, seed + 1);
        match format {
            ArenaFormat::F16 => {
                for x in a.iter_mut().chain(&mut b) {
                    *x = (*x * 1024.0).round() / 1024.0;
                }
                // Subnormal halves are numbers too.
                b[0] = 2f32.powi(-20);
            }
            ArenaFormat::Q8 => {
                for block in a.chunks_mut(cols).flat_map(|row| row.chunks_mut(32)) {
                    block.iter_mut().for_each(|x| *x = (*x * 126.0).round() / 64.0);
                    block[0] = 127.0 / 64.0;
                }
                b.iter_mut().for_each(|x| *x = (*x * 126.0).round() / 32.0);
                b[..rank].fill(-127.0 / 32.0);
            }
        }
        Self { rank, cols, rows, a, b, scale: 0.5 + seed as f32 / 64.0 }
    }

    fn matrices(&self) -> LoraMatrices<'_> {
        let Self { rank, cols, rows, scale, .. } = *self;
        LoraMatrices { rank, cols, rows, a: &self.a, b: &self.b, scale }
    }

    /// What the reference adds to a row.
    fn add(&self, weight: f32, x: &[f32], out: &mut [f32]) {
        let (rank, rows) = (self.rank, self.rows);
        let turned: Vec<f32> =
            (0..rank * rows).map(|i| self.b[i % rows * rank + i / rows]).collect();
        lora_add(x, &self.a, &turned, self.scale * weight, out).unwrap();
    }
}

/// Runs all outputs of a batch at once and compares with the reference.
fn compare(
    gpu: &Gpu,
    format: ArenaFormat,
    cols: usize,
    widths: &[usize],
    ranks: &[&[usize]],
    groups: &[(Vec<LoraPart>, Vec<u32>)],
    tokens: usize,
) {
    let sites = widths.len();
    let mut arena = LoraArena::new(gpu, 8 << 20, ranks.len(), sites, format).unwrap();
    let mut adapters = Vec::new();
    for (slot, ranks) in ranks.iter().enumerate() {
        let made: Vec<Option<Made>> = (ranks.iter().zip(widths).enumerate())
            .map(|(site, (&rank, &width))| {
                let seed = (slot * 10 + site) as u64 + 1;
                (rank > 0).then(|| Made::new(format, rank, cols, width, seed))
            })
            .collect();
        let given: Vec<_> = made.iter().map(|made| made.as_ref().map(Made::matrices)).collect();
        assert!(arena.put(gpu, slot, &given).unwrap());
        adapters.push(made);
    }
    let rows: Vec<LoraRows<'_>> =
        groups.iter().map(|(parts, rows)| LoraRows { parts, rows }).collect();
    let batch = LoraBatch::new(&arena, tokens, &rows).unwrap();
    let x = values(tokens * cols, 99);
    let before: Vec<Vec<f32>> = widths.iter().map(|width| values(tokens * width, 5)).collect();
    let outs: Vec<_> = before.iter().map(|out| upload(gpu, out)).collect();
    let words = gpu.upload("batch", bytemuck::cast_slice(batch.words())).unwrap();
    let bytes = Lora::scratch_bytes(&batch, sites, cols);
    let scratch = upload(gpu, &vec![f32::NAN; bytes as usize / 4]);
    let xs = upload(gpu, &x);
    let outputs: Vec<_> = (outs.iter().zip(widths).enumerate())
        .map(|(site, (out, &width))| LoraOutput { site, out: out.all(), width })
        .collect();
    let input = LoraInput {
        x: xs.all(),
        cols,
        batch: words.all(),
        scratch: scratch.all(),
        outputs: &outputs,
    };
    let mut step = gpu.step();
    Lora::new(gpu, format).unwrap().record(&mut step, &batch, &arena, &input);
    step.submit().unwrap();
    for (site, (out, width)) in outs.iter().zip(widths).enumerate() {
        let mut expected = before[site].clone();
        for (parts, rows) in groups {
            for (&row, part) in rows.iter().flat_map(|row| parts.iter().map(move |p| (row, p))) {
                let row = row as usize;
                if let Some(made) = &adapters[part.slot][site] {
                    let out = &mut expected[row * width..][..*width];
                    made.add(part.weight, &x[row * cols..][..cols], out);
                }
            }
        }
        let found = distance(&floats(gpu, out), &expected);
        assert!(found < TOLERANCE, "{format:?} {cols} {widths:?} {ranks:?}: {found}");
    }
}

fn one(slot: usize) -> Vec<LoraPart> {
    vec![LoraPart { slot, weight: 1.0 }]
}

#[test]
fn each_row_gets_its_own_adapters_whatever_their_ranks() {
    for gpu in both() {
        for format in FORMATS {
            // Decoding: a row each, all ranks, rows in any order, some without an adapter.
            let ranks: [&[usize]; 6] = [&[1], &[4], &[7], &[16], &[33], &[130]];
            let groups: Vec<_> =
                (0..6).map(|slot| (one(slot), vec![11 - 2 * slot as u32])).collect();
            compare(gpu, format, 96, &[100], &ranks, &groups, 13);
            // A prompt: many rows of one adapter, and a few of another.
            let groups = [(one(1), (0..37).collect()), (one(0), vec![40, 38])];
            compare(gpu, format, 64, &[36], &[&[8], &[5]], &groups, 41);
            // Wide inputs are shared among workgroups.
            let groups = [(one(0), vec![0, 1, 2]), (one(1), vec![4])];
            compare(gpu, format, 4160, &[576], &[&[16], &[3]], &groups, 5);
        }
    }
}

#[test]
fn outputs_that_share_an_input_are_served_together_and_mixtures_add_up() {
    for gpu in both() {
        for format in FORMATS {
            let ranks: [&[usize]; 4] = [&[4, 0, 9], &[0, 0, 2], &[16, 3, 1], &[5, 5, 5]];
            let mixed = vec![
                LoraPart { slot: 0, weight: 0.6 },
                LoraPart { slot: 2, weight: -0.4 },
                LoraPart { slot: 3, weight: 1.5 },
            ];
            let groups = [(mixed, vec![1, 5, 2, 6, 0]), (one(1), vec![3]), (one(2), vec![7, 4])];
            compare(gpu, format, 64, &[192, 64, 64], &ranks, &groups, 9);
            compare(
                gpu,
                format,
                576,
                &[1536, 1536],
                &[&[16, 16], &[2, 0]],
                &[(one(0), vec![1])],
                2,
            );
        }
    }
}

#[test]
fn memory_is_taken_and_given_back_in_one_piece() {
    let gpu = gpu();
    let made = |rank| Made::new(ArenaFormat::F16, rank, 32, 32, 1);
    let bytes = |rank: u64| rank * 32 * 2 * 2;
    let mut arena = LoraArena::new(gpu, bytes(10), 4, 1, ArenaFormat::F16).unwrap();
    let (four, two, three) = (made(4), made(2), made(3));
    let put = |arena: &mut LoraArena, slot, made: &Made| {
        arena.put(gpu, slot, &[Some(made.matrices())]).unwrap()
    };
    assert_eq!(arena.bytes_of(&[Some(four.matrices())]), bytes(4));
    assert!(put(&mut arena, 0, &four) && put(&mut arena, 1, &four) && put(&mut arena, 2, &two));
    assert!(!put(&mut arena, 3, &two));
    arena.remove(0);
    assert_eq!((arena.used_bytes(), arena.bytes()), (bytes(6), bytes(10)));
    assert!(put(&mut arena, 3, &three));
    assert_eq!(arena.rank(3, 0), 3);
    assert!(arena.put(gpu, 3, &[Some(two.matrices())]).is_err(), "the slot is taken");
    assert!(arena.put(gpu, 9, &[Some(two.matrices())]).is_err());
    assert!(!put(&mut arena, 0, &two), "what is free is not in one piece");
    arena.remove(3);
    assert!(put(&mut arena, 0, &four));
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = gpu();
    let mut arena = LoraArena::new(gpu, 1 << 16, 2, 1, ArenaFormat::Q8).unwrap();
    let made = Made::new(ArenaFormat::Q8, 2, 32, 32, 1);
    let wrong = LoraMatrices { rank: 3, ..made.matrices() };
    assert!(arena.put(gpu, 0, &[Some(wrong)]).is_err());
    assert!(arena.put(gpu, 0, &[None, None]).is_err());
    assert!(arena.put(gpu, 0, &[Some(made.matrices())]).unwrap());
    let rows = |parts, rows| [LoraRows { parts, rows }];
    let (held, empty) = (one(0), one(1));
    assert!(LoraBatch::new(&arena, 2, &rows(&held, &[0, 1])).is_ok());
    assert!(LoraBatch::new(&arena, 2, &rows(&held, &[2])).is_err());
    assert!(LoraBatch::new(&arena, 2, &rows(&held, &[1, 1])).is_err());
    assert!(LoraBatch::new(&arena, 2, &rows(&empty, &[1])).is_err());
    assert!(LoraBatch::new(&arena, 2, &rows(&[], &[1])).unwrap().is_empty());

    let batch = LoraBatch::new(&arena, 2, &rows(&held, &[0])).unwrap();
    let buffers = [(); 4].map(|()| upload(gpu, &[0.0; 256]));
    let [x, words, scratch, out] = buffers.each_ref().map(crate::Buffer::all);
    for (format, cols, width, site) in [
        (ArenaFormat::F16, 32, 32, 0),
        (ArenaFormat::Q8, 64, 32, 0),
        (ArenaFormat::Q8, 32, 64, 0),
        (ArenaFormat::Q8, 32, 32, 1),
    ] {
        let outputs = [LoraOutput { site, out, width }];
        let input = LoraInput { x, cols, batch: words, scratch, outputs: &outputs };
        let mut step = gpu.step();
        Lora::new(gpu, format).unwrap().record(&mut step, &batch, &arena, &input);
        assert!(step.submit().is_err());
    }
}

#[test]
fn numbers_that_are_not_finite_show() {
    let gpu = gpu();
    let mut made = Made::new(ArenaFormat::Q8, 2, 32, 32, 1);
    made.a[3] = f32::INFINITY;
    let mut words = Vec::new();
    ArenaFormat::Q8.put_a(&made.a, 32, &mut words);
    assert_eq!(words.len(), ArenaFormat::Q8.a_words(2, 32));
    assert!(f32::from_bits(words[0]).is_nan() && f32::from_bits(words[1]).is_finite());
    let mut arena = LoraArena::new(gpu, 1 << 16, 1, 1, ArenaFormat::Q8).unwrap();
    assert!(arena.put(gpu, 0, &[Some(made.matrices())]).unwrap());
}

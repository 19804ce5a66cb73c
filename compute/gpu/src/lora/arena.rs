//! The memory that all adapters share, and who lies where.

use core::ops::Range;

use super::encode::ArenaFormat;
use crate::buffer::Buffer;
use crate::error::GpuError;
use crate::gpu::Gpu;

/// An adapter's matrices at one site.
#[derive(Clone, Copy, Debug)]
pub struct LoraMatrices<'a> {
    /// The rank.
    pub rank: usize,
    /// Inputs, a multiple of 4.
    pub cols: usize,
    /// Outputs, a multiple of 4.
    pub rows: usize,
    /// `[rank, cols]`.
    pub a: &'a [f32],
    /// `[rows, rank]`.
    pub b: &'a [f32],
    /// What the product is multiplied with.
    pub scale: f32,
}

/// An adapter in the arena.
#[derive(Clone, Debug)]
struct Resident {
    words: Range<usize>,
    /// Rank, inputs and outputs of each site; zeros where it has none.
    sites: Vec<[usize; 3]>,
}

/// Adapters on the device: one buffer for all their matrices, and a table of where each one's lie.
///
/// A slot is an adapter's number on the device. Whoever uses slots sees to it that none is taken
/// away or given to another adapter while a recorded step still names it.
#[derive(Debug)]
pub struct LoraArena {
    format: ArenaFormat,
    sites: usize,
    data: Buffer,
    /// `[slots, sites]`: where A and B start, in words; the rank; the scale.
    table: Buffer,
    words: usize,
    slots: Vec<Option<Resident>>,
}

impl LoraArena {
    /// An empty arena of `bytes` for up to `slots` adapters, each of up to `sites` pairs of
    /// matrices (a site is a place of the model: a layer's query, say).
    ///
    /// # Errors
    /// More bytes than the device has left, or than a kernel can see at once.
    pub fn new(
        gpu: &Gpu,
        bytes: u64,
        slots: usize,
        sites: usize,
        format: ArenaFormat,
    ) -> Result<Self, GpuError> {
        let most = gpu.features().max_binding_bytes;
        if bytes > most {
            let what = "an arena of adapters, of which a kernel sees no more at once,".to_owned();
            return Err(GpuError::Memory { what, bytes, left: most, budget: most });
        }
        let words = (bytes / 8 * 2) as usize;
        let entries = (slots as u64).saturating_mul(sites as u64).max(1);
        Ok(Self {
            format,
            sites,
            data: gpu.buffer("adapters", (words as u64 * 4).max(8))?,
            table: gpu.buffer("the table of adapters", entries.saturating_mul(16))?,
            words,
            slots: vec![None; slots],
        })
    }

    /// How it stores.
    #[must_use]
    pub const fn format(&self) -> ArenaFormat {
        self.format
    }

    /// Sites of an adapter.
    #[must_use]
    pub const fn sites(&self) -> usize {
        self.sites
    }

    /// Bytes in all.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.words as u64 * 4
    }

    /// Bytes that adapters take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.slots.iter().flatten().map(|held| held.words.len() as u64 * 4).sum()
    }

    /// What an adapter takes, in bytes.
    #[must_use]
    pub fn bytes_of(&self, sites: &[Option<LoraMatrices<'_>>]) -> u64 {
        let words = |site: &LoraMatrices<'_>| {
            self.format.a_words(site.rank, site.cols).next_multiple_of(2)
                + self.format.b_words(site.rank, site.rows).next_multiple_of(2)
        };
        sites.iter().flatten().map(words).sum::<usize>() as u64 * 4
    }

    /// The rank of an adapter at a site; 0 where it has none.
    #[must_use]
    pub fn rank(&self, slot: usize, site: usize) -> usize {
        let held = self.slots.get(slot).and_then(Option::as_ref);
        held.and_then(|held| held.sites.get(site)).map_or(0, |[rank, ..]| *rank)
    }

    /// Whether a slot holds an adapter.
    #[must_use]
    pub fn holds(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Option::is_some)
    }

    /// Puts an adapter into a free slot. Returns whether there was room in one piece: without, the
    /// caller takes others away and tries again. Steps that are submitted later see it.
    ///
    /// # Errors
    /// A slot that is taken or not there, matrices whose lengths disagree, a lost device.
    pub fn put(
        &mut self,
        gpu: &Gpu,
        slot: usize,
        sites: &[Option<LoraMatrices<'_>>],
    ) -> Result<bool, GpuError> {
        if !self.slots.get(slot).is_some_and(Option::is_none) || sites.len() > self.sites {
            let (all, own) = (self.slots.len(), self.sites);
            let given = sites.len();
            return Err(GpuError::misuse(format!(
                "slot {slot} of {all} is taken or not there, or {given} sites are more than {own}"
            )));
        }
        for site in sites.iter().flatten() {
            check(site)?;
        }
        let len = (self.bytes_of(sites) / 4) as usize;
        let Some(start) = self.room(len) else { return Ok(false) };
        let (mut words, mut table) = (Vec::with_capacity(len), Vec::new());
        let mut shapes = Vec::with_capacity(sites.len());
        for site in sites {
            let Some(site) = site else {
                table.extend([0; 4]);
                shapes.push([0; 3]);
                continue;
            };
            let a = start + words.len();
            self.format.put_a(site.a, site.cols, &mut words);
            words.resize(words.len().next_multiple_of(2), 0);
            let b = start + words.len();
            self.format.put_b(site.b, site.rank, &mut words);
            words.resize(words.len().next_multiple_of(2), 0);
            table.extend([a as u32, b as u32, site.rank as u32, site.scale.to_bits()]);
            shapes.push([site.rank, site.cols, site.rows]);
        }
        table.resize(self.sites * 4, 0);
        gpu.write(&self.data, start as u64 * 4, bytemuck::cast_slice(&words))?;
        let entry = slot as u64 * self.sites as u64 * 16;
        gpu.write(&self.table, entry, bytemuck::cast_slice(&table))?;
        if let Some(held) = self.slots.get_mut(slot) {
            *held = Some(Resident { words: start..start + words.len(), sites: shapes });
        }
        Ok(true)
    }

    /// Takes an adapter away; its memory is free at once.
    pub fn remove(&mut self, slot: usize) {
        if let Some(held) = self.slots.get_mut(slot) {
            *held = None;
        }
    }

    /// Where so many words are free, the lowest such place.
    fn room(&self, len: usize) -> Option<usize> {
        let mut taken: Vec<&Range<usize>> =
            self.slots.iter().flatten().map(|held| &held.words).collect();
        taken.sort_unstable_by_key(|words| words.start);
        let mut start = 0;
        for words in taken {
            if words.start.saturating_sub(start) >= len {
                return Some(start);
            }
            start = start.max(words.end);
        }
        (self.words.saturating_sub(start) >= len).then_some(start)
    }

    /// Whether all adapters that have this site have it with these sizes.
    pub(super) fn fits(&self, site: usize, cols: usize, rows: usize) -> Result<(), GpuError> {
        for [rank, own_cols, own_rows] in
            self.slots.iter().flatten().filter_map(|held| held.sites.get(site))
        {
            if *rank > 0 && (*own_cols, *own_rows) != (cols, rows) {
                return Err(GpuError::misuse(format!(
                    "an adapter's matrices at site {site} are for {own_cols} inputs and {own_rows} \
                     outputs, the model has {cols} and {rows}"
                )));
            }
        }
        Ok(())
    }

    pub(super) const fn data(&self) -> &Buffer {
        &self.data
    }

    pub(super) const fn table(&self) -> &Buffer {
        &self.table
    }

    /// Slots that there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}

fn check(site: &LoraMatrices<'_>) -> Result<(), GpuError> {
    let LoraMatrices { rank, cols, rows, a, b, .. } = *site;
    let fours = cols.is_multiple_of(4) && rows.is_multiple_of(4) && cols > 0 && rows > 0;
    let sized = a.len() == rank.saturating_mul(cols) && b.len() == rank.saturating_mul(rows);
    if rank == 0 || !fours || !sized {
        let (has_a, has_b) = (a.len(), b.len());
        return Err(GpuError::misuse(format!(
            "an adapter of rank {rank}, {cols} inputs and {rows} outputs (multiples of 4) has \
             {has_a} and {has_b} numbers"
        )));
    }
    Ok(())
}

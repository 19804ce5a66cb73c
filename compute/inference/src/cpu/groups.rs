//! Which rows of a plan share an adapter: worked out once per step, used at every site.
//!
//! A row of a mixture is in several groups. Groups come in the order of their adapters' ids, so a
//! row's updates are added in an order that depends on its own adapters alone: neither on its
//! company nor on when an adapter was loaded.

use openledger_kernels::fused::LoraGroup;
use openledger_models::Site;

use crate::adapters::LoadedAdapter;
use crate::plan::StepPlan;

/// The rows that share an adapter and its weight.
struct Group<'a> {
    adapter: &'a LoadedAdapter,
    scale: f32,
    /// Where its rows lie in [`Groups::rows`].
    first: usize,
    count: usize,
}

/// All groups of a step.
pub(crate) struct Groups<'a> {
    groups: Vec<Group<'a>>,
    rows: &'a [u32],
}

/// One row's use of one adapter.
#[derive(Clone, Copy)]
struct Use<'a> {
    adapter: &'a LoadedAdapter,
    weight: f32,
    row: u32,
}

impl Use<'_> {
    /// What makes rows share a group, and groups follow each other.
    fn key(&self) -> ([u8; 32], u64, u32) {
        (self.adapter.id().0, self.adapter.generation().0, self.weight.to_bits())
    }
}

impl<'a> Groups<'a> {
    /// Sorts a plan's rows by adapter; `rows` holds the result.
    pub(crate) fn new(plan: &'a StepPlan, rows: &'a mut Vec<u32>) -> Self {
        let mut uses = Vec::new();
        for (row, number) in plan.rows.iter().zip(0u32..) {
            let Some(sequence) = plan.sequences.get(row.sequence) else { continue };
            for (adapter, weight) in sequence.adapters.parts() {
                uses.push(Use { adapter, weight: *weight, row: number });
            }
        }
        uses.sort_by_key(|one| (one.key(), one.row));
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut last = None;
        for (index, one) in uses.iter().enumerate() {
            let key = Some(one.key());
            match groups.last_mut().filter(|_| key == last) {
                Some(group) => group.count += 1,
                None => {
                    let scale = one.adapter.scale() * one.weight;
                    groups.push(Group { adapter: one.adapter, scale, first: index, count: 1 });
                }
            }
            last = key;
        }
        rows.clear();
        rows.extend(uses.iter().map(|one| one.row));
        Self { groups, rows }
    }

    /// How many there are; none if every row runs the bare base.
    pub(crate) const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Fills `found` with what adapters add at a site.
    pub(crate) fn at<'s>(&'s self, layer: usize, site: Site, found: &mut Vec<LoraGroup<'s>>) {
        found.clear();
        found.extend(self.groups.iter().filter_map(|group| {
            let site = group.adapter.site(layer, site)?;
            let rows = self.rows.get(group.first..group.first + group.count)?;
            Some(LoraGroup { site, scale: group.scale, rows })
        }));
    }
}

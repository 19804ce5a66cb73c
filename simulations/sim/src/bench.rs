//! Benchmarks of the rules themselves.
//!
//! Figures here are timed and decide nothing. Benchmarks of other areas are programs of their own,
//! started by this command as they appear.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use openledger_rules::assign::{self, Constraints};
use openledger_rules::nodeset::{NodeRow, NodeSet};
use openledger_rules::sumtree::SumTree;
use openledger_wire::log::Whereabouts;
use openledger_wire::{AccountId, EvmAddress, NodeId, Open};

use crate::figures::{Figures, Kind};
use crate::random::Random;

/// The names of all benchmarks.
pub const NAMES: &[&str] = &["rules"];

/// Runs a benchmark; `full` takes production sizes, else it ends within seconds.
pub fn run(name: &str, full: bool) -> Result<Figures> {
    match name {
        "rules" => rules(if full { 1_000_000 } else { 100_000 }),
        _ => {
            bail!("run benchmark {name:?}: there is none of this name; known: {}", NAMES.join(", "))
        }
    }
}

fn rules(nodes: u32) -> Result<Figures> {
    let mut figures = Figures::new("rules");
    let mut random = Random::new(1, "bench");
    let rows: Vec<NodeRow> = (0..nodes)
        .map(|number| {
            let subnet = number.to_be_bytes();
            NodeRow {
                node: NodeId(random.bytes()),
                account: AccountId(random.bytes()),
                weight_milli: 1_000,
                vetted: true,
                whereabouts: Whereabouts {
                    subnet: [4, subnet[0], subnet[1], subnet[2], subnet[3], 0, 0],
                    asn: 0,
                },
                cohort: u64::from(number),
                founding: false,
            }
        })
        .collect();
    let set = NodeSet::new(rows);
    let begun = Instant::now();
    let draws = 20;
    for draw in 0..draws {
        let seed = [draw; 32];
        let drawn = assign::draw(&seed, &set, 2, &Default::default(), &[], &Constraints::STRICT);
        ensure!(drawn.len() == 2, "a draw found too few nodes");
    }
    let per_draw = begun.elapsed().as_secs_f64() / f64::from(draws);
    figures.show(&format!("one draw of 2 among {nodes} nodes"), per_draw * 1e3, "ms", Kind::Timed);
    let leaves = (0..nodes).map(|_| {
        let bytes = random.bytes();
        let mut address = [0u8; 20];
        address.copy_from_slice(&bytes[..20]);
        (EvmAddress(address), Open(1_000))
    });
    let leaves = leaves.collect();
    let begun = Instant::now();
    let tree = SumTree::build(leaves)?;
    let built = begun.elapsed().as_secs_f64();
    figures.show(&format!("settlement tree of {nodes} accounts"), built, "s", Kind::Timed);
    figures.equals(
        "settlement tree: total",
        tree.total().0.to_string(),
        (u128::from(nodes) * 1_000).to_string(),
    );
    Ok(figures)
}

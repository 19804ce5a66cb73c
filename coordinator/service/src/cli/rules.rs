//! `rules`: what a network profile can name as its rule set.

use openledger_refine::PROFILE_V1;
use openledger_rules::RuleSet;
use serde_json::{Value, json};

use super::print;

pub(super) fn list(as_json: bool) -> anyhow::Result<()> {
    let refine = PROFILE_V1.profile_id();
    let mut rows = Vec::new();
    for rules in RuleSet::released(refine) {
        rows.push(json!({
            "name": &*rules.name,
            "id": rules.id()?,
            "round_ms": rules.round_ms,
            "epoch_ms": rules.epoch_ms,
            "epoch_budget": rules.epoch_budget,
            "vest_epochs": rules.vest_epochs,
            "vest_accepted": rules.vest_accepted,
            "infer": rules.infer,
        }));
    }
    if as_json {
        return print(&Value::Array(rows), true);
    }
    for row in &rows {
        print(row, false)?;
    }
    Ok(())
}

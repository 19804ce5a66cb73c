//! Which adapters a request names beside its model: one, several with weights, or several merged
//! into one.
//!
//! `merged_adapters` and `adapter_id` are LoRAX's; `adapters` is a list of names, or of objects with
//! a name and a weight. All of them need a base as `model`; a base alone is the bare base.

use openledger_wire::limits as wire_limits;
use serde_json::Value;

use super::ApiFailure;
use super::fields::{Fields, is_empty};
use super::names::Target;
use super::server::Context;
use crate::serving::wishes::MergeWish;

/// Largest weight: what the engine takes.
const WEIGHT_MAX: f64 = openledger_inference::limits::ADAPTER_WEIGHT_MAX as f64;

/// A name with its weight in thousandths.
type Weighted = (String, u32);

/// What `model` means together with the adapters that the request names.
///
/// # Errors
/// Names that nobody has or that are no adapters of the model; weights or methods that make no
/// sense.
pub(super) fn target(
    context: &Context,
    fields: &Fields,
    model: &str,
) -> Result<Target, ApiFailure> {
    let target = context.resolve(model)?;
    let Some((field, named, merge)) = named(fields)? else { return Ok(target) };
    if !target.adapters.is_empty() {
        let message =
            format!("with {field}, model must name a base; {model:?} has adapters itself");
        return Err(ApiFailure::invalid("model", message));
    }
    let mut adapters: Vec<(openledger_wire::BlobId, u32)> = Vec::with_capacity(named.len());
    for (name, weight) in named {
        let one = context.resolve(&name).map_err(|failed| failed.of(field))?;
        let [(adapter, _)] = one.adapters[..] else {
            let message = format!("{name:?} is no adapter; name the adapters of {model:?}");
            return Err(ApiFailure::invalid(field, message));
        };
        if one.base != target.base {
            let message = format!("adapter {name:?} was made for another base than {model:?}");
            return Err(ApiFailure::invalid(field, message));
        }
        if adapters.iter().any(|(other, _)| *other == adapter) {
            return Err(ApiFailure::invalid(field, format!("{name:?} is named twice")));
        }
        adapters.push((adapter, weight));
    }
    Ok(Target { adapters, merge, ..target })
}

type Named = (&'static str, Vec<Weighted>, Option<MergeWish>);

/// The adapters that a request names, in one of three ways.
fn named(fields: &Fields) -> Result<Option<Named>, ApiFailure> {
    let mut found: Option<Named> = None;
    let mut once = |named: Named| match &found {
        Some((other, ..)) => {
            let message = format!("{} is not allowed together with {other}", named.0);
            Err(ApiFailure::invalid(named.0, message))
        }
        None => {
            found = Some(named);
            Ok(())
        }
    };
    if let Some(id) = fields.text("adapter_id")? {
        once(("adapter_id", vec![(id.to_owned(), 1_000)], None))?;
    }
    if let Some(value) = fields.get("adapters").filter(|value| !is_empty(value)) {
        once(("adapters", list(value)?, None))?;
    }
    if let Some(value) = fields.get("merged_adapters").filter(|value| !is_empty(value)) {
        let (named, merge) = merged(value)?;
        once(("merged_adapters", named, Some(merge)))?;
    }
    if let Some((field, named, _)) = &found
        && named.len() > wire_limits::CALL_ADAPTERS_MAX
    {
        let most = wire_limits::CALL_ADAPTERS_MAX;
        let message = format!("{} adapters are more than {most}", named.len());
        return Err(ApiFailure::invalid(*field, message));
    }
    Ok(found)
}

/// `["a", {"name": "b", "weight": 0.5}]`.
fn list(value: &Value) -> Result<Vec<Weighted>, ApiFailure> {
    let wrong = || {
        let message = "adapters must be a list of names, or of objects with name and weight";
        ApiFailure::invalid("adapters", message)
    };
    let one = |value: &Value| match value {
        Value::String(name) => Ok((name.clone(), 1_000)),
        Value::Object(parts) => {
            let name = ["name", "id"].into_iter().find_map(|key| parts.get(key)?.as_str());
            let weight = parts.get("weight").map_or(Ok(1_000), |one| permille(one, "adapters"));
            Ok((name.ok_or_else(wrong)?.to_owned(), weight?))
        }
        _ => Err(wrong()),
    };
    value.as_array().ok_or_else(wrong)?.iter().map(one).collect()
}

/// `{"ids": [], "weights": [], "merge_strategy": "", "density": 0.5, "majority_sign_method": ""}`.
fn merged(value: &Value) -> Result<(Vec<Weighted>, MergeWish), ApiFailure> {
    const FIELD: &str = "merged_adapters";
    let wrong = |message: &str| ApiFailure::invalid(FIELD, message);
    let parts = value.as_object().ok_or_else(|| wrong("merged_adapters must be an object"))?;
    let text = |key: &str| match parts.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(&format!("{key} must be a text"))),
    };
    let ids = parts.get("ids").and_then(Value::as_array).filter(|ids| !ids.is_empty());
    let ids = ids.ok_or_else(|| wrong("ids must be a list of at least one adapter"))?;
    let mut named = Vec::with_capacity(ids.len());
    let weights = match parts.get("weights") {
        None | Some(Value::Null) => None,
        Some(Value::Array(weights)) if weights.is_empty() => None,
        Some(Value::Array(weights)) if weights.len() == ids.len() => Some(weights),
        Some(_) => return Err(wrong("weights must be a list with one number for each of ids")),
    };
    for (at, id) in ids.iter().enumerate() {
        let name = id.as_str().ok_or_else(|| wrong("each of ids must be a name"))?;
        let weight = weights.and_then(|weights| weights.get(at));
        let weight = weight.map_or(Ok(1_000), |weight| permille(weight, FIELD))?;
        named.push((name.to_owned(), weight));
    }
    let mut merge = MergeWish::default();
    if let Some(strategy) = text("merge_strategy")? {
        merge.strategy = strategy;
    }
    if let Some(method) = text("majority_sign_method")? {
        merge.majority_sign_method = method;
    }
    let density = parts.get("density").filter(|density| !is_empty(density));
    let needs_density = merge.strategy != MergeWish::default().strategy;
    match density.map(Value::as_f64) {
        Some(Some(density)) if density > 0.0 && density <= 1.0 => {
            // Within the range, so it fits.
            merge.density_permille = ((density * 1e3).round() as u16).max(1);
        }
        None if !needs_density => {}
        _ => return Err(wrong("density must be a number above 0 and at most 1: the share kept")),
    }
    merge.check().map_err(|(part, why)| wrong(&format!("{part}: failed to {why}")))?;
    Ok((named, merge))
}

fn permille(value: &Value, field: &'static str) -> Result<u32, ApiFailure> {
    let weight = value.as_f64().filter(|weight| (0.0..=WEIGHT_MAX).contains(weight));
    let weight = weight.ok_or_else(|| {
        ApiFailure::invalid(field, format!("a weight must be a number from 0 to {WEIGHT_MAX}"))
    })?;
    // Within the range, so it fits.
    Ok((weight * 1e3).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Option<Named>, ApiFailure> {
        named(&Fields::parse(value.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn adapters_are_named_in_three_ways() {
        assert!(read(&json!({"adapters": []})).unwrap().is_none());
        let (field, named, merge) = read(&json!({"adapter_id": "a"})).unwrap().unwrap();
        assert_eq!((field, named, merge), ("adapter_id", vec![("a".to_owned(), 1_000)], None));
        let asked = json!({"adapters": ["a", {"name": "b", "weight": 0.25}, {"id": "c"}]});
        let (_, named, merge) = read(&asked).unwrap().unwrap();
        let weights: Vec<u32> = named.iter().map(|(_, weight)| *weight).collect();
        assert_eq!((weights, merge), (vec![1_000, 250, 1_000], None));
        let asked = json!({"merged_adapters": {
            "ids": ["a", "b"], "weights": [1, 0.5], "merge_strategy": "ties", "density": 0.4,
            "majority_sign_method": "frequency",
        }});
        let (_, named, merge) = read(&asked).unwrap().unwrap();
        let merge = merge.unwrap();
        assert_eq!(named, [("a".to_owned(), 1_000), ("b".to_owned(), 500)]);
        assert!(merge.makes_product());
        assert_eq!(
            (merge.density_permille, merge.majority_sign_method.as_str()),
            (400, "frequency")
        );
        let plain = read(&json!({"merged_adapters": {"ids": ["a"]}})).unwrap().unwrap();
        assert!(!plain.2.unwrap().makes_product());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_field() {
        let many: Vec<String> = (0..9).map(|n| format!("a{n}")).collect();
        for (field, value) in [
            ("adapters", json!("a")),
            ("adapters", json!([5])),
            ("adapters", json!([{"weight": 1}])),
            ("adapters", json!([{"name": "a", "weight": -1}])),
            ("adapters", json!(many)),
            ("merged_adapters", json!({"ids": []})),
            ("merged_adapters", json!({"ids": ["a"], "weights": [1, 2]})),
            ("merged_adapters", json!({"ids": ["a"], "merge_strategy": "slerp", "density": 1})),
            ("merged_adapters", json!({"ids": ["a"], "merge_strategy": "ties"})),
            ("merged_adapters", json!({"ids": ["a"], "merge_strategy": "ties", "density": 2})),
            ("merged_adapters", json!({"ids": ["a"], "majority_sign_method": "x"})),
            ("merged_adapters", json!([])),
        ] {
            if is_empty(&value) {
                assert!(read(&json!({ field: value })).unwrap().is_none());
                continue;
            }
            let error = read(&json!({ field: value })).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{error:?}");
        }
        let both = json!({"adapter_id": "a", "adapters": ["b"]});
        assert!(read(&both).unwrap_err().message.contains("together with adapter_id"));
    }
}

//! What a server lists: its models, and adapters in the two ways that servers have.
//!
//! vLLM lists adapters as models with a `parent`; llama.cpp's server has numbers for them, and
//! scales that a request sets.

use std::collections::BTreeSet;

use openledger_wire::gossip::{Offer, OfferKind};
use openledger_wire::{BlobId, Text};
use serde::Deserialize;

use crate::limits;

/// Separates ids of such models from all other hashes.
const DOMAIN: &str = "openledger upstream model v1";

/// A model or adapter of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: BlobId,
    /// As the server calls it.
    pub(super) name: String,
    /// The base of an adapter.
    pub(super) base: Option<BlobId>,
    /// How llama.cpp's server numbers an adapter.
    pub(super) number: Option<u64>,
}

impl Listed {
    pub(super) fn offer(&self) -> Offer {
        let kind = self.base.map_or(OfferKind::Base, |base| OfferKind::Adapter { base });
        Offer { name: Text::clipped(&self.name), blob: self.id, bytes: 0, kind }
    }
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    parent: Option<String>,
}

#[derive(Deserialize)]
struct Adapter {
    id: u64,
    #[serde(default)]
    path: String,
}

fn id_of(url: &str, kind: &str, name: &str) -> BlobId {
    BlobId::of(format!("{DOMAIN}\n{url}\n{kind}\n{name}").as_bytes())
}

/// Reads `GET /v1/models`; of bases only those `allowed`, if any are named.
///
/// # Errors
/// What is wrong with it.
pub(super) fn models(
    url: &str,
    body: &[u8],
    allowed: &[String],
    adapters: bool,
) -> Result<Vec<Listed>, String> {
    let read: Models = serde_json::from_slice(body)
        .map_err(|error| format!("its list of models does not read: {error}"))?;
    let fits = |model: &&Model| {
        let length = model.id.len();
        (1..=limits::UPSTREAM_NAME_LEN_MAX).contains(&length)
            && !model.id.contains(char::is_control)
    };
    let all: Vec<&Model> =
        read.data.iter().filter(fits).take(limits::UPSTREAM_MODELS_MAX).collect();
    let names: BTreeSet<&str> = all.iter().map(|model| model.id.as_str()).collect();
    let parent = |model: &Model| {
        let parent = model.parent.clone().filter(|parent| names.contains(parent.as_str()))?;
        (parent != model.id).then_some(parent)
    };
    let is_allowed = |base: &str| allowed.is_empty() || allowed.iter().any(|name| name == base);
    let mut listed: Vec<Listed> = Vec::new();
    for model in &all {
        let base = parent(model);
        let wanted = match &base {
            None => is_allowed(&model.id),
            Some(base) => adapters && is_allowed(base),
        };
        if wanted && listed.iter().all(|known| known.name != model.id) {
            listed.push(Listed {
                id: id_of(url, "model", &model.id),
                name: model.id.clone(),
                base: base.map(|base| id_of(url, "model", &base)),
                number: None,
            });
        }
    }
    Ok(listed)
}

/// Reads `GET /lora-adapters`, for a server with one base.
pub(super) fn numbered(url: &str, body: &[u8], base: BlobId) -> Vec<Listed> {
    let Ok(read) = serde_json::from_slice::<Vec<Adapter>>(body) else { return Vec::new() };
    let name = |adapter: &Adapter| {
        let file = adapter.path.rsplit(['/', '\\']).next().unwrap_or_default();
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let plain = crate::serving::library::plain_name(stem);
        if plain.is_empty() { format!("adapter-{}", adapter.id) } else { plain }
    };
    let mut listed: Vec<Listed> = Vec::new();
    for adapter in read.iter().take(limits::UPSTREAM_MODELS_MAX) {
        let mut name = name(adapter);
        if listed.iter().any(|known| known.name == name) {
            name = format!("{name}-{}", adapter.id);
        }
        let id = id_of(url, "adapter", &format!("{} {name}", adapter.id));
        listed.push(Listed { id, name, base: Some(base), number: Some(adapter.id) });
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn adapters_are_models_with_a_parent() {
        let body = json!({"object": "list", "data": [
            {"id": "meta/base", "object": "model", "parent": null},
            {"id": "sql-lora", "parent": "meta/base", "root": "/x"},
            {"id": "other"}, {"id": "odd", "parent": "not listed"}, {"id": ""}, {"id": "a\nb"},
        ]});
        let body = body.to_string();
        let all = models("http://x", body.as_bytes(), &[], true).unwrap();
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["meta/base", "sql-lora", "other", "odd"]);
        assert_eq!(all[1].base, Some(all[0].id));
        assert_eq!(all[1].offer().kind, OfferKind::Adapter { base: all[0].id });
        let few = models("http://x", body.as_bytes(), &["other".to_owned()], true).unwrap();
        assert_eq!(few.len(), 1);
        assert_eq!(models("http://x", body.as_bytes(), &[], false).unwrap().len(), 3);
        assert_ne!(models("http://y", body.as_bytes(), &[], true).unwrap()[0].id, all[0].id);
        assert!(models("http://x", b"{\"data\": 5}", &[], true).is_err());
    }

    #[test]
    fn numbered_adapters_are_called_by_their_files() {
        let base = BlobId([1; 32]);
        let body = br#"[{"id":0,"path":"/a/poet.gguf","scale":1.0},{"id":1,"path":"b/poet.gguf"},{"id":2}]"#;
        let all = numbered("http://x", body, base);
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["poet", "poet-1", "adapter-2"]);
        assert_eq!((all[2].number, all[2].base), (Some(2), Some(base)));
        assert!(numbered("http://x", b"{}", base).is_empty());
    }
}

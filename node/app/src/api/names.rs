//! What `model` in a request means: a name, an id or its beginning, or `auto`.
//!
//! What is on this machine comes first: a peer cannot take over a name that is in use here. Names
//! of peers prove nothing, so several files of one name are an error that lists their ids.

use openledger_wire::BlobId;
use openledger_wire::gossip::{Offer, OfferKind};

use super::ApiFailure;
use crate::routing::Known;
use crate::serving::offers::is_named;
use crate::serving::wishes::MergeWish;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The base model.
    pub(super) base: BlobId,
    /// Adapters with their weights in thousandths.
    pub(super) adapters: Vec<(BlobId, u32)>,
    /// How they become one, if not by adding up.
    pub(super) merge: Option<MergeWish>,
}

/// The name that means this node's own base model.
pub(super) const AUTO: &str = "auto";

/// Weight of an adapter that is named alone.
const WHOLE_PERMILLE: u32 = 1_000;
/// Longest name that is looked at; ids have 64 characters.
const NAME_LEN_MAX: usize = 128;
/// Ids that an error lists.
const LISTED_MAX: usize = 8;

/// Finds out what a name means. `own_base` is the name or id of the base that the owner configured,
/// or empty.
///
/// # Errors
/// A name that nobody has, or that means several things.
pub(super) fn resolve(name: &str, known: &[Known], own_base: &str) -> Result<Target, ApiFailure> {
    if name.len() > NAME_LEN_MAX {
        let message = format!("a model's name has {NAME_LEN_MAX} characters at most");
        return Err(ApiFailure::no_model(message));
    }
    let offer = if name == AUTO { auto(known, own_base)? } else { named(name, known)? };
    Ok(match offer.kind {
        OfferKind::Base => Target { base: offer.blob, adapters: Vec::new(), merge: None },
        OfferKind::Adapter { base } => {
            let adapters = vec![(offer.blob, WHOLE_PERMILLE)];
            Target { base, adapters, merge: None }
        }
    })
}

fn named<'a>(name: &str, known: &'a [Known]) -> Result<&'a Offer, ApiFailure> {
    let found = |is_here: bool| -> Vec<&Offer> {
        let those = known.iter().filter(|known| known.is_here == is_here);
        those.map(|known| &known.offer).filter(|offer| is_named(offer, name)).collect()
    };
    let here = found(true);
    let candidates = if here.is_empty() { found(false) } else { here };
    match candidates.as_slice() {
        [one] => Ok(one),
        [] => {
            let message = format!(
                "the model {name:?} is neither on this node nor offered by any peer that it knows; GET /v1/models lists what is"
            );
            Err(ApiFailure::no_model(message))
        }
        several => Err(ambiguous(name, several)),
    }
}

fn auto<'a>(known: &'a [Known], own_base: &str) -> Result<&'a Offer, ApiFailure> {
    if !own_base.is_empty() {
        return named(own_base, known);
    }
    let bases = |is_here: bool| -> Vec<&Offer> {
        let those = known.iter().filter(|known| known.is_here == is_here);
        those.map(|known| &known.offer).filter(|offer| offer.kind == OfferKind::Base).collect()
    };
    let here = bases(true);
    let candidates = if here.is_empty() { bases(false) } else { here };
    match candidates.as_slice() {
        [one] => Ok(one),
        [] => {
            let message = "there is no base model, neither on this node nor at peers; add one with `openledger model add FILE`";
            Err(ApiFailure::no_model(message))
        }
        several => Err(ambiguous(AUTO, several)),
    }
}

fn ambiguous(name: &str, several: &[&Offer]) -> ApiFailure {
    let one = |offer: &&Offer| format!("{} ({})", offer.blob, &*offer.name);
    let ids: Vec<String> = several.iter().take(LISTED_MAX).map(one).collect();
    let message = format!(
        "the model {name:?} could be any of {}: {}; name one by its id, or set models.base for {AUTO:?}",
        several.len(),
        ids.join(", ")
    );
    ApiFailure::ambiguous_model(message)
}

/// The name under which a model is listed: its own where that means it alone, else its id.
pub(super) fn listed(known: &Known, all: &[Known]) -> String {
    let offer = &known.offer;
    let is_fit = !offer.name.is_empty() && &*offer.name != AUTO;
    let is_it = is_fit && named(&offer.name, all).is_ok_and(|one| one.blob == offer.blob);
    if is_it { offer.name.to_string() } else { offer.blob.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::Text;

    fn known(name: &str, id: u8, is_here: bool, base: Option<u8>) -> Known {
        let kind = match base {
            None => OfferKind::Base,
            Some(base) => OfferKind::Adapter { base: BlobId([base; 32]) },
        };
        let offer = Offer { name: Text::clipped(name), blob: BlobId([id; 32]), bytes: 9, kind };
        Known { offer, is_here, peers: usize::from(!is_here) }
    }

    #[test]
    fn names_ids_and_auto_lead_to_files() {
        let all = [
            known("smol", 1, true, None),
            known("poet", 2, true, Some(1)),
            known("poet", 3, false, Some(1)),
            known("cook", 4, false, Some(1)),
            known("cook", 5, false, Some(1)),
            known("other", 6, false, None),
        ];
        let base = |name: &str| resolve(name, &all, "").map(|target| target.base.0[0]);
        assert_eq!(base("smol"), Ok(1));
        assert_eq!(base("auto"), Ok(1), "the only one here, whatever peers have");
        assert_eq!(base("06060606"), Ok(6));
        let poet = resolve("poet", &all, "").unwrap();
        assert_eq!(poet.base, BlobId([1; 32]));
        assert_eq!(poet.adapters, [(BlobId([2; 32]), 1_000)], "ours, not the peer's");
        assert_eq!(resolve("auto", &all, "other").unwrap().base, BlobId([6; 32]));
        let several = resolve("cook", &all, "").unwrap_err();
        assert_eq!(several.code, "ambiguous_model");
        assert!(several.message.contains(&BlobId([4; 32]).to_string()), "{}", several.message);
        assert!(several.message.contains(&BlobId([5; 32]).to_string()));
        for nobodys in ["nobody", "0606", "", &"x".repeat(500)] {
            assert_eq!(resolve(nobodys, &all, "").unwrap_err().status.as_u16(), 404);
        }
        assert_eq!(listed(&all[0], &all), "smol");
        assert_eq!(listed(&all[2], &all), BlobId([3; 32]).to_string());
        assert_eq!(listed(&all[4], &all), BlobId([5; 32]).to_string());
    }

    #[test]
    fn auto_without_a_base_here_asks_peers_and_says_what_is_missing() {
        let peers = [known("smol", 1, false, None), known("poet", 2, false, Some(1))];
        assert_eq!(resolve("auto", &peers, "").unwrap().base, BlobId([1; 32]));
        let error = resolve("auto", &[], "").unwrap_err();
        assert!(error.message.contains("openledger model add"), "{}", error.message);
        let two = [known("a", 1, false, None), known("b", 2, false, None)];
        assert_eq!(resolve("auto", &two, "").unwrap_err().code, "ambiguous_model");
    }
}

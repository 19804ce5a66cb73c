//! What can be wrong with adapters: those of a request, and those that are loaded.

use openledger_kernels::ShapeError;
use openledger_models::{AdapterError, Site};
use openledger_wire::ids::BlobId;
use thiserror::Error;

use super::numbers::AdapterStorage;
use crate::limits::{ADAPTER_WEIGHT_MAX, ADAPTERS_PER_REQUEST_MAX};

/// Why the adapters of a request were refused, or will not come.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum AdapterSetError {
    /// The engine has never heard of it.
    #[error("adapter {id} is not loaded; fetch it and load it first")]
    Unknown {
        /// Which.
        id: BlobId,
    },
    /// It is registered, but this call cannot wait for it.
    #[error("adapter {id} is registered but not in memory; load it first")]
    Absent {
        /// Which.
        id: BlobId,
    },
    /// Whoever was to fetch it cannot.
    #[error("adapter {id} cannot be had ({reason}); try again later or without it")]
    Unavailable {
        /// Which.
        id: BlobId,
        /// What was in the way.
        reason: String,
    },
    /// The same adapter twice.
    #[error("adapter {id} is named twice; add its weights up")]
    Repeated {
        /// Which.
        id: BlobId,
    },
    /// A weight that makes no sense.
    #[error(
        "adapter {id} has the weight {weight}, which is not between -{ADAPTER_WEIGHT_MAX} and {ADAPTER_WEIGHT_MAX}"
    )]
    Weight {
        /// Which.
        id: BlobId,
        /// Its weight.
        weight: f32,
    },
    /// Too many.
    #[error("{asked} adapters asked for, at most {ADAPTERS_PER_REQUEST_MAX} can be mixed")]
    TooMany {
        /// How many, those of saved combinations counted one by one.
        asked: usize,
    },
    /// More than all memory for adapters.
    #[error(
        "its adapters take {bytes} bytes together, adapters may take {bytes_max}; ask for fewer or raise that limit"
    )]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What all may take.
        bytes_max: usize,
    },
    /// A density that keeps nothing, or no share at all.
    #[error("the density {density} is not above 0 and up to 1")]
    Density {
        /// What was asked for.
        density: f32,
    },
    /// Merging works number by number.
    #[error(
        "the adapters have different ranks ({first} and {second} at {site:?} in layer {layer}); merge adapters of one rank, or mix them with merge_strategy linear"
    )]
    Ranks {
        /// Where.
        layer: usize,
        /// Where.
        site: Site,
        /// The rank of one.
        first: usize,
        /// The rank of another.
        second: usize,
    },
    /// A combination in a combination.
    #[error("{id} is a saved combination, which cannot be part of another; name its adapters")]
    Nested {
        /// Which.
        id: BlobId,
    },
    /// A combination of nothing.
    #[error("the combination names no adapters; name at least one")]
    Nothing,
}

/// Why an adapter was not prepared for an engine.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum PrepareError {
    /// Its matrices have other shapes than the model's.
    #[error(
        "prepare an adapter: its matrix for {site:?} in layer {layer} does not fit this model; use it with the base it was trained on"
    )]
    OtherModel {
        /// Where.
        layer: usize,
        /// Where.
        site: Site,
    },
    /// It could not be read.
    #[error("prepare an adapter: {0}")]
    Read(#[from] AdapterError),
    /// A shape that its storage cannot have.
    #[error("prepare an adapter: {0}; use it with the reference backend")]
    Storage(#[from] ShapeError),
}

/// Why an adapter was not loaded.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum AdapterStoreError {
    /// Its matrices have other shapes than the model's.
    #[error(
        "load adapter {id}: its matrix for {site:?} in layer {layer} does not fit this model; use it with the base it was trained on"
    )]
    OtherModel {
        /// Which.
        id: BlobId,
        /// Where.
        layer: usize,
        /// Where.
        site: Site,
    },
    /// It was prepared for another kind of storage.
    #[error("load adapter {id}: it is stored as {found:?}, this engine's backend takes {wanted:?}")]
    OtherStorage {
        /// Which.
        id: BlobId,
        /// How it is stored.
        found: AdapterStorage,
        /// How it must be.
        wanted: AdapterStorage,
    },
    /// It could not be prepared.
    #[error("load adapter {id}: {source}")]
    Prepare {
        /// Which.
        id: BlobId,
        /// Why.
        source: PrepareError,
    },
    /// Its id stands for a saved combination.
    #[error("load adapter {id}: a combination is saved under that id; drop it first")]
    Combination {
        /// Which.
        id: BlobId,
    },
    /// Larger than all memory for adapters.
    #[error(
        "load adapter {id}: it takes {bytes} bytes, adapters may take {bytes_max} together; raise that limit"
    )]
    TooLarge {
        /// Which.
        id: BlobId,
        /// What it takes.
        bytes: usize,
        /// What all may take.
        bytes_max: usize,
    },
    /// All others are in use, or wanted by requests that have waited longer.
    #[error(
        "load adapter {id}: it takes {bytes} bytes, and running sequences use {pinned} of {bytes_max}; try again when some have ended"
    )]
    Full {
        /// Which.
        id: BlobId,
        /// What it takes.
        bytes: usize,
        /// What is in use.
        pinned: usize,
        /// What all may take.
        bytes_max: usize,
    },
}

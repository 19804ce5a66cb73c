//! A model as a graph: hidden states of tokens in, logits out.
//!
//! Embeddings are looked up before, from the model's file; keys and values live in our operators.
//! What the library computes: norms, products, sums.

use std::sync::Arc;

use openledger_models::{Model, NormSite, Site, Weight};
use ort::editor::ONNX_DOMAIN;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::TensorElementType::{Float32, Int64};

use super::error::OnnxError;
use super::graph::{Builder, MICROSOFT, OWN, real, whole};
use super::matrices::{Sums, product};
use super::operators::{ADAPT, ATTEND, GATE, HeadNorms, Pages, domain};
use super::step::Shared;
use crate::backend::BackendError;
use crate::cpu::Progress;
use crate::weights::{matrix, vector};

/// Inputs: hidden states of a step's tokens, `[rows, hidden]`; which rows draw a token; which are
/// wanted at all, those first.
pub(super) const STATES: &str = "states";
pub(super) const DRAWING: &str = "drawing";
pub(super) const WANTED: &str = "wanted";
/// Outputs: `[drawing, vocab]`, and `[wanted, hidden]` after the last norm.
pub(super) const LOGITS: &str = "logits";
pub(super) const LAST: &str = "last";

/// A graph of a model as it grows.
struct Decoder<'a> {
    model: &'a Model,
    graph: Builder,
    sums: Sums,
}

/// The session that runs a model's steps.
pub(super) fn session(
    model: &Model,
    shared: &Arc<Shared>,
    pages: Pages,
    builder: SessionBuilder,
    progress: &mut Progress<'_>,
) -> Result<Session, OnnxError> {
    let operators = domain(shared, head_norms(model)?, pages)?;
    let mut builder = builder.with_operators(operators)?;
    let mut decoder = Decoder { model, graph: Builder::new()?, sums: Sums::default() };
    let (layers, total) = (model.config().layers, model.file_bytes());
    // Half of the work is the library's, which repacks what it is given.
    let done = |part: usize| total / 2 / (layers + 1) * part;
    progress(0, total);
    let first = decoder.norm(Weight::Norm(0, NormSite::Attention), STATES)?;
    let mut state = (first, STATES.to_owned());
    for layer in 0..layers {
        state = decoder.layer(layer, state)?;
        model.release_pages();
        progress(done(layer + 1), total);
    }
    decoder.head(&state.0)?;
    model.release_pages();
    progress(done(layers + 1), total);
    let (hidden, vocab) = (model.config().hidden as i64, model.config().vocab as i64);
    let inputs: [(&str, _, &[i64]); 3] =
        [(STATES, Float32, &[-1, hidden]), (DRAWING, Int64, &[-1]), (WANTED, Int64, &[-1])];
    let outputs: [(&str, _, &[i64]); 2] =
        [(LOGITS, Float32, &[-1, vocab]), (LAST, Float32, &[-1, hidden])];
    let session = decoder.graph.session(&inputs, &outputs, &mut builder)?;
    progress(total, total);
    Ok(session)
}

/// What heads of queries and keys are normalised with, per layer.
fn head_norms(model: &Model) -> Result<HeadNorms, OnnxError> {
    let norm = |layer, site| vector(model, Weight::Norm(layer, site));
    let each = |layer| Ok([norm(layer, NormSite::Query)?, norm(layer, NormSite::Key)?]);
    let norms: Result<HeadNorms, BackendError> = (0..model.config().layers).map(each).collect();
    Ok(norms?)
}

impl Decoder<'_> {
    /// Adds a layer. `(h, x)` are the hidden states and their norm for what comes next, both
    /// before and after.
    fn layer(
        &mut self,
        layer: usize,
        (h, x): (String, String),
    ) -> Result<(String, String), OnnxError> {
        let attended = self.attend(layer, &h)?;
        let feed = Weight::Norm(layer, NormSite::FeedForward);
        let (h, x) = self.add_and_norm(&attended, &x, feed)?;
        let fed = self.feed_forward(layer, &h)?;
        let next = if layer + 1 < self.model.config().layers {
            Weight::Norm(layer + 1, NormSite::Attention)
        } else {
            Weight::OutputNorm
        };
        self.add_and_norm(&fed, &x, next)
    }

    fn attend(&mut self, layer: usize, h: &str) -> Result<String, OnnxError> {
        let q = self.site(layer, Site::Query, h)?;
        let k = self.site(layer, Site::Key, h)?;
        let v = self.site(layer, Site::Value, h)?;
        let number = [whole("layer", layer)?];
        let attended = self.graph.node(ATTEND, OWN, &[h, &q, &k, &v], number)?;
        let out = self.adapted(layer, Site::Output, &attended)?;
        self.norm_after(layer, NormSite::AttentionOutput, out)
    }

    fn feed_forward(&mut self, layer: usize, h: &str) -> Result<String, OnnxError> {
        let gate = self.site(layer, Site::Gate, h)?;
        let up = self.site(layer, Site::Up, h)?;
        let number = [whole("layer", layer)?];
        let through = self.graph.node(GATE, OWN, &[h, &gate, &up], number)?;
        let out = self.adapted(layer, Site::Down, &through)?;
        self.norm_after(layer, NormSite::FeedForwardOutput, out)
    }

    /// The logits and the last hidden states of the rows that want them.
    fn head(&mut self, h: &str) -> Result<(), OnnxError> {
        let drawing = self.graph.standard("Gather", &[h, DRAWING])?;
        let head = matrix(self.model, Weight::Head).map_err(BackendError::from)?;
        let logits = product(&mut self.graph, &mut self.sums, &head, &drawing)?;
        self.graph.node_as("Identity", ONNX_DOMAIN, &[&logits], &[LOGITS], [])?;
        self.graph.node_as("Gather", ONNX_DOMAIN, &[h, WANTED], &[LAST], [])
    }

    /// A matrix of a layer with its bias.
    fn site(&mut self, layer: usize, site: Site, x: &str) -> Result<String, OnnxError> {
        let weights = matrix(self.model, Weight::Site(layer, site)).map_err(BackendError::from)?;
        let out = product(&mut self.graph, &mut self.sums, &weights, x)?;
        let bias = vector(self.model, Weight::Bias(layer, site)).map_err(BackendError::from)?;
        if bias.is_empty() {
            return Ok(out);
        }
        let bias = self.numbers("bias", &bias)?;
        self.graph.standard("Add", &[&out, &bias])
    }

    /// A matrix with what adapters add, where nothing of ours follows that would add it.
    fn adapted(&mut self, layer: usize, site: Site, x: &str) -> Result<String, OnnxError> {
        let out = self.site(layer, site, x)?;
        let index = Site::ALL.iter().position(|own| *own == site).unwrap_or_default();
        let attributes = [whole("layer", layer)?, whole("site", index)?];
        self.graph.node(ADAPT, OWN, &[x, &out], attributes)
    }

    fn numbers(&mut self, what: &str, numbers: &[f32]) -> Result<String, OnnxError> {
        self.graph.constant::<f32>(what, &[numbers.len()], |out| {
            for (out, number) in out.iter_mut().zip(numbers) {
                *out = *number;
            }
        })
    }

    fn norm(&mut self, weight: Weight, x: &str) -> Result<String, OnnxError> {
        let weight = vector(self.model, weight).map_err(BackendError::from)?;
        let weight = self.numbers("norm", &weight)?;
        let epsilon = [real("epsilon", self.model.config().rms_epsilon)?];
        self.graph.node("SimplifiedLayerNormalization", ONNX_DOMAIN, &[x, &weight], epsilon)
    }

    /// The norm of what a block gives, where the model has one.
    fn norm_after(
        &mut self,
        layer: usize,
        site: NormSite,
        out: String,
    ) -> Result<String, OnnxError> {
        if !site.is_in(self.model.config()) {
            return Ok(out);
        }
        self.norm(Weight::Norm(layer, site), &out)
    }

    /// `x + added`, and its norm before it.
    fn add_and_norm(
        &mut self,
        added: &str,
        x: &str,
        weight: Weight,
    ) -> Result<(String, String), OnnxError> {
        let weight = vector(self.model, weight).map_err(BackendError::from)?;
        let weight = self.numbers("norm", &weight)?;
        let (h, sum) = (self.graph.name("h"), self.graph.name("x"));
        let epsilon = [real("epsilon", self.model.config().rms_epsilon)?];
        self.graph.node_as(
            "SkipSimplifiedLayerNormalization",
            MICROSOFT,
            &[added, x, &weight],
            &[&h, "", "", &sum],
            epsilon,
        )?;
        Ok((h, sum))
    }
}

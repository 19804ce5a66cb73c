//! One layer of one step.

use openledger_kernels::fused::{
    LoraGroup, RopeTable, add, add_bias, attention, gelu_mul, lora, rms_norm, rms_norm_in_place,
    rope, silu_mul,
};
use openledger_kernels::packed::{Activations, Digits, products};
use openledger_kernels::reference::{AttentionRow, AttentionShape};
use openledger_kernels::{Pool, ShapeError};
use openledger_models::{Activation, ModelConfig, NormSite, Site};

use super::groups::Groups;
use super::layer::Layer;
use super::scratch::{Scratch, room};

/// What all layers of a step share.
pub(super) struct Step<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) pool: &'a Pool,
    pub(super) shape: &'a AttentionShape,
    /// How far each row turns; in layers with a window, if that differs.
    pub(super) turns: &'a RopeTable,
    pub(super) local_turns: Option<&'a RopeTable>,
    /// What each row attends to.
    pub(super) seen: Vec<AttentionRow<'a>>,
    pub(super) groups: &'a Groups<'a>,
    /// Which codes of products' inputs have all 12 bits.
    pub(super) digits: Digits,
    /// What adapters add at the present site.
    pub(super) found: Vec<LoraGroup<'a>>,
}

impl Step<'_> {
    /// `x += attention(norm(x))`, with the rows' keys and values put into their pages first.
    pub(super) fn attend(
        &mut self,
        number: usize,
        layer: &mut Layer,
        scratch: &mut Scratch,
    ) -> Result<(), ShapeError> {
        let (rows, config) = (self.seen.len(), self.config);
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let Scratch { inputs, x, h, q, k, v, attended, scores, .. } = scratch;
        let (x, h) = (room(x, rows * config.hidden), room(h, rows * config.hidden));
        rms_norm(self.pool, x, layer.norm(NormSite::Attention), config.rms_epsilon, h)?;
        inputs.quantize(self.pool, h, config.hidden, self.digits)?;
        let (q, k) = (room(q, rows * query_width), room(k, rows * kv_width));
        let (v, attended) = (room(v, rows * kv_width), room(attended, rows * query_width));
        let outs = [(Site::Query, &mut *q), (Site::Key, &mut *k), (Site::Value, &mut *v)];
        self.project(number, layer, inputs, outs)?;
        self.norm_again(layer.norm(NormSite::Query), q)?;
        self.norm_again(layer.norm(NormSite::Key), k)?;
        let window = config.window_of(number);
        let turns = self.local_turns.filter(|_| window.is_some()).unwrap_or(self.turns);
        rope(self.pool, q, self.shape.head_dim, turns)?;
        rope(self.pool, k, self.shape.head_dim, turns)?;
        for (row, (k, v)) in self.seen.iter().zip(k.chunks(kv_width).zip(v.chunks(kv_width))) {
            layer.kv.write(row.pages, row.positions.saturating_sub(1), k, v)?;
        }
        let (shape, scale) = (self.shape, config.attention_scale);
        attention(self.pool, shape, q, &self.seen, &layer.kv, window, scale, attended, scores)?;
        inputs.quantize(self.pool, attended, query_width, self.digits)?;
        self.project(number, layer, inputs, [(Site::Output, &mut *h)])?;
        self.norm_again(layer.norm(NormSite::AttentionOutput), h)?;
        add(self.pool, x, h)
    }

    /// `x += down(activation(gate(norm(x))) * up(norm(x)))`.
    pub(super) fn feed_forward(
        &mut self,
        number: usize,
        layer: &Layer,
        scratch: &mut Scratch,
    ) -> Result<(), ShapeError> {
        let (rows, config) = (self.seen.len(), self.config);
        let (hidden, width) = (config.hidden, config.feed_forward);
        let Scratch { inputs, x, h, gate, up, .. } = scratch;
        let (x, h) = (room(x, rows * hidden), room(h, rows * hidden));
        rms_norm(self.pool, x, layer.norm(NormSite::FeedForward), config.rms_epsilon, h)?;
        inputs.quantize(self.pool, h, hidden, self.digits)?;
        let (gate, up) = (room(gate, rows * width), room(up, rows * width));
        let outs = [(Site::Gate, &mut *gate), (Site::Up, &mut *up)];
        self.project(number, layer, inputs, outs)?;
        match config.activation {
            Activation::Silu => silu_mul(self.pool, gate, up)?,
            Activation::GeluTanh => gelu_mul(self.pool, gate, up)?,
        }
        inputs.quantize(self.pool, gate, width, self.digits)?;
        self.project(number, layer, inputs, [(Site::Down, &mut *h)])?;
        self.norm_again(layer.norm(NormSite::FeedForwardOutput), h)?;
        add(self.pool, x, h)
    }

    /// Normalises rows as wide as `weight` in place, where the model has such a norm.
    fn norm_again(&self, weight: &[f32], x: &mut [f32]) -> Result<(), ShapeError> {
        if weight.is_empty() {
            return Ok(());
        }
        rms_norm_in_place(self.pool, x, weight, self.config.rms_epsilon)
    }

    /// Matrices of a layer that share an input, with their biases and each row's own adapters.
    fn project<const N: usize>(
        &mut self,
        number: usize,
        layer: &Layer,
        inputs: &Activations,
        mut outs: [(Site, &mut [f32]); N],
    ) -> Result<(), ShapeError> {
        let mut weights = outs.each_mut().map(|(site, out)| (layer.matrix(*site), &mut **out));
        products(self.pool, &mut weights, inputs)?;
        for (site, out) in outs {
            let width = layer.matrix(site).rows().max(1);
            let bias = layer.bias(site);
            if !bias.is_empty() {
                add_bias(self.pool, out, bias)?;
            }
            if self.groups.len() > 0 {
                self.groups.at(number, site, &mut self.found);
                lora(self.pool, &self.found, inputs, out, width)?;
            }
        }
        Ok(())
    }
}

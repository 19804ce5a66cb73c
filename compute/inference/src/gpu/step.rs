//! Recording a step: what a device does with the rows of a plan.

use openledger_gpu::{
    Attention, AttentionInput, AttentionPlan, Buffer, Draw, DrawKind, GpuError, Inputs, KvInput,
    Read, RowTable, Step, Target,
};
use openledger_kernels::reference::{AttentionRow, RopeAngles};
use openledger_models::{Activation, ModelConfig, NormSite, Site};

use super::adapters::{Batch, Unready};
use super::layer::LayerWeights;
use super::part::{Ending, Part};
use super::scratch::{HEAD_ROWS, Heads};
use crate::plan::{Row, StepPlan, Wants};

/// What the devices of a step share.
pub(super) struct Shared<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) plan: &'a StepPlan,
    /// What each row attends to.
    pub(super) seen: Vec<AttentionRow<'a>>,
    pub(super) angles: &'a RopeAngles,
    pub(super) local_angles: Option<&'a RopeAngles>,
    /// Pages of each layer.
    pub(super) pages: usize,
    pub(super) page_tokens: usize,
    /// How many of each row's likeliest tokens are wanted; 0 or nothing for all logits.
    pub(super) counts: &'a [usize],
}

/// The plans of attention, of layers without a window and with one.
struct Plans {
    wide: Option<AttentionPlan>,
    narrow: Option<AttentionPlan>,
}

/// Tickets for what a row gives.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The row of the plan.
    pub(super) row: usize,
    pub(super) draw: Drawing,
    pub(super) hidden: Read,
}

/// What a row is drawn from.
#[derive(Clone, Copy)]
pub(super) enum Drawing {
    /// Nothing is drawn.
    Not,
    Logits(Read),
    /// The result of such a draw, of which this row's is at a place.
    Likeliest(DrawKind, Read, usize),
}

/// One device's part of a step.
pub(super) struct Recorder<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) part: &'a mut Part,
}

fn turned(angles: &RopeAngles, rows: &[Row]) -> Vec<(f32, f32)> {
    let mut turns = Vec::with_capacity(rows.len() * angles.dimensions() / 2);
    rows.iter().for_each(|row| angles.at(row.position, &mut turns));
    turns
}

impl Recorder<'_> {
    /// Records all layers, or says that their adapters have no room at once; `x` holds the hidden states that an earlier device came to.
    pub(super) fn layers(&mut self, step: &mut Step<'_>, x: Option<&[u8]>) -> Result<(), Unready> {
        let rows = self.shared.plan.rows.len();
        let plans = self.begin(step, x)?;
        let batch = self.part.adapters.begin(step, self.shared.plan)?;
        let part = &*self.part;
        if let Some(first) = part.layers.first() {
            let weight = required(first.norm(NormSite::Attention))?;
            let (x, h) = (part.rows.x.all(), part.rows.h.floats().all());
            let epsilon = self.shared.config.rms_epsilon;
            part.kernels.norm.record(step, rows, x, weight.all(), epsilon, h);
        }
        for (number, layer) in part.layers.iter().enumerate() {
            self.attend(step, number, layer, &plans, batch.as_ref())?;
            self.feed_forward(step, number, layer, batch.as_ref())?;
        }
        Ok(())
    }

    /// Brings everything that the layers read.
    fn begin(&mut self, step: &mut Step<'_>, x: Option<&[u8]>) -> Result<Plans, GpuError> {
        let (shared, part) = (self.shared, &mut *self.part);
        let rows = &shared.plan.rows;
        part.make_room(shared.config, rows.len())?;
        match (x, &part.embedding) {
            (Some(x), _) => step.write(&part.rows.x, 0, x),
            (None, Some(embedding)) => {
                let ids: Vec<u32> = rows.iter().map(|row| row.token).collect();
                part.ids.write(step, &ids)?;
                let (ids, x) = (part.ids.buffer().all(), part.rows.x.all());
                embedding.record(step, ids, rows.len(), x);
            }
            (None, None) => {}
        }
        part.turns.write_pairs(step, &turned(shared.angles, rows))?;
        if let Some(angles) = shared.local_angles {
            part.local_turns.write_pairs(step, &turned(angles, rows))?;
        }
        let table = RowTable::new(&shared.seen, shared.page_tokens, shared.pages)?;
        part.table.write(step, table.words())?;
        let layers = part.first..part.first + part.layers.len();
        let windows: Vec<Option<usize>> =
            layers.map(|layer| shared.config.window_of(layer)).collect();
        let plan = |part: &mut Part, step: &mut Step<'_>, at: usize, window| {
            let plan = AttentionPlan::new(&part.kernels.attention, &shared.seen, window)?;
            if let Some(words) = part.plans.get_mut(at) {
                words.write(step, plan.words())?;
            }
            let bytes = part.kernels.attention.partial_bytes(&plan);
            part.partials.room(&part.gpu, (bytes / 4) as usize)?;
            Ok::<_, GpuError>(plan)
        };
        let wide = windows.contains(&None).then(|| plan(part, step, 0, None)).transpose()?;
        // All windows of a model are of one size.
        let window = windows.iter().flatten().next().copied();
        let narrow = window.map(|window| plan(part, step, 1, Some(window))).transpose()?;
        Ok(Plans { wide, narrow })
    }

    /// `x += attention(norm(x))`, then the norm before the feed-forward layer.
    fn attend(
        &self,
        step: &mut Step<'_>,
        number: usize,
        layer: &LayerWeights,
        plans: &Plans,
        batch: Option<&Batch>,
    ) -> Result<(), GpuError> {
        let (part, config) = (&*self.part, self.shared.config);
        let (rows, scratch) = (self.shared.plan.rows.len(), &part.rows);
        let outs = [(Site::Query, &scratch.q), (Site::Key, &scratch.k), (Site::Value, &scratch.v)];
        self.project(step, number, layer, &scratch.h, config.hidden, &outs, batch);
        let window = config.window_of(part.first + number);
        let local = window.is_some() && self.shared.local_angles.is_some();
        let turns = if local { &part.local_turns } else { &part.turns };
        let table = part.table.buffer().all();
        let input = KvInput {
            q: scratch.q.all(),
            k: scratch.k.all(),
            v: scratch.v.all(),
            turns: turns.buffer().all(),
            norms: config.head_norms.then(|| (layer.head_norms.all(), config.rms_epsilon)),
            table,
        };
        let kv = part.kv.get(number).ok_or_else(|| missing("the pages of a layer"))?;
        part.kernels.kv_write.record(step, rows, &input, kv);
        let (at, plan) = match window {
            Some(_) => (1, &plans.narrow),
            None => (0, &plans.wide),
        };
        let plan = plan.as_ref().ok_or_else(|| missing("a plan of attention"))?;
        let words = part.plans.get(at).ok_or_else(|| missing("the words of a plan"))?;
        let input = AttentionInput {
            q: scratch.q.all(),
            table,
            plan: words.buffer().all(),
            partials: part.partials.buffer().all(),
            out: scratch.attended.floats().all(),
        };
        let attention: &Attention = &part.kernels.attention;
        attention.record(step, plan, &input, kv, config.attention_scale);
        let out = [(Site::Output, &scratch.delta)];
        self.project(step, number, layer, &scratch.attended, config.query_width(), &out, batch);
        let next = required(layer.norm(NormSite::FeedForward))?;
        self.add(step, layer.norm(NormSite::AttentionOutput), next);
        Ok(())
    }

    /// `x += down(activation(gate(norm(x))) * up(norm(x)))`, then the norm before whatever follows.
    fn feed_forward(
        &self,
        step: &mut Step<'_>,
        number: usize,
        layer: &LayerWeights,
        batch: Option<&Batch>,
    ) -> Result<(), GpuError> {
        let (part, config) = (&*self.part, self.shared.config);
        let (rows, scratch) = (self.shared.plan.rows.len(), &part.rows);
        let outs = [(Site::Gate, scratch.gate.floats()), (Site::Up, &scratch.up)];
        self.project(step, number, layer, &scratch.h, config.hidden, &outs, batch);
        let (len, ops) = (rows * config.feed_forward, &part.kernels.elementwise);
        let (gate, up) = (scratch.gate.floats().all(), scratch.up.all());
        match config.activation {
            Activation::Silu => ops.silu_mul(step, len, gate, up),
            Activation::GeluTanh => ops.gelu_mul(step, len, gate, up),
        }
        let out = [(Site::Down, &scratch.delta)];
        self.project(step, number, layer, &scratch.gate, config.feed_forward, &out, batch);
        let next = match (part.layers.get(number + 1), &part.ending) {
            (Some(next), _) => required(next.norm(NormSite::Attention))?,
            (None, Some(ending)) => &ending.norm,
            // Another device goes on, from the hidden states; nobody reads this norm.
            (None, None) => required(layer.norm(NormSite::Attention))?,
        };
        self.add(step, layer.norm(NormSite::FeedForwardOutput), next);
        Ok(())
    }

    /// `x += delta`, or its norm where the model has one, and `h = norm(x)`.
    fn add(&self, step: &mut Step<'_>, own: Option<&Buffer>, next: &Buffer) {
        let (part, rows) = (&*self.part, self.shared.plan.rows.len());
        let scratch = &part.rows;
        part.kernels.norm.record_add(
            step,
            rows,
            scratch.x.all(),
            scratch.delta.all(),
            own.map(Buffer::all),
            next.all(),
            self.shared.config.rms_epsilon,
            scratch.h.floats().all(),
        );
    }

    /// Matrices of a layer that share an input, with their biases and each row's own adapters.
    fn project(
        &self,
        step: &mut Step<'_>,
        number: usize,
        layer: &LayerWeights,
        inputs: &Inputs,
        cols: usize,
        outs: &[(Site, &Buffer)],
        batch: Option<&Batch>,
    ) {
        let (part, rows) = (&*self.part, self.shared.plan.rows.len());
        let products = &part.kernels.products;
        products.prepare(step, inputs, rows, cols);
        for (site, out) in outs {
            let weights = layer.matrix(*site);
            let target = Target { numbers: out.all(), stride: weights.rows(), at: 0 };
            products.record(step, weights, inputs, rows, target);
            if let Some(bias) = layer.bias(*site) {
                let ops = &part.kernels.elementwise;
                ops.add_bias(step, rows, weights.rows(), out.all(), bias.all());
            }
        }
        if let Some(batch) = batch {
            part.adapters.record(step, batch, number, inputs.floats().all(), outs);
        }
    }

    /// Records what the rows want, from their last hidden states.
    pub(super) fn outputs(&mut self, step: &mut Step<'_>) -> Result<Vec<Wanted>, GpuError> {
        let (shared, part) = (self.shared, &mut *self.part);
        let Part { gpu, kernels, rows, ending, .. } = part;
        let Some(Ending { head, heads, wanted, draw, .. }) = ending else { return Ok(Vec::new()) };
        let of = |wants: Wants| {
            let rows = shared.plan.rows.iter().enumerate();
            rows.filter(move |(_, row)| row.wants == wants).map(|(index, _)| index)
        };
        let drawing = of(Wants::Logits).count();
        let all: Vec<usize> = of(Wants::Logits).chain(of(Wants::Hidden)).collect();
        let largest = all.len().min(HEAD_ROWS);
        if heads.capacity < largest {
            *heads = Heads::new(gpu, &kernels.products, shared.config, largest)?;
        }
        let words: Vec<u32> = all.iter().map(|row| *row as u32).collect();
        wanted.write(step, &words)?;
        let (hidden, vocab) = (shared.config.hidden, head.rows());
        let mut tickets = Vec::with_capacity(all.len());
        for (chunk, own) in all.chunks(HEAD_ROWS).enumerate() {
            let first = chunk * HEAD_ROWS;
            let rows_of = wanted.buffer().part(4 * first as u64, 4 * own.len() as u64);
            let (h, states) = (rows.h.floats().all(), heads.states.floats());
            kernels.elementwise.gather(step, own.len(), hidden, h, rows_of, states.all());
            let with_logits = drawing.saturating_sub(first).min(own.len());
            if with_logits > 0 {
                kernels.products.prepare(step, &heads.states, with_logits, hidden);
                let target = Target { numbers: heads.logits.all(), stride: vocab, at: 0 };
                kernels.products.record(step, head, &heads.states, with_logits, target);
            }
            let count = |row: &usize| shared.counts.get(*row).copied().unwrap_or(0);
            let most = own.iter().take(with_logits).map(count).max().unwrap_or(0);
            let kind = if most > 1 { DrawKind::Candidates } else { DrawKind::Likeliest };
            let drawn = (most > 0).then(|| {
                let [first, second] = heads.drawn.each_ref();
                let (logits, scratch) = (heads.logits.all(), [first.all(), second.all()]);
                let in_second = draw.record(step, kind, with_logits, vocab, logits, scratch);
                let result = if in_second { second } else { first };
                step.read(result, 0..Draw::result_bytes(kind, with_logits))
            });
            for (at, row) in own.iter().enumerate() {
                let part = |width: usize| 4 * (at * width) as u64..4 * ((at + 1) * width) as u64;
                let draw = match drawn.filter(|_| count(row) > 0) {
                    _ if at >= with_logits => Drawing::Not,
                    Some(drawn) => Drawing::Likeliest(kind, drawn, at),
                    None => Drawing::Logits(step.read(&heads.logits, part(vocab))),
                };
                let hidden = step.read(states, part(hidden));
                tickets.push(Wanted { row: *row, draw, hidden });
            }
        }
        Ok(tickets)
    }
}

fn missing(what: &str) -> GpuError {
    GpuError::Use { what: format!("{what} is missing") }
}

fn required(norm: Option<&Buffer>) -> Result<&Buffer, GpuError> {
    norm.ok_or_else(|| missing("a norm of a layer"))
}

//! Our operators in the library's graphs: attention over pages, and what adapters add.
//!
//! The library's own attention keeps a dense cache per sequence; ours are pages that sequences
//! share, so that all rows of a step run in one batch. Everything here runs on the processor, by
//! the kernels of the fast backend.

use std::sync::Arc;

use openledger_kernels::ShapeError;
use openledger_kernels::fused::{
    KvCache, KvFormat, attention, gelu_mul, rms_norm_in_place, rope, silu_mul,
};
use openledger_models::{Activation, Site};
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};

use super::error::OnnxError;
use super::graph::OWN;
use super::step::{Part, Shared, each_part, locked};

/// The operators by their names in graphs.
pub(super) const ATTEND: &str = "PagedAttention";
pub(super) const GATE: &str = "AdaptedGate";
pub(super) const ADAPT: &str = "Adapt";

/// Per layer, what each head of queries and keys is normalised with; empty where nothing is.
pub(super) type HeadNorms = Vec<[Vec<f32>; 2]>;

/// How keys and values are kept.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    pub(super) count: usize,
    pub(super) format: KvFormat,
}

/// All of them.
pub(super) fn domain(
    shared: &Arc<Shared>,
    norms: HeadNorms,
    pages: Pages,
) -> Result<OperatorDomain, OnnxError> {
    let own = || Arc::clone(shared);
    let domain = OperatorDomain::new(OWN)?
        .add(Attend { shared: own(), norms: Arc::new(norms), pages })?
        .add(Gate { shared: own() })?
        .add(Adapt { shared: own() })?;
    Ok(domain)
}

/// Inputs that are all numbers.
fn inputs(count: usize) -> impl Iterator<Item = OperatorInput> {
    (0..count).map(|_| OperatorInput::required(TensorElementType::Float32))
}

fn output() -> [OperatorOutput; 1] {
    [OperatorOutput::required(TensorElementType::Float32)]
}

/// An attribute that counts something.
fn number(context: &KernelContext<'_>, name: &str) -> ort::Result<usize> {
    let found: Option<i64> = context.get(name);
    let number = found.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| ort::Error::new(format!("the attribute {name} is missing")))
}

fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    let missing = || ort::Error::new(format!("the input {index} is missing"));
    context.input(index)?.ok_or_else(missing)
}

/// Runs an operator's work on each part, with its rows of an output of this width.
fn compute(
    context: &ComputeContext,
    shared: &Shared,
    width: usize,
    work: impl Fn(&mut Part, &mut [f32]) -> Result<(), ShapeError> + Sync + Send,
) -> ort::Result<()> {
    let mut step = shared.step();
    let rows: usize = step.parts.iter().map(|part| locked(part).plan.rows.len()).sum();
    let shape = [rows as i64, width as i64];
    let missing = || ort::Error::new("the output is missing");
    let mut out = context.output(0, shape)?.ok_or_else(missing)?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let outcome = each_part(context, &step, out, width, work);
    if let Err(error) = &outcome {
        step.fault = Some(error.to_string());
    }
    outcome
}

/// A panic may not leave an operator, so lengths are checked.
fn copy(from: &[f32], to: &mut [f32]) -> Result<(), ShapeError> {
    if from.len() != to.len() {
        let (what, found, expected) = ("the input of an operator", from.len(), to.len());
        return Err(ShapeError::Length { what, found, expected });
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    Ok(())
}

/// Attention of all rows of a step over the pages of their sequences: `(h, q, k, v)`, what queries,
/// keys and values were made from and what the base made of it.
struct Attend {
    shared: Arc<Shared>,
    norms: Arc<HeadNorms>,
    pages: Pages,
}

struct AttendKernel {
    shared: Arc<Shared>,
    norms: Arc<HeadNorms>,
    layer: usize,
    kv: KvCache,
}

impl Operator for Attend {
    type Kernel<'attr> = AttendKernel;

    fn name(&self) -> &str {
        ATTEND
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(4)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        output()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttendKernel> {
        let kv = KvCache::new(self.shared.shape, self.pages.count, self.pages.format);
        Ok(AttendKernel {
            shared: Arc::clone(&self.shared),
            norms: Arc::clone(&self.norms),
            layer: number(context, "layer")?,
            kv: kv.map_err(ort::Error::wrap)?,
        })
    }
}

impl AttendKernel {
    /// Queries, keys and values of a part, with adapters, norms and turns.
    fn prepare(&self, part: &mut Part, [h, q, k, v]: [&[f32]; 4]) -> Result<(), ShapeError> {
        let Shared { config, shape, pool, .. } = &*self.shared;
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let fill = |buffer: &mut Vec<f32>, own: &[f32]| {
            buffer.clear();
            buffer.extend_from_slice(own);
        };
        let mut own = [&mut part.q, &mut part.k, &mut part.v].map(core::mem::take);
        let [own_q, own_k, own_v] = &mut own;
        fill(own_q, part.own(q, query_width));
        fill(own_k, part.own(k, kv_width));
        fill(own_v, part.own(v, kv_width));
        let h = part.own(h, config.hidden);
        let outs = [(Site::Query, &mut own_q[..]), (Site::Key, own_k), (Site::Value, own_v)];
        part.adapt(pool, self.layer, h, config.hidden, outs)?;
        if let Some([query, key]) = self.norms.get(self.layer) {
            for (norm, x) in [(query, &mut *own_q), (key, &mut *own_k)] {
                if !norm.is_empty() {
                    rms_norm_in_place(pool, x, norm, config.rms_epsilon)?;
                }
            }
        }
        let window = config.window_of(self.layer);
        let local = part.local_turns.as_ref().filter(|_| window.is_some());
        let turns = local.unwrap_or(&part.turns);
        rope(pool, own_q, shape.head_dim, turns)?;
        rope(pool, own_k, shape.head_dim, turns)?;
        [part.q, part.k, part.v] = own;
        Ok(())
    }

    /// Prepares all parts, and puts their keys and values into their pages: all of them before any
    /// row looks, as rows of one part see those of another.
    fn ready(&mut self, context: &ComputeContext, numbers: [&[f32]; 4]) -> ort::Result<()> {
        let shared = Arc::clone(&self.shared);
        let step = shared.step();
        each_part(context, &step, &mut [], 0, |part, _| self.prepare(part, numbers))?;
        step.parts.iter().try_for_each(|part| self.write(&locked(part)))
    }

    /// Puts a part's keys and values into their pages.
    fn write(&mut self, part: &Part) -> ort::Result<()> {
        let width = self.shared.config.kv_width().max(1);
        let seen = part.plan.seen().map_err(ort::Error::wrap)?;
        for (row, (k, v)) in seen.iter().zip(part.k.chunks(width).zip(part.v.chunks(width))) {
            let position = row.positions.saturating_sub(1);
            self.kv.write(row.pages, position, k, v).map_err(ort::Error::wrap)?;
        }
        Ok(())
    }

    fn attend(&self, part: &mut Part, out: &mut [f32]) -> Result<(), ShapeError> {
        let Shared { config, shape, pool, .. } = &*self.shared;
        let (window, scale) = (config.window_of(self.layer), config.attention_scale);
        let Part { plan, q, scores, .. } = part;
        // Checked when the step began.
        let seen = plan.seen().unwrap_or_default();
        attention(pool, shape, q, &seen, &self.kv, window, scale, out, scores)
    }
}

impl Kernel for AttendKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let shared = Arc::clone(&self.shared);
        let (h, q) = (input(context, 0)?, input(context, 1)?);
        let (k, v) = (input(context, 2)?, input(context, 3)?);
        let numbers = [
            h.try_extract_tensor::<f32>()?.1,
            q.try_extract_tensor::<f32>()?.1,
            k.try_extract_tensor::<f32>()?.1,
            v.try_extract_tensor::<f32>()?.1,
        ];
        let ready = self.ready(context, numbers);
        if let Err(error) = &ready {
            shared.step().fault = Some(error.to_string());
        }
        ready?;
        let own = &*self;
        let width = shared.config.query_width();
        compute(context, &shared, width, |part, out| own.attend(part, out))
    }
}

/// What the gate lets through: `(h, gate, up)`, what both were made from and what the base made of
/// it.
struct Gate {
    shared: Arc<Shared>,
}

struct GateKernel {
    shared: Arc<Shared>,
    layer: usize,
}

impl Operator for Gate {
    type Kernel<'attr> = GateKernel;

    fn name(&self) -> &str {
        GATE
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(3)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        output()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<GateKernel> {
        Ok(GateKernel { shared: Arc::clone(&self.shared), layer: number(context, "layer")? })
    }
}

impl Kernel for GateKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (h, gate, up) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let h = h.try_extract_tensor::<f32>()?.1;
        let gate = gate.try_extract_tensor::<f32>()?.1;
        let up = up.try_extract_tensor::<f32>()?.1;
        let Shared { config, pool, .. } = &*self.shared;
        let (width, layer) = (config.feed_forward, self.layer);
        let work = |part: &mut Part, out: &mut [f32]| {
            copy(part.own(gate, width), out)?;
            let mut own_up = part.own(up, width);
            let mut adapted = core::mem::take(&mut part.q);
            if part.adapted() {
                adapted.clear();
                adapted.extend_from_slice(own_up);
                let outs = [(Site::Gate, &mut *out), (Site::Up, &mut adapted[..])];
                part.adapt(pool, layer, part.own(h, config.hidden), config.hidden, outs)?;
                own_up = &adapted;
            }
            let outcome = match config.activation {
                Activation::Silu => silu_mul(pool, out, own_up),
                Activation::GeluTanh => gelu_mul(pool, out, own_up),
            };
            part.q = adapted;
            outcome
        };
        compute(context, &self.shared, width, work)
    }
}

/// `(x, y)`, what a matrix was given and what it made of it: `y` with what adapters add.
struct Adapt {
    shared: Arc<Shared>,
}

struct AdaptKernel {
    shared: Arc<Shared>,
    layer: usize,
    site: Site,
}

impl Operator for Adapt {
    type Kernel<'attr> = AdaptKernel;

    fn name(&self) -> &str {
        ADAPT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        inputs(2)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        output()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AdaptKernel> {
        let site = Site::ALL.get(number(context, "site")?).copied();
        let unknown = || ort::Error::new("the attribute site names none");
        Ok(AdaptKernel {
            shared: Arc::clone(&self.shared),
            layer: number(context, "layer")?,
            site: site.ok_or_else(unknown)?,
        })
    }
}

impl Kernel for AdaptKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, y) = (input(context, 0)?, input(context, 1)?);
        let (x, y) = (x.try_extract_tensor::<f32>()?.1, y.try_extract_tensor::<f32>()?.1);
        let Shared { config, pool, .. } = &*self.shared;
        let (layer, site) = (self.layer, self.site);
        let cols = if site == Site::Down { config.feed_forward } else { config.query_width() };
        let work = |part: &mut Part, out: &mut [f32]| {
            copy(part.own(y, config.hidden), out)?;
            part.adapt(pool, layer, part.own(x, cols), cols, [(site, out)])
        };
        compute(context, &self.shared, config.hidden, work)
    }
}

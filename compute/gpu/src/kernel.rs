//! Compiled shaders.
//!
//! One source serves devices with and without immediates, subgroups and 16-bit floats: lines that
//! start with `//!` are instructions to this module. `//!params Params` becomes the declaration of
//! `params`, a struct of at most 32 words that [`crate::Step::run`] fills. Lines between `//!if X`
//! and `//!else` or `//!end` are kept where the device has X, one of `subgroups`, `f16` and `dot4`
//! (no nesting).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::GpuError;
use crate::gpu::{Features, Gpu, Shared, locked};
use crate::limits::PARAMS_MAX;

/// What a kernel does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`. A buffer that is written may not be bound a second time in the
    /// same run, not even another part of it.
    Write,
}

/// By what a kernel is found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KernelKey {
    name: &'static str,
    constants: Vec<(String, u64)>,
    source: String,
}

/// The layout of kernels that have the same bindings.
pub(crate) struct Layout {
    pub(crate) number: usize,
    pub(crate) bindings: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
    /// Of the parameters, where they are no immediates.
    pub(crate) uniform: Option<wgpu::BindGroupLayout>,
}

/// A compiled shader.
pub struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: Arc<Layout>,
    pub(crate) access: Vec<Access>,
}

impl core::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Kernel({})", self.name)
    }
}

impl Kernel {
    /// What it was compiled as.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Gpu {
    /// Compiles a shader whose entry is `main`, or finds it again: by its name, source and
    /// constants. Binding `i` of `bindings` is `@group(0) @binding(i)`; `constants` are values of
    /// the source's `override`s.
    ///
    /// # Errors
    /// A shader that does not compile or does not match its bindings, a lost device.
    pub fn kernel(
        &self,
        name: &'static str,
        wgsl: &str,
        bindings: &[Access],
        constants: &[(&str, f64)],
    ) -> Result<Arc<Kernel>, GpuError> {
        let shared = &self.shared;
        shared.check()?;
        let key = KernelKey {
            name,
            constants: constants.iter().map(|(n, v)| ((*n).to_owned(), v.to_bits())).collect(),
            source: wgsl.to_owned(),
        };
        if let Some(kernel) = locked(&shared.kernels).get(&key) {
            return Ok(Arc::clone(kernel));
        }
        let refused = |what: String| GpuError::Shader { kernel: name.to_owned(), what };
        let source = prepare(wgsl, &shared.features).map_err(refused)?;
        let layout = layout_of(shared, bindings)?;
        let compile = || {
            let module = shared.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(name),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
            shared.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&layout.pipeline),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: shared.pipelines.as_ref().map(|(cache, _)| cache),
            })
        };
        let pipeline = shared.caught(compile).map_err(|error| match shared.check() {
            Err(lost) => lost,
            Ok(()) => refused(error.to_string()),
        })?;
        shared.pipelines_new.store(true, Ordering::Relaxed);
        let kernel = Arc::new(Kernel { name, pipeline, layout, access: bindings.to_vec() });
        locked(&shared.kernels).insert(key, Arc::clone(&kernel));
        Ok(kernel)
    }
}

/// The layout of these bindings, made once.
fn layout_of(shared: &Shared, access: &[Access]) -> Result<Arc<Layout>, GpuError> {
    let mut layouts = locked(&shared.layouts);
    if let Some(layout) = layouts.get(access) {
        return Ok(Arc::clone(layout));
    }
    let number = layouts.len();
    let layout = shared
        .caught(|| make_layout(shared, access, number))
        .map_err(|error| shared.explain(&error, "a layout of bindings"))?;
    let layout = Arc::new(layout);
    layouts.insert(access.to_vec(), Arc::clone(&layout));
    Ok(layout)
}

fn make_layout(shared: &Shared, access: &[Access], number: usize) -> Layout {
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let storage = |(binding, access): (u32, &Access)| {
        let read_only = *access == Access::Read;
        entry(binding, wgpu::BufferBindingType::Storage { read_only }, false)
    };
    let entries: Vec<_> = (0..).zip(access).map(storage).collect();
    let group = |entries: &[_]| {
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries };
        shared.device.create_bind_group_layout(&descriptor)
    };
    let bindings = group(&entries);
    let immediates = shared.features.immediates;
    let uniform = (!immediates).then(|| group(&[entry(0, wgpu::BufferBindingType::Uniform, true)]));
    let pipeline = shared.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&bindings), uniform.as_ref()][..2 - usize::from(immediates)],
        immediate_size: if immediates { 4 * PARAMS_MAX as u32 } else { 0 },
    });
    Layout { number, bindings, pipeline, uniform }
}

/// Follows the instructions in a source.
fn prepare(wgsl: &str, features: &Features) -> Result<String, String> {
    let known = BTreeMap::from([
        ("subgroups", features.subgroups.is_some()),
        ("f16", features.f16),
        ("dot4", features.dot4),
    ]);
    let mut out = String::with_capacity(wgsl.len() + 128);
    // Nothing outside a condition; otherwise whether its lines are kept.
    let mut kept: Option<bool> = None;
    for line in wgsl.lines() {
        let Some(instruction) = line.trim_start().strip_prefix("//!") else {
            if kept != Some(false) {
                out.push_str(line);
            }
            // A line for each line, so that a compiler's numbers are right.
            out.push('\n');
            continue;
        };
        let mut words = instruction.split_whitespace();
        match (words.next(), words.next(), kept) {
            (Some("params"), Some(name), _) if features.immediates => {
                out.push_str(&format!("var<immediate> params: {name};"));
            }
            (Some("params"), Some(name), _) => {
                out.push_str(&format!("@group(1) @binding(0) var<uniform> params: {name};"));
            }
            (Some("if"), Some(what), None) => match known.get(what) {
                Some(has) => kept = Some(*has),
                None => return Err(format!("{instruction:?} asks for an unknown feature")),
            },
            (Some("else"), None, Some(has)) => kept = Some(!has),
            (Some("end"), None, Some(_)) => kept = None,
            _ => return Err(format!("{instruction:?} is no instruction here")),
        }
        out.push('\n');
    }
    match kept {
        Some(_) => Err("a condition has no end".to_owned()),
        None => Ok(out),
    }
}

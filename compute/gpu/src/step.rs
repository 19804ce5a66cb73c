//! Many kernels as one submission.
//!
//! A step is recorded first and encoded when it is submitted: then the sizes of all staging
//! buffers are known, and everything goes to the device at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::buffer::{Binding, Buffer};
use crate::error::GpuError;
use crate::gpu::{Gpu, Shared, locked};
use crate::kernel::{Access, Kernel, Layout};
use crate::limits::{BIND_GROUPS_MAX, PARAMS_MAX, SUBMISSION_SECONDS_MAX};

/// Bytes from the parameters of one run to those of the next, where they lie in a buffer.
const PARAMS_STRIDE: usize = 256;

/// By what a bind group is found again: the layout's number, and buffer, offset and size of each.
type GroupKey = (usize, Vec<(u64, u64, u64)>);

/// Bind groups made so far.
#[derive(Default)]
pub(crate) struct BindGroups {
    made: BTreeMap<GroupKey, wgpu::BindGroup>,
}

impl BindGroups {
    /// Lets go of all that hold a buffer.
    pub(crate) fn forget(&mut self, buffer: u64) {
        self.made.retain(|(_, bindings), _| bindings.iter().all(|(id, ..)| *id != buffer));
    }
}

enum Op {
    Run {
        pipeline: wgpu::ComputePipeline,
        layout: Arc<Layout>,
        group: wgpu::BindGroup,
        /// Where its parameters lie, in words.
        params: Range<usize>,
        groups: [u32; 3],
    },
    Copy {
        source: wgpu::Buffer,
        source_offset: u64,
        target: wgpu::Buffer,
        target_offset: u64,
        bytes: u64,
    },
    /// Of `bytes` staged at `source_offset`.
    Write { target: wgpu::Buffer, source_offset: u64, target_offset: u64, bytes: u64 },
    /// To `target_offset` of what comes back.
    Read { source: wgpu::Buffer, source_offset: u64, target_offset: u64, bytes: u64 },
}

/// A ticket for bytes that a step reads back.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    start: usize,
    len: usize,
}

/// What a step read back.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8>,
}

impl Output {
    /// What a ticket stands for; empty for a ticket of another step.
    #[must_use]
    pub fn bytes(&self, ticket: Read) -> &[u8] {
        self.bytes.get(ticket.start..ticket.start + ticket.len).unwrap_or_default()
    }
}

/// A list of operations, in order. What the device does later sees what it did before.
pub struct Step<'g> {
    gpu: &'g Gpu,
    ops: Vec<Op>,
    params: Vec<u32>,
    staged: Vec<u8>,
    read_bytes: u64,
    /// The first mistake; nothing is submitted after it.
    error: Option<GpuError>,
}

impl core::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Step({} operations)", self.ops.len())
    }
}

impl Gpu {
    /// An empty step.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
        let (ops, params, staged) = (Vec::new(), Vec::new(), Vec::new());
        Step { gpu: self, ops, params, staged, read_bytes: 0, error: None }
    }
}

impl<'g> Step<'g> {
    /// The device that it will run on.
    #[must_use]
    pub const fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// Operations so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Notes a mistake, of which [`Step::submit`] tells; for modules that record themselves.
    pub fn fail(&mut self, error: GpuError) {
        self.error.get_or_insert(error);
    }

    fn attempt(&mut self, outcome: Result<(), GpuError>) {
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    /// Runs a kernel over so many workgroups; no groups, nothing to do. Mistakes are told by
    /// [`Step::submit`].
    pub fn run(
        &mut self,
        kernel: &Kernel,
        bindings: &[Binding<'_>],
        params: &[u32],
        groups: [u32; 3],
    ) {
        if groups.contains(&0) {
            return;
        }
        let outcome = self.try_run(kernel, bindings, params, groups);
        self.attempt(outcome);
    }

    fn try_run(
        &mut self,
        kernel: &Kernel,
        bindings: &[Binding<'_>],
        params: &[u32],
        groups: [u32; 3],
    ) -> Result<(), GpuError> {
        let shared = &self.gpu.shared;
        let name = kernel.name;
        if bindings.len() != kernel.access.len() || params.len() > PARAMS_MAX {
            let what = format!("{} bindings and {} words", bindings.len(), params.len());
            return Err(GpuError::misuse(format!("the kernel {name} does not take {what}")));
        }
        for (at, (binding, access)) in bindings.iter().zip(&kernel.access).enumerate() {
            binding.check(shared.features.max_binding_bytes)?;
            let same = |other: &Binding<'_>| other.buffer.id == binding.buffer.id;
            let twice = bindings.iter().filter(|other| same(other)).count() > 1;
            if *access == Access::Write && twice {
                let what = format!("binding {at} of the kernel {name} is written and bound twice");
                return Err(GpuError::misuse(what));
            }
        }
        let group = group_of(shared, kernel, bindings)?;
        let start = self.params.len();
        self.params.extend(params);
        // All of the space, so that what a kernel reads never depends on an earlier one.
        if !shared.features.immediates {
            self.params.resize(start + PARAMS_STRIDE / 4, 0);
        }
        self.ops.push(Op::Run {
            pipeline: kernel.pipeline.clone(),
            layout: Arc::clone(&kernel.layout),
            group,
            params: start..start + params.len(),
            groups,
        });
        Ok(())
    }

    /// Copies bytes from one buffer to another one; offsets and size are multiples of 4.
    pub fn copy(
        &mut self,
        from: &Buffer,
        from_offset: u64,
        to: &Buffer,
        to_offset: u64,
        bytes: u64,
    ) {
        if bytes == 0 {
            return;
        }
        let outcome = within(from, from_offset, bytes).and(within(to, to_offset, bytes));
        self.attempt(outcome);
        if from.id == to.id {
            self.fail(GpuError::misuse(format!("{from:?} cannot be copied within itself")));
        }
        self.ops.push(Op::Copy {
            source: from.raw.clone(),
            source_offset: from_offset,
            target: to.raw.clone(),
            target_offset: to_offset,
            bytes,
        });
    }

    /// Writes bytes, of which there are a multiple of 4, at an offset that is one too: between
    /// what was recorded before and what comes after.
    pub fn write(&mut self, buffer: &Buffer, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let bytes = data.len() as u64;
        let outcome = within(buffer, offset, bytes);
        self.attempt(outcome);
        let source_offset = self.staged.len() as u64;
        self.staged.extend_from_slice(data);
        let target = buffer.raw.clone();
        self.ops.push(Op::Write { target, source_offset, target_offset: offset, bytes });
    }

    /// Reads bytes back as they are at this place of the step; ends of the range are multiples
    /// of 4.
    pub fn read(&mut self, buffer: &Buffer, range: Range<u64>) -> Read {
        let bytes = range.end.saturating_sub(range.start);
        let ticket = Read { start: self.read_bytes as usize, len: bytes as usize };
        if bytes == 0 {
            return ticket;
        }
        let outcome = within(buffer, range.start, bytes);
        self.attempt(outcome);
        let (source, source_offset) = (buffer.raw.clone(), range.start);
        self.ops.push(Op::Read { source, source_offset, target_offset: self.read_bytes, bytes });
        self.read_bytes += bytes;
        ticket
    }

    /// Has the device do it all, and waits.
    ///
    /// # Errors
    /// The first mistake that was recorded, or a device that was lost: then nothing is to be
    /// expected of its memory.
    pub fn submit(self) -> Result<Output, GpuError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let shared = &self.gpu.shared;
        shared.check()?;
        let submitted = shared.caught(|| self.encode_and_submit());
        let back = submitted.map_err(|error| shared.explain(&error, "a submission"))?;
        let Some(back) = back else {
            shared.wait()?;
            return Ok(Output { bytes: Vec::new() });
        };
        let (sender, receiver) = mpsc::channel();
        let asked = shared.caught(|| {
            back.map_async(wgpu::MapMode::Read, .., move |outcome| {
                // Nobody listens if the wait failed, and then that is the error.
                drop(sender.send(outcome));
            });
        });
        asked.map_err(|error| shared.explain(&error, "reading back"))?;
        shared.wait()?;
        let lost = |what: String| GpuError::Lost { what };
        // Another thread that waits may have taken the answer and not yet have passed it on.
        match receiver.recv_timeout(Duration::from_secs(SUBMISSION_SECONDS_MAX)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(error.to_string())),
            Err(_) => return Err(lost("nothing came back".to_owned())),
        }
        let view = back.get_mapped_range(..).map_err(|error| lost(error.to_string()))?;
        let bytes = view.to_vec();
        drop(view);
        back.unmap();
        Ok(Output { bytes })
    }

    /// The buffer that holds what is read back, if anything is.
    fn encode_and_submit(&self) -> Option<wgpu::Buffer> {
        let shared = &self.gpu.shared;
        let make = |label, size: u64, usage| {
            shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let to = wgpu::BufferUsages::COPY_DST;
        let staging = (!self.staged.is_empty()).then(|| {
            let bytes = self.staged.len() as u64;
            let staging = make("staging", bytes, to | wgpu::BufferUsages::COPY_SRC);
            shared.queue.write_buffer(&staging, 0, &self.staged);
            staging
        });
        let uniform = (!shared.features.immediates && !self.params.is_empty()).then(|| {
            let words: &[u8] = bytemuck::cast_slice(&self.params);
            let buffer = make("params", words.len() as u64, to | wgpu::BufferUsages::UNIFORM);
            shared.queue.write_buffer(&buffer, 0, words);
            buffer
        });
        let back = (self.read_bytes > 0)
            .then(|| make("read back", self.read_bytes, to | wgpu::BufferUsages::MAP_READ));
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        let mut ops = self.ops.iter().peekable();
        while let Some(op) = ops.peek() {
            if matches!(op, Op::Run { .. }) {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                while let Some(run) = ops.next_if(|op| matches!(op, Op::Run { .. })) {
                    self.encode_run(&mut pass, run, uniform.as_ref());
                }
            } else if let Some(op) = ops.next() {
                encode_copy(&mut encoder, op, staging.as_ref(), back.as_ref());
            }
        }
        shared.queue.submit([encoder.finish()]);
        back
    }

    fn encode_run(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        op: &Op,
        uniform: Option<&wgpu::Buffer>,
    ) {
        let Op::Run { pipeline, layout, group, params, groups: [x, y, z] } = op else { return };
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        if let (Some(of_params), Some(buffer)) = (&layout.uniform, uniform) {
            let device = &self.gpu.shared.device;
            let size = wgpu::BufferSize::new(4 * PARAMS_MAX as u64);
            let binding = wgpu::BufferBinding { buffer, offset: 0, size };
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: of_params,
                entries: &[wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::Buffer(binding),
                }],
            });
            pass.set_bind_group(1, &group, &[4 * params.start as u32]);
        } else if let Some(words) = self.params.get(params.clone()).filter(|w| !w.is_empty()) {
            pass.set_immediates(0, bytemuck::cast_slice(words));
        }
        pass.dispatch_workgroups(*x, *y, *z);
    }
}

fn encode_copy(
    encoder: &mut wgpu::CommandEncoder,
    op: &Op,
    staging: Option<&wgpu::Buffer>,
    back: Option<&wgpu::Buffer>,
) {
    let (source, source_offset, target, target_offset, bytes) = match op {
        Op::Copy { source, source_offset, target, target_offset, bytes } => {
            (Some(source), source_offset, Some(target), target_offset, bytes)
        }
        Op::Write { target, source_offset, target_offset, bytes } => {
            (staging, source_offset, Some(target), target_offset, bytes)
        }
        Op::Read { source, source_offset, target_offset, bytes } => {
            (Some(source), source_offset, back, target_offset, bytes)
        }
        Op::Run { .. } => return,
    };
    if let (Some(source), Some(target)) = (source, target) {
        encoder.copy_buffer_to_buffer(source, *source_offset, target, *target_offset, *bytes);
    }
}

fn within(buffer: &Buffer, offset: u64, bytes: u64) -> Result<(), GpuError> {
    let end = offset.checked_add(bytes);
    let aligned = offset.is_multiple_of(4) && bytes.is_multiple_of(4);
    if aligned && end.is_some_and(|end| end <= buffer.bytes()) {
        return Ok(());
    }
    Err(GpuError::misuse(format!("bytes {offset} and {bytes} more are not words of {buffer:?}")))
}

/// The bind group of these bindings, made once.
fn group_of(
    shared: &Shared,
    kernel: &Kernel,
    bindings: &[Binding<'_>],
) -> Result<wgpu::BindGroup, GpuError> {
    let parts = bindings.iter().map(|one| (one.buffer.id, one.offset, one.bytes)).collect();
    let key = (kernel.layout.number, parts);
    let mut groups = locked(&shared.bind_groups);
    if let Some(group) = groups.made.get(&key) {
        return Ok(group.clone());
    }
    let entries: Vec<_> = (0..)
        .zip(bindings)
        .map(|(binding, one)| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &one.buffer.raw,
                offset: one.offset,
                size: wgpu::BufferSize::new(one.bytes),
            }),
        })
        .collect();
    let descriptor = wgpu::BindGroupDescriptor {
        label: Some(kernel.name),
        layout: &kernel.layout.bindings,
        entries: &entries,
    };
    let group = shared
        .caught(|| shared.device.create_bind_group(&descriptor))
        .map_err(|error| shared.explain(&error, kernel.name))?;
    if groups.made.len() >= BIND_GROUPS_MAX {
        groups.made.clear();
    }
    groups.made.insert(key, group.clone());
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{both, floats, open, upload};
    use crate::{DeviceChoice, Without};

    const ADD: &str = "
        struct Params { count: u32, more: u32 }
        //!params Params
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        override FACTOR: f32 = 1.0;
        //!if subgroups
        const KIND: f32 = 1.0;
        //!else
        const KIND: f32 = 1.0;
        //!end
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < params.count) {
                y[id.x] += FACTOR * KIND * x[id.x] + f32(params.more);
            }
        }";

    fn add(gpu: &Gpu, factor: f64) -> Arc<Kernel> {
        gpu.kernel("add", ADD, &[Access::Read, Access::Write], &[("FACTOR", factor)]).unwrap()
    }

    #[test]
    fn what_is_recorded_happens_in_order() {
        for gpu in both() {
            let x: Vec<f32> = (0..100u8).map(f32::from).collect();
            let (x, y) = (upload(gpu, &x), upload(gpu, &[1.0; 100]));
            let (once, twice) = (add(gpu, 1.0), add(gpu, 2.0));
            assert!(Arc::ptr_eq(&once, &add(gpu, 1.0)) && !Arc::ptr_eq(&once, &twice));
            let mut step = gpu.step();
            let before = step.read(&y, 0..8);
            step.run(&once, &[x.all(), y.all()], &[100, 0], [2, 1, 1]);
            step.run(&twice, &[x.all(), y.all()], &[90, 7], [2, 1, 1]);
            let between = step.read(&y, 396..400);
            step.write(&x, 4, bytemuck::cast_slice(&[5.0f32, 6.0]));
            step.copy(&x, 4, &y, 392, 4);
            step.run(&once, &[x.all(), y.all()], &[2, 0], [1, 1, 1]);
            step.run(&once, &[x.all(), y.all()], &[100, 9], [0, 1, 1]);
            let output = step.submit().unwrap();
            let numbers = |ticket| bytemuck::pod_collect_to_vec::<u8, f32>(output.bytes(ticket));
            assert_eq!(numbers(before), [1.0, 1.0]);
            assert_eq!(numbers(between), [100.0]);
            let found = floats(gpu, &y);
            // 1 + x + 2x + 7, then once more what was written to x.
            assert_eq!(found[..4], [8.0, 11.0 + 5.0, 14.0, 17.0]);
            assert_eq!((found[97], found[98], found[99]), (98.0, 5.0, 100.0));
        }
    }

    #[test]
    fn mistakes_are_told_when_a_step_is_submitted() {
        for gpu in both() {
            let (x, y) = (upload(gpu, &[1.0; 128]), upload(gpu, &[1.0; 128]));
            let kernel = add(gpu, 1.0);
            let wrong: [&[Binding<'_>]; 5] = [
                &[x.all()],
                &[x.all(), x.all()],
                &[x.part(4, 8), y.all()],
                &[x.part(256, 260), y.all()],
                &[x.part(0, 0), y.all()],
            ];
            for bindings in wrong {
                let mut step = gpu.step();
                step.run(&kernel, bindings, &[1, 0], [1, 1, 1]);
                let error = step.submit().unwrap_err();
                assert!(matches!(error, GpuError::Use { .. }), "{error}");
            }
            let mut step = gpu.step();
            step.run(&kernel, &[x.part(256, 256), y.all()], &[0; 33], [1, 1, 1]);
            assert!(step.submit().is_err());
            let mut step = gpu.step();
            step.run(&kernel, &[x.all(), y.all()], &[0, 0], [1 << 20, 1, 1]);
            assert!(step.submit().is_err(), "more groups than a dimension may have");
            let mut step = gpu.step();
            step.write(&y, 510, &[0; 4]);
            assert!(step.submit().is_err());
            assert!(gpu.write(&y, 512, &[0]).is_err() && gpu.read(&y, 508..516).is_err());
            assert!(gpu.lost().is_none(), "mistakes do not cost the device");
            assert_eq!(floats(gpu, &y), [1.0; 128]);
        }
    }

    #[test]
    fn shaders_that_do_not_compile_are_refused_with_the_reason() {
        for gpu in both() {
            let write = [Access::Write];
            let error = gpu.kernel("broken", "fn main() { no }", &write, &[]).unwrap_err();
            assert!(error.to_string().starts_with("the shader broken does not compile"), "{error}");
            let other = "@compute @workgroup_size(1) fn other() {}";
            assert!(gpu.kernel("other", other, &write, &[]).is_err());
            for source in ["//!if cats\n//!end", "//!if f16", "//!end", "//!else", "//!if", "//!x"]
            {
                assert!(gpu.kernel("odd", source, &write, &[]).is_err(), "{source}");
            }
        }
    }

    #[test]
    fn memory_is_counted_and_given_back() {
        let choice = DeviceChoice { memory_max: Some(1 << 20), ..DeviceChoice::software() };
        let gpu = Gpu::open(&choice).unwrap();
        let first = gpu.buffer("first", 1_000_001).unwrap();
        assert_eq!((first.bytes(), gpu.memory_used()), (1_000_004, 1_000_004));
        let error = gpu.upload("second", &[0; 100_000]).unwrap_err();
        let expected = "second needs 100000 bytes of device memory and 48572 of 1048576 are left; \
                        a smaller model, fewer pages of keys and values, or a larger budget would do";
        assert_eq!(error.to_string(), expected);
        drop(first);
        let second = gpu.upload("second", &[7; 100_001]).unwrap();
        assert_eq!(gpu.read(&second, 99_996..100_004).unwrap(), [7, 7, 7, 7, 7, 0, 0, 0]);
        assert_eq!(gpu.memory_used(), 100_004);
        assert!(gpu.buffer("all", u64::MAX).is_err());
    }

    #[test]
    fn a_lost_device_is_an_error_and_not_a_panic() {
        let gpu = open(Without::default());
        let (x, y) = (upload(&gpu, &[1.0; 64]), upload(&gpu, &[1.0; 64]));
        let kernel = add(&gpu, 1.0);
        let mut step = gpu.step();
        step.run(&kernel, &[x.all(), y.all()], &[64, 0], [1, 1, 1]);
        step.read(&y, 0..256);
        gpu.lose();
        assert!(matches!(step.submit(), Err(GpuError::Lost { .. })));
        assert!(matches!(gpu.buffer("late", 4), Err(GpuError::Lost { .. })));
        assert!(matches!(gpu.kernel("late", ADD, &[], &[]), Err(GpuError::Lost { .. })));
        assert!(matches!(gpu.write(&y, 0, &[0; 4]), Err(GpuError::Lost { .. })));
        assert!(gpu.lost().is_some());
        assert!(add(&open(Without::default()), 1.0).name() == "add", "it can be opened again");
    }

    #[test]
    fn pipelines_are_kept_on_disk_and_broken_files_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(folder.path().to_owned());
        let choice = DeviceChoice { cache, ..DeviceChoice::software() };
        let file = || {
            let entry = std::fs::read_dir(folder.path()).unwrap().next()?;
            Some(entry.unwrap().path())
        };
        let compiled = || drop(add(&Gpu::open(&choice).unwrap(), 3.0));
        compiled();
        let Some(path) = file() else {
            assert!(!open(Without::default()).features().pipeline_cache, "no file was kept");
            return;
        };
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, b"something else entirely").unwrap();
        compiled();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        compiled();
    }

    #[test]
    fn devices_are_chosen_by_name_and_place() {
        let found = Gpu::list();
        let index = crate::testing::gpu().info().index;
        let named = |name: &str| crate::Device::Named(name.to_owned());
        let of = |device| DeviceChoice { device, ..DeviceChoice::software() };
        let by_name = Gpu::open(&of(named(&found[index].name.to_uppercase()))).unwrap();
        assert_eq!(by_name.info().name, found[index].name);
        assert_eq!(Gpu::open(&of(crate::Device::Index(index))).unwrap().info().index, index);
        let error = Gpu::open(&of(named("Voodoo 2"))).unwrap_err().to_string();
        assert!(error.contains("Voodoo 2") && error.contains(&found[index].name), "{error}");
        assert!(Gpu::open(&of(crate::Device::Index(99))).is_err());
        if found.iter().all(|info| !info.usable()) {
            assert!(Gpu::open(&DeviceChoice::default()).is_err(), "software only when asked for");
        }
    }
}

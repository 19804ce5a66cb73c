//! Limits of the device layer, each with its reason.

/// Words of a kernel's parameters: 128 bytes, what every Vulkan device takes as immediates.
pub const PARAMS_MAX: usize = 32;

/// Where a part of a buffer that is bound may start, in bytes: what every device can do.
pub const BINDING_ALIGNMENT: u64 = 256;

/// How long a submission may take before the device counts as hung, in seconds: drivers give up
/// much earlier, a software device with a large model takes its time.
pub const SUBMISSION_SECONDS_MAX: u64 = 120;

/// Bytes that are written to a device at a time while weights are uploaded: what the staging
/// copies may take beside the weights themselves.
pub const UPLOAD_BYTES_MAX: usize = 16 << 20;

/// Bind groups that are remembered. A large model has a few thousand; beyond this they are made
/// anew, which takes microseconds.
pub const BIND_GROUPS_MAX: usize = 16_384;

/// Bytes of a pipeline cache file that are read: those of all kernels are a few megabytes.
pub const CACHE_FILE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a panel of weights. Devices bind up to 128 MiB at least; this keeps the copy that is
/// packed on the way, of which there is one at a time, in bounds too.
pub const PANEL_BYTES_MAX: u64 = 128 << 20;

/// Rows of a panel of weights: 65,535 workgroups is what a dispatch may have, and the least rows
/// that a workgroup takes are 4.
pub const PANEL_ROWS_MAX: usize = 65_535 / 64 * 64 * 4;

/// Workgroups along one side of a grid: what every device can do.
pub const GROUPS_MAX: usize = 65_535;

/// Positions of a chunk of attention for rows that are alone in their sequence: few enough that
/// one sequence of some thousand positions keeps a large device busy, so many that joining the
/// chunks costs little beside them.
pub const CHUNK_SINGLE: usize = 256;

/// The same for rows that share what is read, of which there are many workgroups anyway.
pub const CHUNK_TILE: usize = 1024;

/// Partial results of attention in a step, each for all heads of a row: what fits a gigabyte at 32
/// heads of 64.
pub const PARTIALS_MAX: usize = 1 << 17;

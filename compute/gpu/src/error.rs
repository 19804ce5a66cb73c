//! What can go wrong with a device.

use thiserror::Error;

/// Why something could not be done on a GPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no such device.
    #[error(
        "no GPU {wanted} among those found ({found}); install its Vulkan driver (Debian: \
         mesa-vulkan-drivers and libvulkan1, or the vendor's), or choose another"
    )]
    Absent {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The device does not take the program's needs.
    #[error("open the GPU {name}: {what}")]
    Open {
        /// Its name.
        name: String,
        /// What its driver said.
        what: String,
    },
    /// What is asked for does not fit.
    #[error(
        "{what} needs {bytes} bytes of device memory and {left} of {budget} are left; a smaller \
         model, fewer pages of keys and values, or a larger budget would do"
    )]
    Memory {
        /// What it was for.
        what: String,
        /// What it takes.
        bytes: u64,
        /// What is left of the budget.
        left: u64,
        /// The budget.
        budget: u64,
    },
    /// The device has less memory than its budget says, or other programs hold it.
    #[error(
        "{what} needs {bytes} bytes of device memory, which the device does not have; set a \
         smaller budget, or close what else uses it"
    )]
    OutOfMemory {
        /// What it was for.
        what: String,
        /// What it takes.
        bytes: u64,
    },
    /// A shader that the device's compiler refuses: a fault of this program or of the driver.
    #[error("the shader {kernel} does not compile: {what}")]
    Shader {
        /// Its name.
        kernel: String,
        /// What the compiler said.
        what: String,
    },
    /// Weights that the kernels do not take.
    #[error(
        "{what} is no multiple of {multiple}; convert the model to another format, or use the CPU"
    )]
    Shape {
        /// What has which size.
        what: String,
        /// What its size would have to be a multiple of.
        multiple: usize,
    },
    /// Wrong shapes, bindings or ranges: a fault of this program.
    #[error("{what}; this is a fault of the program, please report it")]
    Use {
        /// What is wrong.
        what: String,
    },
    /// The device is gone, and everything on it.
    #[error("the device was lost: {what}")]
    Lost {
        /// What its driver said.
        what: String,
    },
}

impl GpuError {
    /// A fault of the program.
    pub(crate) fn misuse(what: impl Into<String>) -> Self {
        Self::Use { what: what.into() }
    }
}

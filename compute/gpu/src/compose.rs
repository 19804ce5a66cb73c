//! Shaders put together from constants and files, and the shapes of what they run over.
//!
//! Sizes that a model fixes become WGSL constants, not parameters: compilers unroll and keep in
//! registers what they know.

use core::fmt::Write;

use crate::buffer::Binding;
use crate::error::GpuError;
use crate::limits::GROUPS_MAX;
use crate::step::Step;

/// The value of a constant of a shader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Constant {
    Count(usize),
    Flag(bool),
}

impl From<usize> for Constant {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Constant {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// One source: the constants, then the files.
pub(crate) fn compose(constants: &[(&str, Constant)], files: &[&str]) -> String {
    let mut source = String::new();
    for (name, value) in constants {
        // Writing to a string does not fail.
        _ = match value {
            Constant::Count(count) => writeln!(source, "const {name}: u32 = {count}u;"),
            Constant::Flag(flag) => writeln!(source, "const {name}: bool = {flag};"),
        };
    }
    for file in files {
        source.push_str(file);
        source.push('\n');
    }
    source
}

/// Workgroups in a grid that is no wider than devices allow, and its width.
pub(crate) fn spread(groups: usize) -> (u32, [u32; 2]) {
    let across = groups.clamp(1, GROUPS_MAX);
    // Nothing that fits a device needs more than so many.
    let down = groups.div_ceil(across).min(GROUPS_MAX);
    (across as u32, [across as u32, down as u32])
}

/// A count as a parameter; one that does not fit is a mistake that the step tells of.
pub(crate) fn word(step: &mut Step<'_>, count: usize) -> u32 {
    u32::try_from(count).unwrap_or_else(|_| {
        step.fail(GpuError::misuse(format!("{count} elements are more than a kernel can count")));
        0
    })
}

/// Notes a mistake in the step unless a binding has room for so many words.
pub(crate) fn room(step: &mut Step<'_>, what: &str, binding: Binding<'_>, words: usize) {
    let bytes = (words as u64).saturating_mul(4);
    if binding.bytes < bytes {
        let held = binding.bytes;
        let what = format!("{what} have {held} bytes in {:?}, {bytes} are needed", binding.buffer);
        step.fail(GpuError::misuse(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_hold_all_groups_and_are_no_wider_than_allowed() {
        for groups in [0, 1, 5, GROUPS_MAX, GROUPS_MAX + 1, 3 * GROUPS_MAX] {
            let (across, [width, height]) = spread(groups);
            assert_eq!(across, width);
            assert!(width as usize <= GROUPS_MAX && height as usize <= GROUPS_MAX);
            assert!(width as usize * height as usize >= groups);
        }
    }

    #[test]
    fn constants_come_first() {
        let constants = [("A", 3.into()), ("B", true.into())];
        let source = compose(&constants, &["fn f() {}"]);
        assert_eq!(source, "const A: u32 = 3u;\nconst B: bool = true;\nfn f() {}\n");
    }
}

//! What a running template may make.
//!
//! Every way in which a template can make something large is counted before it is made: texts that
//! are put together (`+`, `~`, which `operators` turns into calls), text that it writes, results of
//! filters and methods. The sum bounds every single value, so slices, whose sizes nobody tells
//! beforehand, count as much as all that was made so far, against a sum of their own.

use std::cell::Cell;
use std::fmt;
use std::io;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::limits::TEMPLATE_MADE_BYTES_MAX;

/// What a value within another counts each time that its holder is kept: it is walked.
const VALUE_BYTES: usize = 2;
/// How deep values may be nested; a message with its parts needs four.
const VALUE_DEPTH_MAX: usize = 64;

/// What slices may take, in the bytes that they may have at most.
const TAKEN_BYTES_MAX: usize = 4 * TEMPLATE_MADE_BYTES_MAX;

thread_local! {
    // The rendering thread is made for one run, so these are of that run.
    static MADE: Cell<usize> = const { Cell::new(0) };
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Starts a run on messages of so many bytes.
pub(super) fn begin(bytes: usize) {
    MADE.set(bytes);
    TAKEN.set(0);
}

/// Counts bytes that are about to be made.
pub(super) fn charge(bytes: usize) -> Result<(), Error> {
    let made = MADE.get().saturating_add(bytes);
    MADE.set(made);
    within(made, TEMPLATE_MADE_BYTES_MAX)
}

/// Counts a slice of anything.
pub(super) fn charge_slice() -> Result<(), Error> {
    let taken = TAKEN.get().saturating_add(MADE.get());
    TAKEN.set(taken);
    within(taken, TAKEN_BYTES_MAX)
}

/// Counts a value that holds others, and refuses what is nested deeper than anything that a
/// template needs: the engine prints, compares and drops values by recursion.
pub(super) fn charge_nested(value: &Value) -> Result<(), Error> {
    walk(value, VALUE_DEPTH_MAX)
}

fn walk(value: &Value, depth: usize) -> Result<(), Error> {
    charge(VALUE_BYTES)?;
    let wrong = |text| Error::new(ErrorKind::InvalidOperation, text);
    let Some(object) = value.as_object() else { return Ok(()) };
    if object.type_name().contains("Namespace") {
        return Err(wrong("a namespace within another value is not supported"));
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(wrong("values are nested too deeply"));
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.try_for_each(|item| walk(&item, depth))
        }
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            walk(&key, depth)?;
            walk(&value.get_item(&key)?, depth)
        }),
        _ => Ok(()),
    }
}

fn within(bytes: usize, max: usize) -> Result<(), Error> {
    if bytes <= max {
        return Ok(());
    }
    let text = format!("it makes more than {max} bytes of text and lists");
    Err(Error::new(ErrorKind::OutOfFuel, text))
}

/// Text with a bound, so that printing a value that refers to itself a million times ends.
#[derive(Debug)]
pub(super) struct Limited {
    bytes: Vec<u8>,
    max: usize,
    is_over: bool,
}

impl Limited {
    pub(super) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, is_over: false }
    }

    /// The text of a value, counted.
    pub(super) fn text_of(value: &impl fmt::Display) -> Result<String, Error> {
        let left = TEMPLATE_MADE_BYTES_MAX.saturating_sub(MADE.get());
        let mut limited = Self::new(left);
        let written = fmt::write(&mut limited, format_args!("{value}"));
        charge(limited.bytes.len().saturating_add(usize::from(limited.is_over)))?;
        written?;
        limited.finish().ok_or_else(|| Error::from(fmt::Error))
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        self.is_over |= self.bytes.len().saturating_add(bytes.len()) > self.max;
        if !self.is_over {
            self.bytes.extend(bytes);
        }
        !self.is_over
    }

    /// The whole text, unless it passed its bound.
    pub(super) fn finish(self) -> Option<String> {
        if self.is_over { None } else { String::from_utf8(self.bytes).ok() }
    }
}

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.take(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = || io::Error::new(io::ErrorKind::FileTooLarge, "the prompt is too long");
        if self.take(bytes) { Ok(bytes.len()) } else { Err(full()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The reader: header, metadata, tensor descriptions, and the bounds of the data.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::error::GgufError;
use super::kind::code_name;
use super::value::{Texts, Value};
use super::{Gguf, TensorInfo, TensorKind};
use crate::limits;

/// Alignment of the data where the file does not say another.
pub(super) const ALIGNMENT_DEFAULT: u64 = 32;
/// The key that says another.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

pub(super) fn parse(bytes: &[u8]) -> Result<Gguf, GgufError> {
    if !bytes.starts_with(b"GGUF") {
        // A file that ends within its first four bytes is truncated, not foreign.
        if b"GGUF".starts_with(bytes) {
            let missing = 24 - bytes.len() as u64;
            return Err(GgufError::Truncated {
                place: "its first bytes".to_owned(),
                missing,
                at_least: true,
            });
        }
        return Err(GgufError::Magic);
    }
    let mut cursor = Cursor::new(bytes, 4);
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensor_count = cursor.count(limits::GGUF_TENSORS_MAX, "the number of tensors")?;
    let entry_count = cursor.count(limits::GGUF_ENTRIES_MAX, "the number of keys")?;
    let entries = entries(&mut cursor, entry_count)?;
    let alignment = alignment(&entries)?;
    let mut found = Vec::new();
    for index in 0..tensor_count {
        found.push(description(&mut cursor, index)?);
    }
    let data_start = (cursor.at() as u64).next_multiple_of(alignment);
    let tensors = locate(bytes.len() as u64, data_start, alignment, found)?;
    Ok(Gguf { version, entries, tensors })
}

fn entries(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut entries = BTreeMap::new();
    for index in 0..count {
        let key = cursor.text(limits::GGUF_NAME_BYTES_MAX, &format!("the name of key {index}"))?;
        let value = value(cursor, key)?;
        if entries.insert(key.to_owned(), value).is_some() {
            return Err(GgufError::Duplicate { place: format!("key {key:?}") });
        }
    }
    Ok(entries)
}

fn alignment(entries: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    match entries.get(ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(Value::Unsigned(found)) => {
            let fits = found.is_power_of_two() && (8..=limits::GGUF_ALIGNMENT_MAX).contains(found);
            if fits { Ok(*found) } else { Err(GgufError::Alignment(*found)) }
        }
        Some(other) => Err(GgufError::WrongType {
            key: ALIGNMENT_KEY.to_owned(),
            found: other.type_name(),
            wanted: "a whole number",
        }),
    }
}

fn value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, GgufError> {
    let place = format!("key {key:?}");
    let code = cursor.u32(&place)?;
    Ok(match code {
        0 => Value::Unsigned(u8::from_le_bytes(cursor.array(&place)?).into()),
        1 => Value::Signed(i8::from_le_bytes(cursor.array(&place)?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(cursor.array(&place)?).into()),
        3 => Value::Signed(i16::from_le_bytes(cursor.array(&place)?).into()),
        4 => Value::Unsigned(cursor.u32(&place)?.into()),
        5 => Value::Signed(i32::from_le_bytes(cursor.array(&place)?).into()),
        6 => Value::Float(f32::from_le_bytes(cursor.array(&place)?).into()),
        7 => match u8::from_le_bytes(cursor.array(&place)?) {
            0 => Value::Flag(false),
            1 => Value::Flag(true),
            other => {
                return Err(GgufError::BadValue { key: key.to_owned(), found: other.into() });
            }
        },
        8 => Value::Text(cursor.text(limits::GGUF_TEXT_BYTES_MAX, &place)?.to_owned()),
        9 => list(cursor, key, &place)?,
        10 => Value::Unsigned(cursor.u64(&place)?),
        11 => Value::Signed(i64::from_le_bytes(cursor.array(&place)?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array(&place)?)),
        _ => return Err(GgufError::ValueType { key: key.to_owned(), code }),
    })
}

fn list(cursor: &mut Cursor<'_>, key: &str, place: &str) -> Result<Value, GgufError> {
    let code = cursor.u32(place)?;
    let count = cursor.count(limits::GGUF_ITEMS_MAX, &format!("the length of {place}"))?;
    if code == 8 {
        return texts(cursor, count, place);
    }
    let width: u64 = match code {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        // Lists of lists among them: no key of a language model has any.
        _ => return Err(GgufError::ValueType { key: key.to_owned(), code }),
    };
    // Bounded before anything is allocated: the items are in the file.
    let bytes = cursor.take(count * width, place)?;
    let integers = |read: fn(&[u8]) -> i64| {
        Value::Integers(bytes.chunks_exact(width as usize).map(read).collect())
    };
    Ok(match code {
        2 => integers(|item| u16::from_le_bytes(fixed(item)).into()),
        3 => integers(|item| i16::from_le_bytes(fixed(item)).into()),
        4 => integers(|item| u32::from_le_bytes(fixed(item)).into()),
        5 => integers(|item| i32::from_le_bytes(fixed(item)).into()),
        6 => Value::Floats(
            bytes.chunks_exact(4).map(|item| f32::from_le_bytes(fixed(item)).into()).collect(),
        ),
        10 => {
            let all = bytes.chunks_exact(8).map(|item| u64::from_le_bytes(fixed(item)));
            let small: Result<Vec<i64>, GgufError> = all
                .map(|found| {
                    i64::try_from(found)
                        .map_err(|_| GgufError::BadValue { key: key.to_owned(), found })
                })
                .collect();
            Value::Integers(small?)
        }
        11 => integers(|item| i64::from_le_bytes(fixed(item))),
        12 => Value::Floats(
            bytes.chunks_exact(8).map(|item| f64::from_le_bytes(fixed(item))).collect(),
        ),
        _ => Value::Bytes(bytes.to_vec()),
    })
}

/// The bytes of a chunk that has this length already.
fn fixed<const N: usize>(item: &[u8]) -> [u8; N] {
    item.try_into().unwrap_or([0; N])
}

fn texts(cursor: &mut Cursor<'_>, count: u64, place: &str) -> Result<Value, GgufError> {
    // Each takes eight bytes at least, which bounds what is allocated by what is there.
    let mut texts = Texts::default();
    for _ in 0..count {
        texts.push(cursor.text(limits::GGUF_TEXT_BYTES_MAX, place)?);
    }
    Ok(Value::Texts(texts))
}

struct Description {
    name: String,
    shape: Vec<u64>,
    kind: TensorKind,
    offset: u64,
    length: u64,
}

fn description(cursor: &mut Cursor<'_>, index: u64) -> Result<Description, GgufError> {
    let nameless = format!("the description of tensor {index}");
    let name = cursor.text(limits::GGUF_NAME_BYTES_MAX, &nameless)?.to_owned();
    let place = format!("the description of tensor {name:?}");
    let dimensions = cursor.u32(&place)?;
    if !(1..=limits::GGUF_DIMENSIONS_MAX).contains(&dimensions) {
        return Err(GgufError::TooMany {
            place: format!("the number of dimensions of tensor {name:?}"),
            found: dimensions.into(),
            max: limits::GGUF_DIMENSIONS_MAX.into(),
        });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64(&place)?);
    }
    let code = cursor.u32(&place)?;
    let offset = cursor.u64(&place)?;
    let Some(kind) = TensorKind::from_code(code) else {
        return Err(GgufError::TensorType { tensor: name, code, name: code_name(code) });
    };
    let length = if shape.contains(&0) { None } else { kind.bytes_of(&shape) };
    let Some(length) = length else { return Err(GgufError::Shape { tensor: name, shape }) };
    Ok(Description { name, shape, kind, offset, length: length as u64 })
}

/// Places all tensors within the file.
fn locate(
    file_bytes: u64,
    data_start: u64,
    alignment: u64,
    mut found: Vec<Description>,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    found.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    let mut tensors = BTreeMap::new();
    let mut missing: Option<(u64, String)> = None;
    let mut last: Option<(u64, String)> = None;
    for Description { name, shape, kind, offset, length } in found {
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { tensor: name, offset });
        }
        let start = data_start.checked_add(offset);
        let range = start.and_then(|start| Some((start, start.checked_add(length)?)));
        let Some((start, end)) = range else {
            return Err(GgufError::Shape { tensor: name, shape });
        };
        if let Some((_, first)) = last.filter(|(last_end, _)| *last_end > start) {
            return Err(GgufError::Overlap { first, second: name });
        }
        if end > file_bytes {
            // The last tensor's end is the file's; where it breaks off is the first one cut.
            let place = missing.map_or_else(|| format!("tensor {name:?}"), |(_, place)| place);
            missing = Some((end - file_bytes, place));
        }
        last = Some((end, name.clone()));
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
            return Err(GgufError::Shape { tensor: name, shape });
        };
        let place = format!("tensor {name:?}");
        if tensors.insert(name, TensorInfo { shape, kind, range: start..end }).is_some() {
            return Err(GgufError::Duplicate { place });
        }
    }
    match missing {
        Some((missing, place)) => Err(GgufError::Truncated { place, missing, at_least: false }),
        None => Ok(tensors),
    }
}

//! Protocol buffers on the wire, field by field: as much of them as files of the exchange format
//! have (<https://protobuf.dev/programming-guides/encoding/>).

use super::OnnxFileError;

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nothing that is read here has.
    Fixed,
}

impl<'a> Field<'a> {
    /// The bytes of a message, a text or a list; an error for anything else.
    pub(super) fn bytes(&self, what: &'static str) -> Result<&'a [u8], OnnxFileError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(OnnxFileError::Form { what }),
        }
    }

    /// A text.
    pub(super) fn text(&self, what: &'static str) -> Result<&'a str, OnnxFileError> {
        core::str::from_utf8(self.bytes(what)?).map_err(|_| OnnxFileError::Form { what })
    }

    /// A whole number.
    pub(super) const fn number(&self, what: &'static str) -> Result<u64, OnnxFileError> {
        match self.value {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(OnnxFileError::Form { what }),
        }
    }
}

/// The fields of a message, in order.
pub(super) struct Fields<'a> {
    left: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8], what: &'static str) -> Self {
        Self { left: message, what }
    }

    fn varint(&mut self) -> Result<u64, OnnxFileError> {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let (byte, rest) =
                self.left.split_first().ok_or(OnnxFileError::Short { what: self.what })?;
            self.left = rest;
            // Of the tenth byte one bit is left.
            if shift == 63 && *byte > 1 {
                return Err(OnnxFileError::Form { what: self.what });
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], OnnxFileError> {
        let short = OnnxFileError::Short { what: self.what };
        let len = usize::try_from(len).map_err(|_| short.clone())?;
        let (taken, rest) = self.left.split_at_checked(len).ok_or(short)?;
        self.left = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<Field<'a>, OnnxFileError> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(OnnxFileError::Form { what: self.what }),
        };
        Ok(Field { number: tag >> 3, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, OnnxFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.left = &[];
        }
        Some(field)
    }
}

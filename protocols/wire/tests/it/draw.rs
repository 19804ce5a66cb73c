//! Arbitrary values of any message type, drawn from a seed.
//!
//! A serde deserializer that reads from a generator instead of bytes: whatever type asks, it gets a
//! value of the shape it asks for. Bounds come from what the type's visitor says it expects, so no
//! message needs a strategy of its own, and a new field is covered the day it appears.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Items of a drawn list, and bytes of a drawn string, at most: enough for every path through the
/// encoding, few enough to read.
const ITEMS_MAX: usize = 3;
const BYTES_MAX: usize = 24;

/// Why nothing was drawn: the type asks for what no message holds, or has no such variant.
#[derive(Debug)]
pub(crate) struct DrawError(String);

impl fmt::Display for DrawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DrawError {}

impl de::Error for DrawError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A generator (SplitMix64) that answers as a deserializer.
pub(crate) struct Draw {
    state: u64,
    variant: Option<usize>,
}

/// A value of any type; the same seed gives the same value.
pub(crate) fn draw<T: DeserializeOwned>(seed: u64) -> T {
    T::deserialize(&mut Draw { state: seed, variant: None }).unwrap()
}

/// A value of one variant of an enum, or `None` past the last.
pub(crate) fn draw_variant<T: DeserializeOwned>(seed: u64, variant: usize) -> Option<T> {
    T::deserialize(&mut Draw { state: seed, variant: Some(variant) }).ok()
}

impl Draw {
    /// A generator for raw choices.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, variant: None }
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Numbers around the places where their encoding changes length, and any others.
    fn number(&mut self, bits: u32) -> u64 {
        let max = u64::MAX >> (64 - bits);
        let edges = [0, 1, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, max];
        let edge = edges[self.below(edges.len())];
        if self.below(2) == 0 { edge.min(max) } else { self.next() & max }
    }

    /// A length that `expected` allows: "of 32 bytes" is exact, "at most 64 bytes" is a bound.
    fn length(&mut self, expected: &str, usual: usize) -> usize {
        let mut words = expected.split(' ').filter_map(|word| word.parse::<usize>().ok());
        match words.next_back() {
            Some(exact) if !expected.contains("at most") => exact,
            Some(max) if max <= 600 && self.below(16) == 0 => max,
            max => self.below(usual.min(max.unwrap_or(usual)) + 1),
        }
    }

    fn bytes(&mut self, expected: &str) -> Vec<u8> {
        (0..self.length(expected, BYTES_MAX)).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, expected: &str) -> String {
        const LETTERS: [char; 12] =
            ['a', 'z', 'A', '0', '9', '-', '/', ' ', '"', '\u{e9}', '\u{8a9e}', '\u{1f980}'];
        let bytes_max = self.length(expected, BYTES_MAX);
        let mut text = String::new();
        loop {
            let letter = LETTERS[self.below(LETTERS.len())];
            if text.len() + letter.len_utf8() > bytes_max {
                return text;
            }
            text.push(letter);
        }
    }
}

fn expected<'de, V: Visitor<'de>>(visitor: &V) -> String {
    (visitor as &dyn Expected).to_string()
}

/// Lists, tuples and maps: gives as many items as are left.
struct Items<'a> {
    draw: &'a mut Draw,
    left: usize,
    fields: &'static [&'static str],
}

impl<'a> Items<'a> {
    fn new(draw: &'a mut Draw, left: usize) -> Self {
        Self { draw, left, fields: &[] }
    }

    fn fields(draw: &'a mut Draw, fields: &'static [&'static str]) -> Self {
        Self { draw, left: fields.len(), fields }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DrawError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DrawError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.draw).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Items<'_> {
    type Error = DrawError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DrawError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        match self.fields.split_first() {
            Some((field, rest)) => {
                self.fields = rest;
                seed.deserialize(field.into_deserializer()).map(Some)
            }
            None => seed.deserialize(&mut *self.draw).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DrawError> {
        seed.deserialize(&mut *self.draw)
    }
}

struct Chosen<'a> {
    draw: &'a mut Draw,
    name: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Chosen<'a> {
    type Error = DrawError;
    type Variant = &'a mut Draw;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, &'a mut Draw), DrawError> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self.draw))
    }
}

impl<'de> VariantAccess<'de> for &mut Draw {
    type Error = DrawError;

    fn unit_variant(self) -> Result<(), DrawError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DrawError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, v: V) -> Result<V::Value, DrawError> {
        v.visit_seq(Items::new(self, len))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, DrawError> {
        v.visit_map(Items::fields(self, fields))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $bits:literal $ty:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
            let number = self.number($bits);
            v.$visit(number as $ty)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
            Err(DrawError(format!("no message holds {}", expected(&v))))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Draw {
    type Error = DrawError;

    numbers! {
        deserialize_u8 visit_u8 8 u8;
        deserialize_u16 visit_u16 16 u16;
        deserialize_u32 visit_u32 32 u32;
        deserialize_u64 visit_u64 64 u64;
        deserialize_i32 visit_i32 32 i32;
    }

    refused! {
        deserialize_any deserialize_i8 deserialize_i16 deserialize_i64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_bool<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        let choice = self.below(2) == 1;
        v.visit_bool(choice)
    }

    fn deserialize_str<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        let text = self.text(&expected(&v));
        v.visit_string(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        self.deserialize_str(v)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        let bytes = self.bytes(&expected(&v));
        v.visit_bytes(&bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        self.deserialize_bytes(v)
    }

    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        if self.below(2) == 0 { v.visit_none() } else { v.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        v: V,
    ) -> Result<V::Value, DrawError> {
        v.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        v: V,
    ) -> Result<V::Value, DrawError> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        let len = self.length(&expected(&v), ITEMS_MAX).min(ITEMS_MAX);
        v.visit_seq(Items::new(self, len))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, v: V) -> Result<V::Value, DrawError> {
        v.visit_seq(Items::new(self, len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        v: V,
    ) -> Result<V::Value, DrawError> {
        v.visit_seq(Items::new(self, len))
    }

    fn deserialize_map<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DrawError> {
        let len = self.below(ITEMS_MAX);
        v.visit_map(Items::new(self, len))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, DrawError> {
        v.visit_map(Items::fields(self, fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, DrawError> {
        let index = self.variant.take().unwrap_or_else(|| self.below(variants.len()));
        let name = variants.get(index).ok_or_else(|| DrawError(format!("no variant {index}")))?;
        v.visit_enum(Chosen { draw: self, name })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

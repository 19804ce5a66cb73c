//! How keys and values become bytes: encodings that keep the order of the keys.
//!
//! Integers are big-endian, so that byte order is numeric order; pairs are concatenated, which is
//! why all but the last part of a pair must have a fixed width. Values are whatever the caller
//! encodes; the few implementations here are for counters and raw bytes.

/// A key whose encoding sorts as the key does.
pub trait Key: Sized {
    /// The encoding: `a < b` exactly when `a.to_key() < b.to_key()`.
    fn to_key(&self) -> Vec<u8>;
    /// The key of an encoding, or `None` when the bytes are no encoding of one.
    fn from_key(bytes: &[u8]) -> Option<Self>;
}

/// A key whose encoding always has the same length.
pub trait FixedKey: Key {
    /// The length in bytes.
    const WIDTH: usize;
}

/// A value, as bytes.
pub trait Value: Sized {
    /// The encoding.
    fn to_value(&self) -> Vec<u8>;
    /// The value of an encoding, or `None` when the bytes are no encoding of one.
    fn from_value(bytes: &[u8]) -> Option<Self>;
}

macro_rules! integer {
    ($($int:ty),+) => {$(
        impl Key for $int {
            fn to_key(&self) -> Vec<u8> {
                self.to_be_bytes().to_vec()
            }
            fn from_key(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
        impl FixedKey for $int {
            const WIDTH: usize = size_of::<$int>();
        }
        impl Value for $int {
            fn to_value(&self) -> Vec<u8> {
                self.to_be_bytes().to_vec()
            }
            fn from_value(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )+};
}
integer!(u8, u16, u32, u64, u128);

macro_rules! raw_bytes {
    ($([$($generics:tt)*] $type:ty),+) => {$(
        impl<$($generics)*> Key for $type {
            fn to_key(&self) -> Vec<u8> {
                self.to_vec()
            }
            fn from_key(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok()
            }
        }
        impl<$($generics)*> Value for $type {
            fn to_value(&self) -> Vec<u8> {
                self.to_vec()
            }
            fn from_value(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok()
            }
        }
    )+};
}
raw_bytes!([] Vec<u8>, [const N: usize] [u8; N]);

impl<const N: usize> FixedKey for [u8; N] {
    const WIDTH: usize = N;
}

impl Key for String {
    fn to_key(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_key(bytes: &[u8]) -> Option<Self> {
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }
}

impl Value for String {
    fn to_value(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_value(bytes: &[u8]) -> Option<Self> {
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }
}

impl Value for () {
    fn to_value(&self) -> Vec<u8> {
        Vec::new()
    }
    fn from_value(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl<A: FixedKey, B: Key> Key for (A, B) {
    fn to_key(&self) -> Vec<u8> {
        let mut bytes = self.0.to_key();
        bytes.extend(self.1.to_key());
        bytes
    }
    fn from_key(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(A::WIDTH)?;
        Some((A::from_key(first)?, B::from_key(rest)?))
    }
}

impl<A: FixedKey, B: FixedKey> FixedKey for (A, B) {
    const WIDTH: usize = A::WIDTH + B::WIDTH;
}

impl<A: FixedKey, B: FixedKey, C: Key> Key for (A, B, C) {
    fn to_key(&self) -> Vec<u8> {
        let mut bytes = self.0.to_key();
        bytes.extend(self.1.to_key());
        bytes.extend(self.2.to_key());
        bytes
    }
    fn from_key(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(A::WIDTH)?;
        let (second, third) = rest.split_at_checked(B::WIDTH)?;
        Some((A::from_key(first)?, B::from_key(second)?, C::from_key(third)?))
    }
}

impl<A: FixedKey, B: FixedKey, C: FixedKey> FixedKey for (A, B, C) {
    const WIDTH: usize = A::WIDTH + B::WIDTH + C::WIDTH;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<K: Key + PartialEq + std::fmt::Debug>(key: &K) {
        assert_eq!(K::from_key(&key.to_key()).as_ref(), Some(key));
    }

    proptest! {
        #[test]
        fn encodings_sort_as_keys_do(
            a: (u64, [u8; 4], String),
            b: (u64, [u8; 4], String),
        ) {
            prop_assert_eq!(a.cmp(&b), a.to_key().cmp(&b.to_key()));
            round_trip(&a);
            round_trip(&(a.0, b.2));
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = <(u64, [u8; 4], String)>::from_key(&bytes);
            let _ = <(u32, u16)>::from_key(&bytes);
            let _ = String::from_value(&bytes);
            let _ = <()>::from_value(&bytes);
        }
    }

    #[test]
    fn wrong_lengths_are_no_keys() {
        assert_eq!(u64::from_key(&[1, 2, 3]), None);
        assert_eq!(<(u64, u64)>::from_key(&[0; 15]), None);
        assert_eq!(<(u64, u64)>::from_key(&[0; 17]), None);
        assert_eq!(<[u8; 2]>::from_key(&[1, 2, 3]), None);
    }
}

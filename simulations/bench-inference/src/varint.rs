//! Unsigned LEB128 numbers, in which the committed vectors are written.

/// The number at the start of `left`, which then begins behind it; `None` if it is cut off or
/// has more than 32 bits.
pub(crate) fn varint(left: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = left.split_first()?;
        *left = rest;
        let bits = u32::from(byte & 0x7f);
        value |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_overlong_ones_are_not() {
        let mut left = [5, 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 9].as_slice();
        assert_eq!(varint(&mut left), Some(5));
        assert_eq!(varint(&mut left), Some(128));
        assert_eq!(varint(&mut left), Some(u32::MAX));
        assert_eq!(left, [9]);
        for bad in [&[][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0x80; 6]] {
            assert_eq!(varint(&mut &*bad), None, "{bad:?}");
        }
    }
}

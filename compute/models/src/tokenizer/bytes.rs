//! How GPT-2's vocabularies write bytes as characters (`bytes_to_unicode` of its paper's code):
//! printable bytes of Latin-1 stand for themselves, all others for the characters from U+0100 on.

/// Whether a byte stands for itself.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The character of each byte.
pub(super) const CHARACTERS: [char; 256] = {
    let mut characters = ['\0'; 256];
    let (mut byte, mut others) = (0, 0);
    while byte < 256 {
        let code = if is_printable(byte as u8) {
            byte as u32
        } else {
            others += 1;
            0xff + others
        };
        if let Some(character) = char::from_u32(code) {
            characters[byte] = character;
        }
        byte += 1;
    }
    characters
};

/// The byte of a character, if it has one.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        // The 68 others, in order.
        Err(_) => {
            let index = usize::try_from(code.checked_sub(0x100)?).ok()?;
            (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(index)
        }
    }
}

/// Bytes as characters.
pub(super) fn written(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| CHARACTERS.get(usize::from(*byte)).copied().unwrap_or('\0')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        for byte in 0..=255 {
            assert_eq!(byte_of(CHARACTERS[usize::from(byte)]), Some(byte));
        }
        assert_eq!(written(b" a\n"), "\u{120}a\u{10a}");
        assert_eq!((byte_of('\u{144}'), byte_of('\u{143}')), (None, Some(0xad)));
        assert_eq!(byte_of(' '), None);
    }
}

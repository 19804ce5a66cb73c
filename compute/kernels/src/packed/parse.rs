//! A file's blocks taken apart: codes and scales as bytes, no arithmetic.
//!
//! The layouts are those of GGUF files (ggml's `block_q4_0` and so on), as in `dequantize`, by
//! which the tests check these.

use super::activations::BLOCK;
use super::kind::ROWS;
use crate::format::Format;

/// 32 columns of one row.
pub(super) struct Parsed {
    /// Codes, their offset not yet taken off.
    pub(super) codes: [u8; BLOCK],
    /// Half-precision scale and minimum: the block's, or those that 8 blocks share.
    pub(super) halves: [[u8; 2]; 2],
    /// What those of 8 blocks are multiplied by in this one.
    pub(super) factors: [u8; 2],
}

/// Bytes of a block's codes of 4 bits, element `j` with `j + 16`.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    core::array::from_fn(|j| {
        let byte = bytes[j % 16];
        if j < 16 { byte & 15 } else { byte >> 4 }
    })
}

/// Adds the fifth bits of a block: bit `j` for the element `j`.
fn with_fifth(mut codes: [u8; BLOCK], bits: &[u8]) -> [u8; BLOCK] {
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (bits[j / 8] >> (j % 8) & 1) << 4;
    }
    codes
}

/// Scale and minimum, 6 bits each, of the sub-block `j` of 8, from the 12 packed bytes.
fn six_bits(packed: &[u8], j: usize) -> [u8; 2] {
    if j < 4 {
        [packed[j] & 63, packed[j + 4] & 63]
    } else {
        [
            (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4,
            (packed[j + 4] >> 4) | (packed[j] >> 6) << 4,
        ]
    }
}

/// The nibbles of the sub-block `j` of a block whose 128 bytes hold pairs of sub-blocks.
fn paired_nibbles(bytes: &[u8], j: usize) -> [u8; BLOCK] {
    core::array::from_fn(|l| bytes[32 * (j / 2) + l] >> (4 * (j % 2)) & 15)
}

/// The sub-block `j` (0 in formats whose blocks have 32 elements) of a block in an integer format.
pub(super) fn parse(format: Format, block: &[u8], j: usize) -> Parsed {
    let half = |at: usize| [block[at], block[at + 1]];
    let none = [0; 2];
    let (codes, halves, factors) = match format {
        Format::Q4_0 => (nibbles(&block[2..]), [half(0), none], none),
        Format::Q4_1 => (nibbles(&block[4..]), [half(0), half(2)], none),
        Format::Q5_0 => (with_fifth(nibbles(&block[6..]), &block[2..]), [half(0), none], none),
        Format::Q5_1 => (with_fifth(nibbles(&block[8..]), &block[4..]), [half(0), half(2)], none),
        Format::Q4K => {
            (paired_nibbles(&block[16..], j), [half(0), half(2)], six_bits(&block[4..], j))
        }
        Format::Q5K => {
            let mut codes = paired_nibbles(&block[48..], j);
            for (code, high) in codes.iter_mut().zip(&block[16..48]) {
                *code |= (high >> j & 1) << 4;
            }
            (codes, [half(0), half(2)], six_bits(&block[4..], j))
        }
        Format::Q6K => {
            let (side, quarter) = (j / 4, j % 4);
            let codes = core::array::from_fn(|l| {
                let low = block[64 * side + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let high = block[128 + 32 * side + l] >> (2 * quarter) & 3;
                low | high << 4
            });
            (codes, [half(208), none], [block[192 + 2 * j], block[193 + 2 * j]])
        }
        Format::Q8_0 | Format::F32 | Format::F16 | Format::Bf16 => {
            (core::array::from_fn(|l| block[2 + l] ^ 0x80), [half(0), none], none)
        }
    };
    Parsed { codes, halves, factors }
}

/// Writes a row's codes into its places among the `64 * bits` bytes of a packed block.
pub(super) fn place(codes: &[u8; BLOCK], bits: usize, row: usize, out: &mut [u8]) {
    // Where a code of the quad `quad` has its byte of 64.
    let lane = |j: usize| 4 * row + j % 4;
    if bits == 8 {
        for (j, &code) in codes.iter().enumerate() {
            out[64 * (j / 4) + lane(j)] = code;
        }
        return;
    }
    for j in 0..BLOCK / 2 {
        out[64 * (j / 4) + lane(j)] = codes[j] & 15 | codes[j + 16] << 4;
    }
    let (_, planes) = out.split_at_mut(64 * 4);
    for (j, &code) in codes.iter().enumerate() {
        let (quad, high) = (j / 4, code >> 4);
        match bits {
            5 => planes[lane(j)] |= high << quad,
            6 => planes[64 * (quad / 4) + lane(j)] |= high << (2 * (quad % 4)),
            _ => {}
        }
    }
}

/// Writes a row's 16-bit number into a list of 16.
pub(super) fn place_half(half: [u8; 2], row: usize, out: &mut [u8]) {
    let native = u16::from_le_bytes(half).to_ne_bytes();
    out[2 * row..2 * row + 2].copy_from_slice(&native);
}

/// Writes a row's byte into a list of 16.
pub(super) fn place_byte(byte: u8, row: usize, out: &mut [u8]) {
    debug_assert!(row < ROWS);
    out[row] = byte;
}

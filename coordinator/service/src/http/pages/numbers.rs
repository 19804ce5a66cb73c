//! Numbers for people.

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `812 bytes`, `34.5 kB`, `1.2 MB`, in powers of 1,000.
pub(super) fn bytes(bytes: u64) -> String {
    let tenths =
        |unit: u64, name: &str| format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10));
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => tenths(1_000, "kB"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "MB"),
        _ => tenths(1_000_000_000, "GB"),
    }
}

/// A number of so many parts, without needless zeros: `0.8` of 800 parts in 1,000.
pub(super) fn fraction(parts: u32, of: u32) -> String {
    let of = of.max(1);
    let digits = of.ilog10() as usize;
    let text = format!("{}.{:0digits$}", parts / of, parts % of);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let all = [0, 999, 1_000, 16_700, 1_234_567, 100_000_000].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "16,700", "1,234,567", "100,000,000"]);
        let all = [5, 34_567, 1_200_000, 7_050_000_000].map(bytes);
        assert_eq!(all, ["5 bytes", "34.5 kB", "1.2 MB", "7.0 GB"]);
        let all = [(800, 1_000), (1_000, 1_000), (0, 1_000), (1_250, 1_000), (20_000, 1_000_000)];
        let all = all.map(|(parts, of)| fraction(parts, of));
        assert_eq!(all, ["0.8", "1", "0", "1.25", "0.02"]);
    }
}

//! The container: what is written is read, and what is wrong is named.

use openledger_models::gguf::{Texts, Value};
use openledger_models::{Gguf, GgufError, GgufWriter, TensorKind};

fn error(bytes: &[u8]) -> String {
    Gguf::parse(bytes).unwrap_err().to_string()
}

fn sample() -> GgufWriter {
    GgufWriter::new()
        .text("general.architecture", "llama")
        .u32("a.number", 7)
        .f32("a.float", 0.5)
        .flag("a.flag", true)
        .texts("some.texts", ["x", "", "\u{e9}"])
        .i32s("some.integers", &[-1, 2])
        .f32s("some.floats", &[0.25])
        .raw("a.signed", 11, &(-5i64).to_le_bytes())
        .raw("a.byte", 0, &[200])
        .raw("a.double", 12, &0.1f64.to_le_bytes())
        .raw("some.bytes", 9, &[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8, 9])
        .floats("first", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor("second", &[32, 2], TensorKind::Q4_0, &[9; 36])
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample().finish();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.unsigned("a.number").unwrap(), Some(7));
    assert_eq!(gguf.unsigned("a.byte").unwrap(), Some(200));
    assert_eq!(gguf.get("a.signed"), Some(&Value::Signed(-5)));
    assert_eq!(gguf.float("a.float").unwrap(), Some(0.5));
    assert_eq!(gguf.float("a.double").unwrap(), Some(0.1));
    assert_eq!(gguf.flag("a.flag").unwrap(), Some(true));
    let texts: Texts = ["x", "", "\u{e9}"].into_iter().collect();
    assert_eq!(gguf.texts("some.texts").unwrap(), Some(&texts));
    assert_eq!(gguf.integers("some.integers").unwrap(), Some(&[-1, 2][..]));
    assert_eq!(gguf.floats("some.floats").unwrap(), Some(&[0.25][..]));
    assert_eq!(gguf.get("some.bytes"), Some(&Value::Bytes(vec![8, 9])));
    assert_eq!(gguf.unsigned("absent").unwrap(), None);
    let first = gguf.tensor("first").unwrap();
    assert_eq!((first.shape.as_slice(), first.kind), (&[3, 2][..], TensorKind::F32));
    assert_eq!(bytes[first.range.clone()][20..], 6.0f32.to_le_bytes());
    let second = gguf.tensor("second").unwrap();
    assert_eq!(second.range.start % 32, 0);
    assert_eq!(bytes[second.range.clone()], [9; 36]);
    assert_eq!(gguf.tensors().count(), 2);
    assert_eq!(gguf.entries().count(), 11);
    let wrong = gguf.text("a.number").unwrap_err().to_string();
    assert!(wrong.contains("\"a.number\" is an integer where a text is needed"), "{wrong}");
}

#[test]
fn version_2_is_read_and_others_are_not() {
    let mut bytes = sample().finish();
    bytes[4] = 2;
    assert_eq!(Gguf::parse(&bytes).unwrap().version(), 2);
    bytes[4] = 1;
    assert!(error(&bytes).contains("version 1 is not supported"));
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(error(&bytes).contains("little-endian"));
    assert_eq!(Gguf::parse(b"<html>404").unwrap_err(), GgufError::Magic);
}

#[test]
fn a_truncated_file_says_how_much_is_missing_and_what_to_do() {
    let bytes = sample().finish();
    // The padding behind the last tensor is no part of it.
    let whole = Gguf::parse(&bytes).unwrap().tensor("second").unwrap().range.end;
    assert!(Gguf::parse(&bytes[..whole]).is_ok());
    for length in 0..whole {
        let e = Gguf::parse(&bytes[..length]).unwrap_err();
        let GgufError::Truncated { missing, at_least, .. } = e else {
            panic!("{length} bytes: {e}")
        };
        assert!(missing > 0 && missing <= (whole - length) as u64, "{length} bytes: {missing}");
        assert!(at_least || missing == (whole - length) as u64);
        assert!(e.to_string().contains("download it again"), "{e}");
    }
    let says = error(&bytes[..whole - 50]);
    assert!(says.contains("truncated in tensor \"first\": 50 bytes are missing;"), "{says}");
}

#[test]
fn counts_and_lengths_are_bounded_before_use() {
    let head = |tensors: u64, keys: u64| {
        let counts = [tensors.to_le_bytes(), keys.to_le_bytes()].concat();
        [b"GGUF\x03\0\0\0", counts.as_slice()].concat()
    };
    assert!(error(&head(u64::MAX, 0)).contains("number of tensors says 18446744073709551615"));
    assert!(error(&head(0, 1 << 40)).contains("number of keys"));
    let key = |code: u32, rest: &[u8]| {
        [&head(0, 1), &1u64.to_le_bytes()[..], b"k", &code.to_le_bytes(), rest].concat()
    };
    let list = |code: u32, count: u64| [&code.to_le_bytes()[..], &count.to_le_bytes()].concat();
    assert!(error(&key(8, &u64::MAX.to_le_bytes())).contains("\"k\" says"));
    assert!(error(&key(9, &list(4, u64::MAX))).contains("length of key \"k\""));
    assert!(error(&key(9, &list(12, 1 << 20))).contains("bytes are missing at least"));
    assert!(error(&key(9, &list(8, 1 << 20))).contains("truncated in key \"k\""));
    assert!(error(&key(9, &list(9, 1))).contains("type 9"));
    assert!(error(&key(77, &[])).contains("type 77"));
    assert!(error(&key(7, &[2])).contains("value 2"));
    assert!(error(&key(8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe])).contains("not UTF-8"));
}

#[test]
fn tensors_must_fit() {
    let bytes = [0u8; 128];
    let tensor =
        |shape: &[u64]| GgufWriter::new().tensor("t", shape, TensorKind::Q4_0, &bytes).finish();
    for shape in [&[31][..], &[0, 2], &[32, u64::MAX], &[u64::MAX - 31, 2]] {
        assert!(error(&tensor(shape)).contains("impossible shape"), "{shape:?}");
    }
    assert!(error(&tensor(&[])).contains("number of dimensions"));
    assert!(error(&tensor(&[1, 1, 1, 1, 1])).contains("number of dimensions"));
    let twice = GgufWriter::new().floats("t", &[1], &[1.0]).floats("t", &[1], &[1.0]);
    assert!(error(&twice.finish()).contains("tensor \"t\" appears twice"));
    let twice = GgufWriter::new().u32("k", 1).u32("k", 1);
    assert!(error(&twice.finish()).contains("key \"k\" appears twice"));
    let odd = GgufWriter::new().alignment(24);
    assert!(error(&odd.finish()).contains("alignment 24"));
    let wide = GgufWriter::new().alignment(64).floats("t", &[1], &[1.0]).finish();
    assert_eq!(Gguf::parse(&wide).unwrap().tensor("t").unwrap().range.start % 64, 0);

    // Descriptions end with kind and offset.
    let two = GgufWriter::new().floats("a", &[8], &[0.0; 8]).floats("b", &[8], &[0.0; 8]).finish();
    let at = two.windows(1).enumerate().rposition(|(_, w)| w == b"b").unwrap() + 1 + 4 + 8;
    let with = |offset: u64| {
        let mut bytes = two.clone();
        bytes[at + 4..at + 12].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    assert!(Gguf::parse(&with(32)).is_ok());
    assert!(error(&with(0)).contains("\"a\" and \"b\" share bytes"));
    assert!(error(&with(33)).contains("begins at 33"));
    assert!(error(&with(1 << 40)).contains("truncated in tensor \"b\""));
    assert!(error(&with(u64::MAX - 31)).contains("impossible shape"));
    let mut unknown = two;
    unknown[at..at + 4].copy_from_slice(&16u32.to_le_bytes());
    assert!(error(&unknown).contains("type 16 (IQ2_XXS)"));
}

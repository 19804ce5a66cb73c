//! The messages of `onnx.proto` that matter here, by their field numbers.

use std::collections::BTreeSet;

use super::wire::{Field, Fields};
use super::{OnnxElement, OnnxFile, OnnxFileError, OnnxValue};
use crate::limits::{
    ONNX_DEPTH_MAX, ONNX_EXTERNAL_FILES_MAX, ONNX_NAME_BYTES_MAX, ONNX_VALUES_MAX,
};

/// `ModelProto`.
pub(super) fn file(bytes: &[u8]) -> Result<OnnxFile, OnnxFileError> {
    let mut own = OnnxFile::default();
    let mut graph_found = false;
    for field in Fields::new(bytes, "the file") {
        let field = field?;
        match field.number {
            7 => {
                graph_found = true;
                let mut graph = Graph { own: &mut own, depth: 0 };
                graph.read(field.bytes("the graph")?)?;
            }
            8 => {
                let (domain, version) = opset(field.bytes("an opset")?)?;
                if own.domains.len() >= ONNX_VALUES_MAX {
                    return Err(OnnxFileError::Values);
                }
                own.domains.insert(domain, version);
            }
            20 => return Err(OnnxFileError::Training),
            25 => {
                let mut graph = Graph { own: &mut own, depth: 1 };
                graph.function(field.bytes("a function")?)?;
            }
            _ => {}
        }
    }
    if !graph_found {
        return Err(OnnxFileError::Missing { what: "the graph" });
    }
    Ok(own)
}

/// `OperatorSetIdProto`.
fn opset(bytes: &[u8]) -> Result<(String, u64), OnnxFileError> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields::new(bytes, "an opset") {
        let field = field?;
        match field.number {
            1 => domain = name(&field, "the domain of an opset")?,
            2 => version = field.number("the version of an opset")?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// A text that is kept.
fn name(field: &Field<'_>, what: &'static str) -> Result<String, OnnxFileError> {
    let text = field.text(what)?;
    if text.len() > ONNX_NAME_BYTES_MAX {
        return Err(OnnxFileError::Form { what });
    }
    Ok(text.to_owned())
}

/// A graph that is being read.
struct Graph<'a> {
    own: &'a mut OnnxFile,
    /// Graphs around it.
    depth: usize,
}

impl Graph<'_> {
    /// `GraphProto`.
    fn read(&mut self, bytes: &[u8]) -> Result<(), OnnxFileError> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let mut given = BTreeSet::new();
        for field in Fields::new(bytes, "the graph") {
            let field = field?;
            match field.number {
                1 => self.node(field.bytes("a node")?)?,
                5 => {
                    let initializer = self.tensor(field.bytes("an initializer")?)?;
                    given.insert(initializer);
                }
                11 | 12 if self.depth == 0 => {
                    let list = if field.number == 11 { &mut inputs } else { &mut outputs };
                    if list.len() >= ONNX_VALUES_MAX {
                        return Err(OnnxFileError::Values);
                    }
                    list.push(value(field.bytes("an input or output")?)?);
                }
                15 => {
                    let initializer = self.sparse(field.bytes("a sparse initializer")?)?;
                    given.insert(initializer);
                }
                _ => {}
            }
        }
        if self.depth == 0 {
            inputs.retain(|input| !given.contains(input.name.as_bytes()));
            (self.own.inputs, self.own.outputs) = (inputs, outputs);
        }
        Ok(())
    }

    /// `FunctionProto`.
    fn function(&mut self, bytes: &[u8]) -> Result<(), OnnxFileError> {
        for field in Fields::new(bytes, "a function") {
            let field = field?;
            match field.number {
                7 => self.node(field.bytes("a node")?)?,
                11 => self.attribute(field.bytes("an attribute")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `NodeProto`.
    fn node(&mut self, bytes: &[u8]) -> Result<(), OnnxFileError> {
        for field in Fields::new(bytes, "a node") {
            let field = field?;
            if field.number == 5 {
                self.attribute(field.bytes("an attribute")?)?;
            }
        }
        Ok(())
    }

    /// `AttributeProto`: tensors and graphs may lie in it.
    fn attribute(&mut self, bytes: &[u8]) -> Result<(), OnnxFileError> {
        for field in Fields::new(bytes, "an attribute") {
            let field = field?;
            match field.number {
                5 | 10 => {
                    self.tensor(field.bytes("a tensor of an attribute")?)?;
                }
                6 | 11 => {
                    if self.depth >= ONNX_DEPTH_MAX {
                        return Err(OnnxFileError::Depth);
                    }
                    let mut inner = Graph { own: self.own, depth: self.depth + 1 };
                    inner.read(field.bytes("a graph of an attribute")?)?;
                }
                22 | 23 => {
                    self.sparse(field.bytes("a sparse tensor of an attribute")?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `SparseTensorProto`; gives the name of its values.
    fn sparse<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], OnnxFileError> {
        let mut name: &[u8] = &[];
        for field in Fields::new(bytes, "a sparse tensor") {
            let field = field?;
            match field.number {
                1 => name = self.tensor(field.bytes("a sparse tensor")?)?,
                2 => {
                    self.tensor(field.bytes("a sparse tensor")?)?;
                }
                _ => {}
            }
        }
        Ok(name)
    }

    /// `TensorProto`: notes where its bytes lie, where that is another file; gives its name.
    fn tensor<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], OnnxFileError> {
        let what = "a tensor";
        let (mut name, mut external): (&[u8], _) = (&[], false);
        let (mut location, mut offset, mut length) = (None, 0u64, 0u64);
        for field in Fields::new(bytes, what) {
            let field = field?;
            match field.number {
                8 => name = field.bytes(what)?,
                13 => {
                    let (key, value) = entry(field.bytes(what)?)?;
                    let number = || value.parse::<u64>().map_err(|_| OnnxFileError::Form { what });
                    match key {
                        "location" => location = Some(value),
                        "offset" => offset = number()?,
                        "length" => length = number()?,
                        _ => {}
                    }
                }
                14 => external = field.number(what)? == 1,
                _ => {}
            }
        }
        if external {
            let location =
                location.ok_or(OnnxFileError::Missing { what: "the file of a tensor" })?;
            let end = offset.checked_add(length).ok_or(OnnxFileError::Form { what })?;
            self.refer(location, end)?;
        }
        Ok(name)
    }

    fn refer(&mut self, file: &str, end: u64) -> Result<(), OnnxFileError> {
        let is_plain = !file.is_empty()
            && file.len() <= ONNX_NAME_BYTES_MAX
            && file != ".."
            && file != "."
            && !file.contains(['/', '\\', ':', '\0']);
        if !is_plain {
            let file = file.chars().take(80).collect();
            return Err(OnnxFileError::Location { file });
        }
        if let Some(bytes) = self.own.external.get_mut(file) {
            *bytes = end.max(*bytes);
            return Ok(());
        }
        if self.own.external.len() >= ONNX_EXTERNAL_FILES_MAX {
            return Err(OnnxFileError::Files);
        }
        self.own.external.insert(file.to_owned(), end);
        Ok(())
    }
}

/// `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(&str, &str), OnnxFileError> {
    let what = "the place of a tensor";
    let (mut key, mut value) = ("", "");
    for field in Fields::new(bytes, what) {
        let field = field?;
        match field.number {
            1 => key = field.text(what)?,
            2 => value = field.text(what)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// `ValueInfoProto`, of a tensor; anything else has no element and no dimensions.
fn value(bytes: &[u8]) -> Result<OnnxValue, OnnxFileError> {
    let what = "an input or output";
    let mut own = OnnxValue { name: String::new(), element: OnnxElement(0), dims: Vec::new() };
    for field in Fields::new(bytes, what) {
        let field = field?;
        match field.number {
            1 => own.name = name(&field, what)?,
            2 => {
                for field in Fields::new(field.bytes(what)?, what) {
                    let field = field?;
                    if field.number == 1 {
                        tensor_type(field.bytes(what)?, &mut own)?;
                    }
                }
            }
            _ => {}
        }
    }
    if own.name.is_empty() {
        return Err(OnnxFileError::Missing { what: "the name of an input or output" });
    }
    Ok(own)
}

/// `TypeProto.Tensor` with its `TensorShapeProto`.
fn tensor_type(bytes: &[u8], own: &mut OnnxValue) -> Result<(), OnnxFileError> {
    let what = "the type of an input or output";
    for field in Fields::new(bytes, what) {
        let field = field?;
        match field.number {
            1 => own.element = OnnxElement(field.number(what)?),
            2 => {
                for field in Fields::new(field.bytes(what)?, what) {
                    let field = field?;
                    if field.number != 1 {
                        continue;
                    }
                    let mut fixed = None;
                    for field in Fields::new(field.bytes(what)?, what) {
                        let field = field?;
                        if field.number == 1 {
                            fixed = Some(field.number(what)?);
                        }
                    }
                    if own.dims.len() >= ONNX_VALUES_MAX {
                        return Err(OnnxFileError::Values);
                    }
                    own.dims.push(fixed);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut len = bytes.len();
        let mut out = vec![number << 3 | 2];
        if number > 15 {
            out = vec![number << 3 | 2 | 0x80, number >> 4];
        }
        while len > 0x7F {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(bytes);
        out
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn input(name: &str) -> Vec<u8> {
        let dims = [field(1, &number(1, 1)), field(1, &field(2, b"length"))].concat();
        let tensor = [number(1, 7), field(2, &dims)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    }

    fn external(name: &str, file: &str, offset: &str, length: &str) -> Vec<u8> {
        let pair = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let place = [pair("location", file), pair("offset", offset), pair("length", length)];
        [field(8, name.as_bytes()), place.concat(), number(14, 1)].concat()
    }

    fn model(graph: &[Vec<u8>]) -> Vec<u8> {
        [number(1, 8), field(8, &number(2, 21)), field(7, &graph.concat())].concat()
    }

    #[test]
    fn inputs_outputs_and_files_are_found() {
        let weights = external("w", "model.onnx_data", "100", "28");
        let inner = field(5, &field(5, &external("c", "more.bin", "0", "7")));
        let file = model(&[
            field(11, &input("input_ids")),
            field(11, &input("w")),
            field(12, &input("logits")),
            field(5, &weights),
            field(1, &inner),
        ]);
        let found = OnnxFile::read(&file).unwrap();
        assert_eq!(found.inputs.len(), 1, "what the file has a value for is not asked for");
        assert_eq!(found.inputs[0].name, "input_ids");
        assert_eq!(found.inputs[0].element, OnnxElement::I64);
        assert_eq!(found.inputs[0].dims, [Some(1), None]);
        assert_eq!(found.outputs[0].name, "logits");
        assert_eq!(found.domains[""], 21);
        let files: Vec<_> = found.external.into_iter().collect();
        assert_eq!(files, [("model.onnx_data".to_owned(), 128), ("more.bin".to_owned(), 7)]);
    }

    #[test]
    fn files_elsewhere_and_outside_are_refused() {
        for file in ["../secret", "/etc/passwd", "a/b", "..", "", "c:x"] {
            let file = model(&[field(5, &external("w", file, "0", "1"))]);
            let error = OnnxFile::read(&file).unwrap_err();
            assert!(matches!(error, OnnxFileError::Location { .. }), "{error}");
        }
        let file = model(&[field(5, &external("w", "data", &u64::MAX.to_string(), "1"))]);
        assert!(OnnxFile::read(&file).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, model(&[field(5, &external("w", "data", "4", "5"))])).unwrap();
        assert!(matches!(OnnxFile::open(&path), Err(OnnxFileError::Open { .. })));
        std::fs::write(folder.path().join("data"), [0; 8]).unwrap();
        assert!(matches!(OnnxFile::open(&path), Err(OnnxFileError::Outside { .. })));
        std::fs::write(folder.path().join("data"), [0; 9]).unwrap();
        OnnxFile::open(&path).unwrap();
    }

    #[test]
    fn graphs_in_graphs_end_somewhere() {
        let mut graph = field(1, b"");
        for _ in 0..ONNX_DEPTH_MAX + 2 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert_eq!(OnnxFile::read(&model(&[graph])), Err(OnnxFileError::Depth));
    }

    #[test]
    fn files_that_are_cut_off_or_none_are_refused() {
        let file = model(&[field(11, &input("input_ids"))]);
        for len in 1..file.len() {
            // Cut between two fields there is no graph.
            assert!(OnnxFile::read(&file[..len]).is_err(), "{len}");
        }
        let error = OnnxFile::read(b"").unwrap_err();
        assert_eq!(error, OnnxFileError::Missing { what: "the graph" });
        assert!(OnnxFile::read(b"GGUF and so on").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = OnnxFile::read(&bytes);
            let _ = OnnxFile::read(&model(&[bytes]));
        }
    }
}

//! Graphs of ONNX Runtime, put together in memory: nodes, and the numbers that they hold.
//!
//! What a node computes is said by whoever adds it; nothing here knows of models.

use std::fmt::Debug;

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::operator::Attribute;
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{
    Outlet, PrimitiveTensorElementType, Shape, SymbolicDimensions, Tensor, TensorElementType,
    ValueType,
};

use super::error::OnnxError;

/// The domain of the library's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";
/// The domain of ours.
pub(super) const OWN: &str = "openledger";
/// Domains with the versions of their operators that graphs are written in.
const DOMAINS: [(&str, u8); 3] = [(ONNX_DOMAIN, 21), (MICROSOFT, 1), (OWN, 1)];
/// `ir_version` of those.
const FORMAT_VERSION: u8 = 10;

/// Initializers of so many bytes stay where they were made; smaller ones are copied, as the
/// library's optimisations want to see their values.
const EXTERNAL_BYTES_MIN: usize = 4096;

/// A graph as it grows. Values are called by names that count up.
pub(super) struct Builder {
    graph: Graph,
    names: usize,
}

impl Builder {
    pub(super) fn new() -> Result<Self, OnnxError> {
        Ok(Self { graph: Graph::new()?, names: 0 })
    }

    /// A name that nothing has yet.
    pub(super) fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}.{}", self.names)
    }

    /// Adds a node with one output, which takes any name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Result<String, OnnxError> {
        let out = self.name(operator);
        self.node_as(operator, domain, inputs, &[&out], attributes)?;
        Ok(out)
    }

    /// Adds a node whose outputs have these names; an empty one is not wanted.
    pub(super) fn node_as(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Result<(), OnnxError> {
        let name = self.name("node");
        self.graph.add_node(Node::new(operator, domain, name, inputs, outputs, attributes)?)?;
        Ok(())
    }

    /// An operator of the standard.
    pub(super) fn standard(
        &mut self,
        operator: &str,
        inputs: &[&str],
    ) -> Result<String, OnnxError> {
        self.node(operator, ONNX_DOMAIN, inputs, [])
    }

    /// Adds numbers of a shape; `fill` writes them, row by row.
    pub(super) fn constant<T>(
        &mut self,
        what: &str,
        shape: &[usize],
        fill: impl FnOnce(&mut [T]),
    ) -> Result<String, OnnxError>
    where
        T: PrimitiveTensorElementType + Debug + Copy + 'static,
    {
        let name = self.name(what);
        let dimensions: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let mut tensor = Tensor::<T>::new(&Allocator::default(), Shape::new(dimensions))?;
        let (_, numbers) = tensor.try_extract_tensor_mut::<T>()?;
        let bytes = size_of_val(numbers);
        fill(numbers);
        self.graph.add_initializer(&name, tensor, bytes >= EXTERNAL_BYTES_MIN)?;
        Ok(name)
    }

    /// The session of the graph. Dimensions of -1 are open.
    pub(super) fn session(
        mut self,
        inputs: &[(&str, TensorElementType, &[i64])],
        outputs: &[(&str, TensorElementType, &[i64])],
        builder: &mut SessionBuilder,
    ) -> Result<Session, OnnxError> {
        self.graph.set_inputs(inputs.iter().map(outlet))?;
        self.graph.set_outputs(outputs.iter().map(outlet))?;
        let opsets = DOMAINS.map(|(name, version)| Opset::new(name, u32::from(version)));
        let opsets: Vec<Opset> = opsets.into_iter().collect::<Result<_, _>>()?;
        let mut model = Model::new(opsets)?;
        model.set_graph(self.graph)?;
        // A session made of the graph alone would not know our operators; one that starts from a
        // file does, even from one that holds nothing.
        let mut editable = builder.edit_from_memory(&nothing())?;
        editable.apply_model(&model)?;
        Ok(editable.into_session()?)
    }
}

/// A file of the exchange format (`onnx.proto`) with an empty graph: the version of the format, the
/// graph with its name, the operators' domains with their versions.
fn nothing() -> Vec<u8> {
    // Fields with bytes: their number and kind, the length, the bytes. All lengths are below 128.
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
    let mut file = vec![0x08, FORMAT_VERSION];
    file.extend(field(0x3A, &field(0x12, b"model")));
    for (domain, version) in DOMAINS {
        let own = [field(0x0A, domain.as_bytes()), vec![0x10, version]].concat();
        file.extend(field(0x42, &own));
    }
    file
}

fn outlet((name, ty, shape): &(&str, TensorElementType, &[i64])) -> Outlet {
    let dimension_symbols = SymbolicDimensions::empty(shape.len());
    let shape = Shape::new(shape.iter().copied());
    Outlet::new(*name, ValueType::Tensor { ty: *ty, shape, dimension_symbols })
}

/// What one run of a graph is given, and which outputs it gives.
pub(super) struct Binding(IoBinding);

impl Binding {
    pub(super) fn new(session: &Session, outputs: &[&str]) -> ort::Result<Self> {
        let mut inner = session.create_binding()?;
        let memory = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )?;
        for name in outputs {
            inner.bind_output_to_device(*name, &memory)?;
        }
        Ok(Self(inner))
    }

    /// Gives it numbers of a shape.
    pub(super) fn numbers<T>(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        numbers: Vec<T>,
    ) -> ort::Result<()>
    where
        T: PrimitiveTensorElementType + Debug + Clone + 'static,
    {
        self.0.bind_input(name, &Tensor::<T>::from_array((shape, numbers))?)
    }

    pub(super) const fn inner(&self) -> &IoBinding {
        &self.0
    }
}

/// An attribute that is a whole number.
pub(super) fn whole(name: &str, value: usize) -> Result<Attribute, OnnxError> {
    Ok(Attribute::new(name, value as i64)?)
}

/// An attribute that is a real number.
pub(super) fn real(name: &str, value: f32) -> Result<Attribute, OnnxError> {
    Ok(Attribute::new(name, value)?)
}

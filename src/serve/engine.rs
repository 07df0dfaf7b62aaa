//! What answers requests, and how it is described to clients.

use rekindle_state::{DType, Tensor};

use super::images::Images;

/// A model that computes. It stays on the thread that it is given to.
pub trait Engine: Send {
    /// Outputs in order, from inputs in order.
    ///
    /// # Errors
    /// A sentence for the client: what does not fit.
    fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String>;
}

/// An input or output: its name, element type, and shape, in which an open axis is `None`.
#[derive(Debug, Clone)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The element type, where it is known.
    pub dtype: Option<DType>,
    /// The shape, where it is known; the first axis is that of the batch, where it is open.
    pub shape: Option<Vec<Option<usize>>>,
}

/// What the first output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Scores of classes, `[batch, classes]`: the softmax of them is probabilities.
    Scores,
    /// Probabilities of classes, `[batch, classes]`.
    Probabilities,
    /// Images with values from 0 to 1, `[batch, channels, height, width]`.
    Images,
    /// Scores of the classes of each pixel, `[batch, classes, height, width]`.
    Masks,
    /// Tensors of any meaning.
    Tensors,
}

/// A model as clients see it.
#[derive(Clone)]
pub struct Description {
    /// What it is: the checkpoint or file.
    pub version: String,
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// What the first output means.
    pub answers: Answers,
    /// Names of classes, of a classifier.
    pub labels: Vec<String>,
    /// How an image becomes an input, where it can.
    pub image: Option<Images>,
    /// Whether requests may be joined along the first axis.
    pub batches: bool,
}

/// A model, ready to compute.
pub struct Loaded {
    /// As clients see it.
    pub description: Description,
    /// What computes.
    pub engine: Box<dyn Engine>,
}

/// Where a model comes from; it may change while it is served.
pub trait Source: Send + Sync {
    /// Loads what is there now.
    ///
    /// # Errors
    /// A sentence.
    fn load(&self) -> Result<Loaded, String>;

    /// What would be loaded now; another text means that there is something new.
    fn current(&self) -> String;
}

impl Description {
    /// Checks inputs against the ports, so that a wrong request never reaches the others in its batch.
    ///
    /// # Errors
    /// A sentence that names the input.
    pub fn check(&self, inputs: &[Tensor]) -> Result<(), String> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|port| port.name.as_str()).collect();
            let (expected, found) = (self.inputs.len(), inputs.len());
            return Err(format!("expected {expected} inputs ({}), found {found}", names.join(", ")));
        }
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            let (name, found) = (&port.name, tensor.shape());
            if let Some(expected) = port.dtype.filter(|expected| *expected != tensor.dtype()) {
                return Err(format!("input '{name}': expected values of {expected}, found {}", tensor.dtype()));
            }
            let Some(shape) = &port.shape else { continue };
            let fits = |(size, found): (&Option<usize>, &u64)| size.is_none_or(|size| size as u64 == *found);
            if found.len() != shape.len() || !shape.iter().zip(found).all(fits) {
                return Err(format!("input '{name}': expected the shape {}, found {found:?}", show(shape)));
            }
            if found.contains(&0) {
                return Err(format!("input '{name}': the shape {found:?} holds no value"));
            }
        }
        Ok(())
    }
}

impl Port {
    /// The type and shape for people: `float32 [?, 10]`.
    pub fn show(&self) -> String {
        let dtype = self.dtype.map_or("any type", DType::name);
        self.shape.as_deref().map_or_else(|| dtype.to_string(), |shape| format!("{dtype} {}", show(shape)))
    }
}

/// A shape with `?` for an open axis.
pub fn show(shape: &[Option<usize>]) -> String {
    let sizes: Vec<String> = shape.iter().map(|size| size.map_or("?".to_string(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

//! What goes into a network and what comes out, whatever its types are.
//!
//! A network's own types ([`Forward::Input`](super::Forward::Input) and [`Forward::Output`](super::Forward::Output)) become
//! these through [`FromInput`] and [`IntoOutputs`], so that a training session, an export or a benchmark can hold any network.

use std::fmt;

use burn::tensor::{Int, Tensor, TensorData};

use super::ModelError;

/// The input of a network, a batch at a time.
#[derive(Debug, Clone)]
pub enum Input {
    /// Images `[batch, channels, height, width]`.
    Images(Tensor<4>),
    /// Sequences `[batch, steps, features]`.
    Sequences(Tensor<3>),
    /// Features `[batch, features]`.
    Features(Tensor<2>),
    /// Sequences of ids `[batch, steps]`.
    Ids(Tensor<2, Int>),
    /// Several inputs, in the order in which the network takes them.
    Several(Vec<Input>),
}

impl Input {
    /// Number of items in the batch.
    pub fn items(&self) -> usize {
        match self {
            Self::Images(x) => x.dims()[0],
            Self::Sequences(x) => x.dims()[0],
            Self::Features(x) => x.dims()[0],
            Self::Ids(x) => x.dims()[0],
            Self::Several(inputs) => inputs.first().map_or(0, Self::items),
        }
    }

    /// The images, if it is images.
    pub fn images(&self) -> Option<&Tensor<4>> {
        if let Self::Images(x) = self { Some(x) } else { None }
    }

    /// The input in words, for messages: `images [16, 3, 32, 32]`.
    pub fn describe(&self) -> String {
        match self {
            Self::Images(x) => format!("images {:?}", x.dims()),
            Self::Sequences(x) => format!("sequences {:?}", x.dims()),
            Self::Features(x) => format!("features {:?}", x.dims()),
            Self::Ids(x) => format!("ids {:?}", x.dims()),
            Self::Several(inputs) => inputs.iter().map(Self::describe).collect::<Vec<_>>().join(", "),
        }
    }
}

impl From<Tensor<4>> for Input {
    fn from(x: Tensor<4>) -> Self {
        Self::Images(x)
    }
}

impl From<Tensor<3>> for Input {
    fn from(x: Tensor<3>) -> Self {
        Self::Sequences(x)
    }
}

impl From<Tensor<2>> for Input {
    fn from(x: Tensor<2>) -> Self {
        Self::Features(x)
    }
}

impl From<Tensor<2, Int>> for Input {
    fn from(x: Tensor<2, Int>) -> Self {
        Self::Ids(x)
    }
}

impl<A: Into<Input>, B: Into<Input>> From<(A, B)> for Input {
    fn from((a, b): (A, B)) -> Self {
        Self::Several(vec![a.into(), b.into()])
    }
}

impl<A: Into<Input>, B: Into<Input>, C: Into<Input>> From<(A, B, C)> for Input {
    fn from((a, b, c): (A, B, C)) -> Self {
        Self::Several(vec![a.into(), b.into(), c.into()])
    }
}

/// One item of an input: what it is, and its sizes without the batch axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An image: channels, height, width.
    Image([usize; 3]),
    /// A sequence: steps, features.
    Sequence([usize; 2]),
    /// So many features.
    Features(usize),
    /// A sequence of so many ids.
    Ids(usize),
    /// Several inputs.
    Several(Vec<Item>),
}

impl Item {
    /// Number of values of an item.
    pub fn values(&self) -> usize {
        match self {
            Self::Image(shape) => shape.iter().product(),
            Self::Sequence(shape) => shape.iter().product(),
            Self::Features(count) | Self::Ids(count) => *count,
            Self::Several(items) => items.iter().map(Self::values).sum(),
        }
    }

    /// Channels, height and width of an image. Other items count as images of one row: a sequence of steps × features is an
    /// image of one channel.
    pub fn image(&self) -> [usize; 3] {
        match self {
            Self::Image(shape) => *shape,
            Self::Sequence([steps, features]) => [1, *steps, *features],
            Self::Features(count) | Self::Ids(count) => [1, 1, *count],
            Self::Several(_) => [1, 1, self.values()],
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image([channels, height, width]) => write!(f, "an image of {channels} × {height} × {width}"),
            Self::Sequence([steps, features]) => write!(f, "a sequence of {steps} × {features}"),
            Self::Features(count) => write!(f, "{count} features"),
            Self::Ids(count) => write!(f, "{count} ids"),
            Self::Several(items) => {
                write!(f, "{}", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "))
            }
        }
    }
}

/// A type that a network takes.
pub trait FromInput: Sized {
    /// What it is, for messages: `images [batch, channels, height, width]`.
    const WHAT: &'static str;

    /// The input as this type.
    ///
    /// # Errors
    /// Gives the input back when it is something else.
    #[allow(clippy::result_large_err, reason = "the input is given back as it came, once a step")]
    fn from_input(input: Input) -> Result<Self, Input>;
}

impl FromInput for Input {
    const WHAT: &'static str = "anything";

    fn from_input(input: Input) -> Result<Self, Input> {
        Ok(input)
    }
}

impl FromInput for Tensor<4> {
    const WHAT: &'static str = "images [batch, channels, height, width]";

    fn from_input(input: Input) -> Result<Self, Input> {
        if let Input::Images(x) = input { Ok(x) } else { Err(input) }
    }
}

/// Images of one channel are sequences of their rows.
impl FromInput for Tensor<3> {
    const WHAT: &'static str = "sequences [batch, steps, features]";

    fn from_input(input: Input) -> Result<Self, Input> {
        match input {
            Input::Sequences(x) => Ok(x),
            Input::Images(x) if x.dims()[1] == 1 => Ok(x.squeeze_dim(1)),
            other => Err(other),
        }
    }
}

/// Images are the features of their values, row by row.
impl FromInput for Tensor<2> {
    const WHAT: &'static str = "features [batch, features]";

    fn from_input(input: Input) -> Result<Self, Input> {
        match input {
            Input::Features(x) => Ok(x),
            Input::Images(x) => Ok(x.flatten(1, 3)),
            other => Err(other),
        }
    }
}

impl FromInput for Tensor<2, Int> {
    const WHAT: &'static str = "ids [batch, steps]";

    fn from_input(input: Input) -> Result<Self, Input> {
        if let Input::Ids(x) = input { Ok(x) } else { Err(input) }
    }
}

/// Two inputs.
impl<A: FromInput, B: FromInput> FromInput for (A, B) {
    const WHAT: &'static str = "two inputs";

    fn from_input(input: Input) -> Result<Self, Input> {
        let Input::Several(inputs) = input else { return Err(input) };
        match <[Input; 2]>::try_from(inputs) {
            Ok([a, b]) => Ok((A::from_input(a)?, B::from_input(b)?)),
            Err(inputs) => Err(Input::Several(inputs)),
        }
    }
}

/// Three inputs.
impl<A: FromInput, B: FromInput, C: FromInput> FromInput for (A, B, C) {
    const WHAT: &'static str = "three inputs";

    fn from_input(input: Input) -> Result<Self, Input> {
        let Input::Several(inputs) = input else { return Err(input) };
        match <[Input; 3]>::try_from(inputs) {
            Ok([a, b, c]) => Ok((A::from_input(a)?, B::from_input(b)?, C::from_input(c)?)),
            Err(inputs) => Err(Input::Several(inputs)),
        }
    }
}

/// One tensor that a network gives.
#[derive(Debug, Clone)]
pub enum Output {
    /// Scores `[batch, classes]`: logits, or log-probabilities where the network's [`Io`](super::Io) says so.
    Classes(Tensor<2>),
    /// Images or maps of scores `[batch, channels, height, width]`.
    Images(Tensor<4>),
    /// Sequences `[batch, steps, features]`.
    Sequences(Tensor<3>),
}

impl Output {
    /// The values on the host.
    pub fn into_data(self) -> TensorData {
        match self {
            Self::Classes(scores) => scores.into_data(),
            Self::Images(images) => images.into_data(),
            Self::Sequences(sequences) => sequences.into_data(),
        }
    }

    /// The values in row-major order, on the host.
    pub fn values(self) -> Vec<f32> {
        self.into_data().iter::<f32>().collect()
    }

    /// The shape with the batch axis.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Classes(scores) => scores.dims().to_vec(),
            Self::Images(images) => images.dims().to_vec(),
            Self::Sequences(sequences) => sequences.dims().to_vec(),
        }
    }

    /// The output in words, for messages: `scores [16, 10]`.
    pub fn describe(&self) -> String {
        let what = match self {
            Self::Classes(_) => "scores",
            Self::Images(_) => "images",
            Self::Sequences(_) => "sequences",
        };
        format!("{what} {:?}", self.shape())
    }
}

impl From<Tensor<2>> for Output {
    fn from(scores: Tensor<2>) -> Self {
        Self::Classes(scores)
    }
}

impl From<Tensor<3>> for Output {
    fn from(sequences: Tensor<3>) -> Self {
        Self::Sequences(sequences)
    }
}

impl From<Tensor<4>> for Output {
    fn from(images: Tensor<4>) -> Self {
        Self::Images(images)
    }
}

/// An output of an auxiliary head, which counts in the training loss only.
#[derive(Debug, Clone)]
pub struct Auxiliary {
    /// Factor of its loss.
    pub weight: f32,
    /// What the head gives.
    pub output: Output,
}

/// Everything that a network gives.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The answer.
    pub main: Output,
    /// Auxiliary heads; none in evaluation mode.
    pub auxiliary: Vec<Auxiliary>,
}

/// Scores of a classifier with auxiliary heads in training (GoogLeNet, Inception v3).
#[derive(Debug, Clone)]
pub struct Scores {
    /// The answer, `[batch, classes]`.
    pub logits: Tensor<2>,
    /// Weight of the loss, and scores `[batch, classes]`, of each auxiliary head; empty in evaluation mode.
    pub auxiliary: Vec<(f32, Tensor<2>)>,
}

/// Maps of a network with auxiliary heads in training (FCN, DeepLab v3).
#[derive(Debug, Clone)]
pub struct Maps {
    /// The answer, `[batch, channels, height, width]`.
    pub maps: Tensor<4>,
    /// Weight of the loss, and maps, of each auxiliary head; empty in evaluation mode.
    pub auxiliary: Vec<(f32, Tensor<4>)>,
}

/// A type that a network gives.
pub trait IntoOutputs {
    /// The same as [`Outputs`].
    ///
    /// # Errors
    /// When the network could not compute: graphs from files can fail, Burn modules do not.
    fn into_outputs(self) -> Result<Outputs, ModelError>;
}

impl<O: Into<Output>> IntoOutputs for O {
    fn into_outputs(self) -> Result<Outputs, ModelError> {
        Ok(Outputs { main: self.into(), auxiliary: Vec::new() })
    }
}

impl IntoOutputs for Scores {
    fn into_outputs(self) -> Result<Outputs, ModelError> {
        Ok(Outputs { main: self.logits.into(), auxiliary: heads(self.auxiliary) })
    }
}

impl IntoOutputs for Maps {
    fn into_outputs(self) -> Result<Outputs, ModelError> {
        Ok(Outputs { main: self.maps.into(), auxiliary: heads(self.auxiliary) })
    }
}

impl<O: IntoOutputs> IntoOutputs for Result<O, ModelError> {
    fn into_outputs(self) -> Result<Outputs, ModelError> {
        self?.into_outputs()
    }
}

fn heads<T: Into<Output>>(heads: Vec<(f32, T)>) -> Vec<Auxiliary> {
    heads.into_iter().map(|(weight, output)| Auxiliary { weight, output: output.into() }).collect()
}

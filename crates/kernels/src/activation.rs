//! What follows a convolution in the same pass over its output.

/// A function applied to every value of the output as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The value itself.
    #[default]
    None,
    /// `max(0, x)`; not a number stays what it is.
    Relu,
}

//! Where the pixels of an image are whose channels are side by side.

/// The value of each pixel and where it is: pixels of `[batch, height, width]`, every `stride` values.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    /// From the first channel of the first pixel on.
    pub values: &'a [f32],
    /// From one pixel to the next.
    pub stride: usize,
}

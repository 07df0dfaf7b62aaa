//! What an optimizer has to know of a model's parameters.

use burn::module::ParamId;

/// One parameter of a model in PyTorch's terms, and what it is in Burn's.
///
/// A model gives a table of these in the order of PyTorch's `model.parameters()`, frozen parameters included: positions in this
/// order are the numbers under which PyTorch saves an optimizer's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Name in the PyTorch module: `lstm.weight_ih_l0`.
    pub name: String,
    /// Shape in the PyTorch module.
    pub shape: Vec<usize>,
    /// Burn's parameters, which it has along its first axis in equal parts: one, or the gates of a recurrent layer.
    pub parts: Vec<ParameterPart>,
}

/// A parameter of Burn's that is one of PyTorch's or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterPart {
    /// Burn's identity of the parameter, which its optimizer state is kept under.
    pub id: ParamId,
    /// Path in the Burn module: `norm.gamma`.
    pub path: String,
    /// Whether Burn has the axes of this matrix exchanged, as it has a linear layer's weight.
    pub transposed: bool,
}

impl ParameterInfo {
    /// The shape of a part as Burn has it.
    pub(super) fn part_shape(&self, part: &ParameterPart) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows /= self.parts.len().max(1);
        }
        if part.transposed {
            shape.reverse();
        }
        shape
    }

    /// How many values each part has.
    fn part_len(&self) -> usize {
        self.shape.iter().product::<usize>() / self.parts.len().max(1)
    }

    /// Values in PyTorch's layout as those of each part in Burn's.
    pub(super) fn split(&self, values: &[f32]) -> Vec<Vec<f32>> {
        if values.is_empty() {
            return vec![Vec::new(); self.parts.len()];
        }
        let pieces = values.chunks_exact(self.part_len().max(1));
        let piece = |(part, values): (&ParameterPart, &[f32])| match self.part_shape(part)[..] {
            [_, rows] if part.transposed => transposed(values, rows),
            _ => values.to_vec(),
        };
        self.parts.iter().zip(pieces).map(piece).collect()
    }

    /// Values of each part in Burn's layout as those of the whole in PyTorch's; zeros for a part that has none. `None` when a part
    /// has another number of values than its shape says.
    pub(super) fn join(&self, pieces: &[Option<&[f32]>]) -> Option<Vec<f32>> {
        let mut values = Vec::with_capacity(self.shape.iter().product());
        for (part, piece) in self.parts.iter().zip(pieces) {
            match (piece, &self.part_shape(part)[..]) {
                (None, _) => values.resize(values.len() + self.part_len(), 0.0),
                (Some(piece), _) if piece.len() != self.part_len() => return None,
                (Some(piece), [rows, _]) if part.transposed => values.extend(transposed(piece, *rows)),
                (Some(piece), _) => values.extend_from_slice(piece),
            }
        }
        Some(values)
    }
}

/// The values of a matrix of `rows` rows with its axes exchanged.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

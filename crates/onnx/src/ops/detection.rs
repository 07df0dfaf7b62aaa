//! Boxes around objects.

use super::one;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::new("NonMaxSuppression", &[10, 11], (2, 5)).attributes(&["center_point_box"]).without_gradient(),
    non_max_suppression,
)];

/// A box by its edges.
struct Edges {
    low: [f64; 2],
    high: [f64; 2],
}

impl Edges {
    /// From two opposite corners, in any order, or from centre and sizes (width first).
    fn new(values: &[f64], centred: bool) -> Self {
        let (a, b) = if centred {
            let (half_width, half_height) = (values[2] / 2.0, values[3] / 2.0);
            ([values[1] - half_height, values[0] - half_width], [values[1] + half_height, values[0] + half_width])
        } else {
            ([values[0], values[1]], [values[2], values[3]])
        };
        Self { low: [a[0].min(b[0]), a[1].min(b[1])], high: [a[0].max(b[0]), a[1].max(b[1])] }
    }

    fn area(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// What two boxes share, as a part of what they cover together.
    fn overlap(&self, other: &Self) -> f64 {
        let along =
            |axis: usize| (self.high[axis].min(other.high[axis]) - self.low[axis].max(other.low[axis])).max(0.0);
        let shared = along(0) * along(1);
        let (a, b) = (self.area(), other.area());
        if a <= 0.0 || b <= 0.0 || shared <= 0.0 { 0.0 } else { shared / (a + b - shared) }
    }
}

fn non_max_suppression(node: &RawNode) -> Parsed {
    let centred = node.attributes.flag("center_point_box", false)?;
    eval(move |inputs| {
        let (boxes, scores) = (inputs.array(0)?, inputs.array(1)?);
        let limit = inputs.optional(2)?.map_or(Ok(0), Array::int)?;
        let threshold = inputs.optional(3)?.map_or(Ok(0.0), Array::float)?;
        let least = inputs.optional(4)?.map(Array::float).transpose()?;
        let (&[batch, count, 4], &[score_batch, classes, score_count]) = (boxes.shape(), scores.shape()) else {
            return Err(Error::invalid(format!(
                "boxes of shape {:?} with scores of shape {:?}",
                boxes.shape(),
                scores.shape()
            )));
        };
        if batch != score_batch || count != score_count {
            return Err(Error::invalid(format!(
                "boxes of shape {:?} with scores of shape {:?}",
                boxes.shape(),
                scores.shape()
            )));
        }
        let limit = usize::try_from(limit).unwrap_or(0);
        let (boxes, scores) = (boxes.floats()?, scores.floats()?);
        let edges: Vec<Edges> = boxes.chunks_exact(4).map(|values| Edges::new(values, centred)).collect();
        let mut selected = Vec::new();
        for item in 0..batch * classes {
            let (image, scores) = (item / classes, &scores[item * count..][..count]);
            let edges = &edges[image * count..][..count];
            let mut order: Vec<usize> = (0..count).filter(|&i| least.is_none_or(|least| scores[i] > least)).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                if kept.len() >= limit {
                    break;
                }
                crate::limit::time()?;
                if kept.iter().all(|&other| edges[i].overlap(&edges[other]) <= threshold) {
                    kept.push(i);
                    selected.extend([image as i64, (item % classes) as i64, i as i64]);
                }
            }
        }
        one(Array::new(vec![selected.len() / 3, 3], selected)?)
    })
}

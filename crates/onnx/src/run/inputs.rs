//! The inputs of a run, held against what the graph asks for.

use std::collections::HashMap;

use super::accelerator::Slot;
use crate::graph::{Axis, Kind, Port};
use crate::{DType, Error, Graph, Result, Value};

/// Inputs in the order of the graph; `None` for one that keeps its default.
///
/// # Errors
/// When one is missing, unknown, given twice, or of the wrong type or shape.
pub(super) fn bind<T: Clone>(graph: &Graph, given: Vec<(String, Slot<T>)>) -> Result<Vec<Option<Slot<T>>>> {
    let mut bound: Vec<Option<Slot<T>>> = graph.inputs.iter().map(|_| None).collect();
    for (name, slot) in given {
        let position = graph.inputs.iter().position(|port| port.name == name).ok_or_else(|| {
            let known = graph.inputs.iter().map(|port| format!("'{}'", port.name)).collect::<Vec<_>>().join(", ");
            Error::Input(format!("there is no input '{name}': the model's inputs are {known}"))
        })?;
        if bound[position].replace(slot).is_some() {
            return Err(Error::Input(format!("the input '{name}' is given twice")));
        }
    }
    let mut sizes = HashMap::new();
    for (port, slot) in graph.inputs.iter().zip(&bound) {
        match slot {
            Some(slot) => check(port, slot, &mut sizes)?,
            None if port.optional => {}
            None => {
                let wants = describe(&port.kind);
                return Err(Error::Input(format!("the input '{}' is missing: give {wants}", port.name)));
            }
        }
    }
    Ok(bound)
}

fn describe(kind: &Kind) -> String {
    let axis = |axis: &Axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Named(name) => name.clone(),
        Axis::Any => "?".to_string(),
    };
    match kind {
        Kind::Array(dtype, axes) => {
            let dtype = dtype.map_or("any type".to_string(), |dtype| dtype.to_string());
            match axes {
                Some(axes) => {
                    format!("a tensor of {dtype} and shape [{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
                }
                None => format!("a tensor of {dtype}"),
            }
        }
        Kind::Other(what) => (*what).to_string(),
        Kind::Unknown => "a value".to_string(),
    }
}

/// Values on the device were made by another run or by the caller, who knows them: those on the host are checked.
fn check<'g, T: Clone>(port: &'g Port, slot: &Slot<T>, sizes: &mut HashMap<&'g str, (usize, &'g str)>) -> Result<()> {
    let Some(value) = slot.on_host() else { return Ok(()) };
    let wrong = |found: String| {
        Error::Input(format!("the input '{}' should be {}, but is {found}", port.name, describe(&port.kind)))
    };
    match (&port.kind, value) {
        (Kind::Unknown, _) => Ok(()),
        (Kind::Array(dtype, axes), Value::Array(array)) => {
            let found = || wrong(format!("of {} and shape {:?}", array.dtype(), array.shape()));
            if dtype.is_some_and(|dtype: DType| dtype != array.dtype()) {
                return Err(found());
            }
            let Some(axes) = axes else { return Ok(()) };
            if axes.len() != array.rank() {
                return Err(found());
            }
            for (axis, &size) in axes.iter().zip(array.shape()) {
                match axis {
                    Axis::Size(wanted) if *wanted != size => return Err(found()),
                    Axis::Named(name) => {
                        let (known, other) = *sizes.entry(name).or_insert((size, &port.name));
                        if known != size {
                            return Err(Error::Input(format!(
                                "the axis '{name}' is {known} in the input '{other}' and {size} in the input '{}'",
                                port.name
                            )));
                        }
                    }
                    Axis::Size(_) | Axis::Any => {}
                }
            }
            Ok(())
        }
        (Kind::Array(..), other) => Err(wrong(other.kind().to_string())),
        (Kind::Other(_), Value::Array(_)) => Err(wrong("a tensor".to_string())),
        (Kind::Other(_), _) => Ok(()),
    }
}

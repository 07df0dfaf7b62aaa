//! Calls that unpickling would have made, as the readers of their arguments find them.

use crate::{Error, Global, Object, Result, StateDict, Value};

/// A call that unpickling would have made, with everything that would have been done to its result.
pub(crate) struct Made {
    pub class: Global,
    pub args: Vec<Value>,
    pub state: Option<Value>,
    pub items: Vec<Value>,
    pub entries: StateDict,
}

impl Made {
    /// The call as an opaque object.
    pub fn object(self) -> Value {
        Value::Object(Box::new(Object {
            class: self.class,
            args: self.args,
            state: self.state.unwrap_or(Value::None),
            items: self.items,
            entries: self.entries,
        }))
    }

    /// An argument that must be there.
    pub fn arg(&self, at: usize) -> Result<&Value> {
        self.args.get(at).ok_or_else(|| {
            Error::damaged(format!("{} is called with {} arguments, too few", self.class, self.args.len()))
        })
    }

    /// An argument, out of its place.
    pub fn take(&mut self, at: usize) -> Value {
        self.args.get_mut(at).map_or(Value::None, |arg| std::mem::replace(arg, Value::None))
    }

    /// An error about the arguments of this call.
    pub fn wrong(&self, expected: &str) -> Error {
        let found: Vec<_> = self.args.iter().take(8).map(Value::type_name).collect();
        Error::damaged(format!("{} is called with ({}): expected {expected}", self.class, found.join(", ")))
    }
}

/// A number that must not be negative.
pub(crate) fn index(value: &Value, what: &str) -> Result<u64> {
    match value {
        Value::Int(int) => {
            u64::try_from(*int).map_err(|_| Error::damaged(format!("{what} of a tensor is negative: {int}")))
        }
        Value::BigInt(int) => Err(Error::damaged(format!("{what} of a tensor is beyond 64 bits: {int}"))),
        other => Err(Error::damaged(format!("{what} of a tensor is of type {}, not an integer", other.type_name()))),
    }
}

/// Sizes or strides.
pub(crate) fn sizes(value: &Value, what: &str) -> Result<Vec<u64>> {
    match value {
        Value::Tuple(items) | Value::List(items) => items.iter().map(|item| index(item, "a size")).collect(),
        other => Err(Error::damaged(format!("the {what} of a tensor are of type {}, not a tuple", other.type_name()))),
    }
}

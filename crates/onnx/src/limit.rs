//! What a run may use at most. Shapes and trip counts come from files: without limits a small one could ask for everything.
//!
//! Limits are those of the thread that runs a session. Loops that a file can make long ask [`is_over`] and leave off in the middle;
//! what they have then is thrown away by whoever runs the node, which asks [`time`] after each.

use std::cell::Cell;
use std::fmt;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// What a run may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements of one array.
    pub elements: usize,
    /// Bytes of all values at one time, weights and inputs aside.
    pub bytes: u64,
    /// Nodes that run, those of a loop in each turn.
    pub nodes: u64,
    /// Turns of all loops together.
    pub turns: u64,
    /// Graphs in graphs, and functions that call functions.
    pub depth: usize,
    /// How long it takes.
    pub time: Duration,
}

/// What [`Limits::default`] gives.
static USUAL: RwLock<Limits> = RwLock::new(Limits::USUAL);

impl Default for Limits {
    /// Those of [`Limits::USUAL`], or what the program put in their place by [`Limits::make_default`].
    fn default() -> Self {
        *USUAL.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Limits {
    /// What a small file may use: 2 GiB and 10 seconds; 2^29 elements, 2^24 nodes, 2^22 turns, 64 graphs in one another.
    pub const USUAL: Self = Self {
        elements: 1 << 29,
        bytes: 2 << 30,
        nodes: 1 << 24,
        turns: 1 << 22,
        depth: 64,
        time: Duration::from_secs(10),
    };

    /// None but what memory itself has.
    pub const NONE: Self = Self {
        elements: 1 << 40,
        bytes: u64::MAX,
        nodes: u64::MAX,
        turns: u64::MAX,
        depth: usize::MAX,
        time: Duration::MAX,
    };

    /// Makes these the limits of every session of the process that is given none of its own.
    pub fn make_default(self) {
        *USUAL.write().unwrap_or_else(std::sync::PoisonError::into_inner) = self;
    }

    /// For a model whose weights and inputs have so many bytes: each byte allows 16 of values, and a microsecond. Who sends a
    /// large file has paid for it, and the values of large models are large.
    #[must_use]
    pub fn for_bytes(self, bytes: u64) -> Self {
        let time = self.time.saturating_add(Duration::from_micros(bytes));
        Self { bytes: self.bytes.saturating_add(bytes.saturating_mul(16)), time, ..self }
    }

    /// Changes one limit by its name, as `memory=8GiB`: `elements`, `memory`, `nodes`, `turns`, `depth` or `seconds`; `none` lifts it.
    ///
    /// # Errors
    /// When there is no such limit, or it is no number.
    pub fn set(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let number = || -> std::result::Result<u64, String> {
            let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
            let shift = match unit.trim() {
                "" => 0,
                "KiB" => 10,
                "MiB" => 20,
                "GiB" => 30,
                "TiB" => 40,
                _ => return Err(format!("expected a number such as 100 or 8GiB, or none, found '{value}'")),
            };
            let digits: u64 = digits.parse().map_err(|_| format!("expected a number or none, found '{value}'"))?;
            digits.checked_mul(1 << shift).ok_or_else(|| format!("{value} is too large"))
        };
        let lifted = value == "none";
        let size = |none: usize| -> std::result::Result<usize, String> {
            if lifted { Ok(none) } else { Ok(usize::try_from(number()?).unwrap_or(usize::MAX)) }
        };
        let count = || if lifted { Ok(u64::MAX) } else { number() };
        match name {
            "elements" => self.elements = size(Self::NONE.elements)?.min(Self::NONE.elements),
            "memory" => self.bytes = count()?,
            "nodes" => self.nodes = count()?,
            "turns" => self.turns = count()?,
            "depth" => self.depth = size(usize::MAX)?,
            "seconds" => self.time = if lifted { Duration::MAX } else { Duration::from_secs(number()?) },
            other => {
                return Err(format!(
                    "there is no limit '{other}': expected elements, memory, nodes, turns, depth or seconds"
                ));
            }
        }
        Ok(())
    }
}

/// What is left to the run of this thread.
#[derive(Clone, Copy)]
struct State {
    limits: Limits,
    nodes: u64,
    turns: u64,
    depth: usize,
    /// Bytes of values.
    held: u64,
    end: Option<Instant>,
}

thread_local! {
    // Outside of a run files are read and weights moved, which their own size limits.
    static STATE: Cell<State> = const {
        Cell::new(State { limits: Limits { elements: 1 << 33, ..Limits::NONE }, nodes: u64::MAX, turns: u64::MAX, depth: 0, held: 0, end: None })
    };
}

/// What to do about a limit.
struct Raise(&'static str);

impl fmt::Display for Raise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; where the model is trusted, raise the limit '{0}' (--graph-limit {0}=…)", self.0)
    }
}

/// Bytes that plain evaluation takes for an element at most: a 64-bit float read, and one written.
const PER_ELEMENT: u64 = 16;

/// Whether an array of so many elements may be made.
///
/// # Errors
/// When it is too large, or too large beside the values that are there.
pub(crate) fn array(elements: Option<usize>, shape: &[usize]) -> Result<()> {
    let State { limits, held, .. } = STATE.get();
    let Some(elements) = elements.filter(|&elements| elements <= limits.elements) else {
        let raise = Raise("elements");
        return Err(Error::invalid(format!("an array of shape {shape:?} is too large for memory{raise}")));
    };
    if held.saturating_add((elements as u64).saturating_mul(PER_ELEMENT)) > limits.bytes {
        return Err(Error::invalid(format!(
            "an array of shape {shape:?} is too large for memory: it may take {} MiB, of which {} are in use{}",
            limits.bytes >> 20,
            held >> 20,
            Raise("memory")
        )));
    }
    Ok(())
}

/// Counts bytes of a value that is kept.
///
/// # Errors
/// When they are too many.
pub(crate) fn hold(bytes: u64) -> Result<()> {
    let state = STATE.get();
    let held = state.held.saturating_add(bytes);
    if held > state.limits.bytes {
        let (mib, raise) = (state.limits.bytes >> 20, Raise("memory"));
        return Err(Error::invalid(format!("the model's values take more than the {mib} MiB that they may{raise}")));
    }
    STATE.set(State { held, ..state });
    Ok(())
}

/// Counts bytes as free again.
pub(crate) fn release(bytes: u64) {
    let state = STATE.get();
    STATE.set(State { held: state.held.saturating_sub(bytes), ..state });
}

/// Counts a node that runs.
///
/// # Errors
/// When it is one too many, or time is over.
pub(crate) fn node() -> Result<()> {
    let state = STATE.get();
    let nodes = state.nodes.checked_sub(1).ok_or_else(|| {
        Error::invalid(format!(
            "the model runs more than the {} nodes that it may{}",
            state.limits.nodes,
            Raise("nodes")
        ))
    })?;
    STATE.set(State { nodes, ..state });
    time()
}

/// Counts a turn of a loop.
///
/// # Errors
/// When it is one too many, or time is over.
pub(crate) fn turn() -> Result<()> {
    let state = STATE.get();
    let turns = state.turns.checked_sub(1).ok_or_else(|| {
        Error::invalid(format!(
            "the model's loops take more than the {} turns that they may{}",
            state.limits.turns,
            Raise("turns")
        ))
    })?;
    STATE.set(State { turns, ..state });
    node()
}

/// Whether the time of the run is over.
pub(crate) fn is_over() -> bool {
    STATE.get().end.is_some_and(|end| Instant::now() >= end)
}

/// Whether there is time left.
///
/// # Errors
/// When there is none.
pub(crate) fn time() -> Result<()> {
    if !is_over() {
        return Ok(());
    }
    let (seconds, raise) = (STATE.get().limits.time.as_secs_f64(), Raise("seconds"));
    Err(Error::invalid(format!("running the model takes longer than the {seconds:.1} s that it may{raise}")))
}

/// Multiplications and additions in a second of a fast kernel on a fast machine.
const PER_SECOND: u64 = 1 << 35;

/// Whether there is time for so many multiplications and additions of a kernel, which can't be left in the middle.
///
/// # Errors
/// When there is none even on a fast machine.
pub fn work(products: u64) -> Result<()> {
    let State { limits, end, .. } = STATE.get();
    let Some(end) = end else { return Ok(()) };
    let left = end.saturating_duration_since(Instant::now());
    if products as f64 / PER_SECOND as f64 > left.as_secs_f64() {
        let (seconds, raise) = (limits.time.as_secs_f64(), Raise("seconds"));
        return Err(Error::invalid(format!(
            "its {products} multiplications do not fit into the {seconds:.1} s that the model may take{raise}"
        )));
    }
    Ok(())
}

/// A graph inside another, until it is dropped.
pub(crate) struct Nested(());

impl Nested {
    /// Enters a graph.
    ///
    /// # Errors
    /// When it is too deep.
    pub fn enter() -> Result<Self> {
        let state = STATE.get();
        if state.depth >= state.limits.depth {
            let (depth, raise) = (state.limits.depth, Raise("depth"));
            return Err(Error::invalid(format!("graphs and functions are nested more than {depth} deep{raise}")));
        }
        STATE.set(State { depth: state.depth + 1, ..state });
        Ok(Self(()))
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let state = STATE.get();
        STATE.set(State { depth: state.depth.saturating_sub(1), ..state });
    }
}

/// Limits in force on this thread until it is dropped.
pub(crate) struct Limited(State);

impl Limited {
    pub fn new(limits: Limits) -> Self {
        let end = Instant::now().checked_add(limits.time);
        let state = State { limits, nodes: limits.nodes, turns: limits.turns, depth: 0, held: 0, end };
        Self(STATE.replace(state))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name() -> std::result::Result<(), String> {
        let mut limits = Limits::USUAL;
        limits.set("memory", "8GiB")?;
        limits.set("seconds", "60")?;
        limits.set("turns", "none")?;
        assert_eq!((limits.bytes, limits.time, limits.turns), (8 << 30, Duration::from_secs(60), u64::MAX));
        assert_eq!(
            limits.set("memory", "much").unwrap_err(),
            "expected a number such as 100 or 8GiB, or none, found 'much'"
        );
        assert!(
            limits.set("time", "1").unwrap_err().starts_with("there is no limit 'time': expected elements, memory")
        );
        Ok(())
    }

    #[test]
    fn what_is_held_counts_until_it_is_released() -> Result<()> {
        let _limited = Limited::new(Limits { bytes: 100, ..Limits::USUAL });
        hold(60)?;
        assert!(hold(60).is_err());
        assert!(array(Some(3), &[3]).is_err());
        release(60);
        hold(60)?;
        array(Some(2), &[2])
    }

    #[test]
    fn what_takes_too_long_is_known_before() {
        let _limited = Limited::new(Limits::USUAL);
        assert!(work(1 << 30).is_ok());
        assert!(work(1 << 45).is_err());
    }
}

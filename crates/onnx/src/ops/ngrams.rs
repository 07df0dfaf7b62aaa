//! `TfIdfVectorizer`: how often known runs of words stand in a text.

use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use std::collections::HashMap;
use std::hash::Hash;

use super::{Inputs, one};
use crate::array::count;
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::new("TfIdfVectorizer", &[9], (1, 1)).attributes(&[
        "!max_gram_length",
        "!max_skip_count",
        "!min_gram_length",
        "!mode",
        "!ngram_counts",
        "!ngram_indexes",
        "pool_int64s",
        "pool_strings",
        "weights",
    ]),
    |node| parsed(Settings::parse(node)?),
)];

/// How counts become values.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Count,
    Weight,
    Both,
}

/// The words that are known.
enum Pool {
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

/// `TfIdfVectorizer`.
struct Settings {
    mode: Mode,
    pool: Pool,
    min: usize,
    max: usize,
    skips: usize,
    /// Where the runs of each length begin in the pool.
    starts: Vec<usize>,
    /// The column of the result for each run.
    columns: Vec<usize>,
    /// The weight of each run.
    weights: Vec<f32>,
}

impl Operator for Settings {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let (rows, words) = match *x.shape() {
            [] => (1, 1),
            [words] => (1, words),
            [rows, words] => (rows, words),
            _ => return Err(Error::invalid(format!("expected words as [C] or [N, C], found shape {:?}", x.shape()))),
        };
        let width = self.columns.iter().max().map_or(0, |last| last + 1);
        let mut counts = vec![0_u64; count(&[rows, width])?];
        if words > 0 {
            match &self.pool {
                Pool::Texts(pool) => {
                    let known = self.runs(pool)?;
                    let rows = x.expect::<String>()?.chunks(words).zip(counts.chunks_mut(width.max(1)));
                    rows.for_each(|(row, counts)| self.count(row, &known, counts));
                }
                Pool::Numbers(pool) => {
                    let known = self.runs(pool)?;
                    let rows = x.int64s()?;
                    let rows = rows.chunks(words).zip(counts.chunks_mut(width.max(1)));
                    rows.for_each(|(row, counts)| self.count(row, &known, counts));
                }
            }
        }
        let values = self.weigh(&counts);
        let mut shape = x.shape().to_vec();
        shape.pop();
        shape.push(width);
        one(Array::new(shape, values)?)
    }
}

impl Settings {
    fn parse(node: &RawNode) -> Result<Self> {
        let number = |name: &str| -> Result<usize> {
            let value = node.attributes.int(name)?.and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| Error::invalid(format!("attribute '{name}' should be a number of words")))
        };
        let list = |name: &str| super::sizes(node.attributes.ints(name)?.unwrap_or_default());
        let pool = match (node.attributes.texts("pool_strings")?, node.attributes.ints("pool_int64s")?) {
            (Some(texts), _) => Pool::Texts(texts),
            (None, Some(numbers)) => Pool::Numbers(numbers.to_vec()),
            (None, None) => return Err(Error::invalid("it knows no words")),
        };
        let mode = match node.attributes.text_or("mode", "")? {
            "TF" => Mode::Count,
            "IDF" => Mode::Weight,
            "TFIDF" => Mode::Both,
            other => return Err(Error::invalid(format!("mode is '{other}', not TF, IDF or TFIDF"))),
        };
        Ok(Self {
            mode,
            pool,
            min: number("min_gram_length")?.max(1),
            max: number("max_gram_length")?,
            skips: number("max_skip_count")?,
            starts: list("ngram_counts")?,
            columns: list("ngram_indexes")?,
            weights: node.attributes.floats("weights")?.unwrap_or_default().to_vec(),
        })
    }

    /// The known runs of words with their columns.
    fn runs<'p, T: Hash + Eq>(&self, pool: &'p [T]) -> Result<HashMap<Vec<&'p T>, usize>> {
        let mut known = HashMap::new();
        let mut number = 0;
        for (i, &start) in self.starts.iter().enumerate() {
            let (length, end) = (i + 1, self.starts.get(i + 1).copied().unwrap_or(pool.len()));
            let runs = pool
                .get(start..end)
                .ok_or_else(|| Error::invalid("attribute 'ngram_counts' does not fit its words"))?;
            for run in runs.chunks_exact(length) {
                let column =
                    self.columns.get(number).ok_or_else(|| Error::invalid("attribute 'ngram_indexes' is too short"))?;
                number += 1;
                if (self.min..=self.max).contains(&length) {
                    known.entry(run.iter().collect()).or_insert(*column);
                }
            }
        }
        Ok(known)
    }

    /// Runs of words that stand `distance` apart; single words count once.
    fn count<T: Hash + Eq>(&self, row: &[T], known: &HashMap<Vec<&T>, usize>, counts: &mut [u64]) {
        let longest = known.keys().map(Vec::len).max().unwrap_or(0);
        for distance in 1..=self.skips.saturating_add(1).min(row.len()) {
            for start in 0..row.len() {
                let mut run = Vec::new();
                for word in row[start..].iter().step_by(distance).take(longest) {
                    run.push(word);
                    if run.len() == 1 && distance > 1 {
                        continue;
                    }
                    if let Some(&column) = known.get(&run) {
                        counts[column] += 1;
                    }
                }
            }
        }
    }

    fn weigh(&self, counts: &[u64]) -> Vec<f32> {
        let width = self.columns.iter().max().map_or(1, |last| last + 1);
        // A weight belongs to a run, and so to its column.
        let mut by_column = vec![1.0; width];
        self.columns.iter().zip(&self.weights).for_each(|(&column, &weight)| by_column[column] = weight);
        let value = |count: u64, weight: f32| match self.mode {
            Mode::Count => count as f32,
            Mode::Weight => {
                if count > 0 {
                    weight
                } else {
                    0.0
                }
            }
            Mode::Both => count as f32 * weight,
        };
        counts.iter().enumerate().map(|(i, &count)| value(count, by_column[i % width])).collect()
    }
}

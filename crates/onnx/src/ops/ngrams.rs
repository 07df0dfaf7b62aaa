//! `TfIdfVectorizer`: how often known runs of words stand in a text.

use super::later;
use crate::operator::{Entry, RawNode, Schema};
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
    |node| later(node, vectorize),
)];

fn vectorize(node: &RawNode, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let (rows, words) = match *x.shape() {
        [] => (1, 1),
        [words] => (1, words),
        [rows, words] => (rows, words),
        _ => return Err(Error::invalid(format!("expected words as [C] or [N, C], found shape {:?}", x.shape()))),
    };
    let settings = Settings::new(node)?;
    let width = settings.columns.iter().max().map_or(0, |last| last + 1);
    let mut counts = vec![0_u64; count(&[rows, width])?];
    if words > 0 {
        match node.attributes.texts("pool_strings")? {
            Some(pool) => {
                let known = settings.runs(&pool)?;
                let rows = x.expect::<String>()?.chunks(words).zip(counts.chunks_mut(width.max(1)));
                rows.for_each(|(row, counts)| settings.count(row, &known, counts));
            }
            None => {
                let pool = node.attributes.ints("pool_int64s")?.ok_or_else(|| Error::invalid("it knows no words"))?;
                let known = settings.runs(pool)?;
                let rows = x.int64s()?;
                let rows = rows.chunks(words).zip(counts.chunks_mut(width.max(1)));
                rows.for_each(|(row, counts)| settings.count(row, &known, counts));
            }
        }
    }
    let values = settings.weigh(node, &counts)?;
    let mut shape = x.shape().to_vec();
    shape.pop();
    shape.push(width);
    one(Array::new(shape, values)?)
}

struct Settings {
    min: usize,
    max: usize,
    skips: usize,
    /// Where the runs of each length begin in the pool.
    starts: Vec<usize>,
    /// The column of the result for each run.
    columns: Vec<usize>,
}

impl Settings {
    fn new(node: &RawNode) -> Result<Self> {
        let number = |name: &str| -> Result<usize> {
            let value = node.attributes.int(name)?.and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| Error::invalid(format!("attribute '{name}' should be a number of words")))
        };
        let list = |name: &str| super::sizes(node.attributes.ints(name)?.unwrap_or_default());
        Ok(Self {
            min: number("min_gram_length")?.max(1),
            max: number("max_gram_length")?,
            skips: number("max_skip_count")?,
            starts: list("ngram_counts")?,
            columns: list("ngram_indexes")?,
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

    fn weigh(&self, node: &RawNode, counts: &[u64]) -> Result<Vec<f32>> {
        let width = self.columns.iter().max().map_or(1, |last| last + 1);
        let weights = node.attributes.floats("weights")?;
        // A weight belongs to a run, and so to its column.
        let mut by_column = vec![1.0; width];
        if let Some(weights) = weights {
            self.columns.iter().zip(weights).for_each(|(&column, &weight)| by_column[column] = weight);
        }
        let value: fn(u64, f32) -> f32 = match node.attributes.text_or("mode", "")? {
            "TF" => |count, _| count as f32,
            "IDF" => |count, weight| if count > 0 { weight } else { 0.0 },
            "TFIDF" => |count, weight| count as f32 * weight,
            other => return Err(Error::invalid(format!("mode is '{other}', not TF, IDF or TFIDF"))),
        };
        Ok(counts.iter().enumerate().map(|(i, &count)| value(count, by_column[i % width])).collect())
    }
}

//! Texts.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use regex::Regex;

use super::{Inputs, one};
use crate::array::{Broadcast, count};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(Schema::new("StringConcat", &[20], (2, 2)), concat),
    Entry::new(Schema::new("StringSplit", &[20], (1, 1)).attributes(&["delimiter", "maxsplit"]), split),
    Entry::new(
        Schema::new("StringNormalizer", &[10], (1, 1)).attributes(&[
            "case_change_action",
            "is_case_sensitive",
            "locale",
            "stopwords",
        ]),
        normalize,
    ),
    Entry::new(Schema::new("RegexFullMatch", &[20], (1, 1)).attributes(&["pattern"]), full_match),
];

fn concat(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    let (x, y) = (a.expect::<String>()?, b.expect::<String>()?);
    let both = Broadcast::new(&[a.shape(), b.shape()])?;
    let total = count(&both.shape)?;
    // Texts that are doubled again and again would soon be larger than memory.
    let bytes = (0..total).fold(0_usize, |sum, i| sum.saturating_add(x[both.at(0, i)].len() + y[both.at(1, i)].len()));
    count(&[bytes])?;
    one(Array::new(
        both.shape.clone(),
        (0..total).map(|i| format!("{}{}", x[both.at(0, i)], y[both.at(1, i)])).collect(),
    )?)
}

/// The parts of each text along a new axis, filled up with empty ones, and their number.
fn split(node: &RawNode) -> Parsed {
    let delimiter = node.attributes.text_or("delimiter", "")?.to_string();
    let most = node.attributes.int("maxsplit")?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX - 1);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let cut = |text: &String| -> Vec<String> {
            if delimiter.is_empty() {
                return words(text, most);
            }
            text.splitn(most + 1, delimiter.as_str()).map(str::to_string).collect()
        };
        let parts: Vec<_> = x.expect::<String>()?.iter().map(cut).collect();
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [x.shape(), &[longest]].concat();
        count(&shape)?;
        let counts = parts.iter().map(|parts| parts.len() as i64).collect();
        let filled = parts.into_iter().flat_map(|mut parts| {
            parts.resize(longest, String::new());
            parts
        });
        Ok(vec![Array::new(shape, filled.collect())?.into(), Array::new(x.shape().to_vec(), counts)?.into()])
    })
}

/// Words between white space; after `most` cuts the rest stays whole.
fn words(text: &str, most: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if words.len() == most { rest.len() } else { rest.find(char::is_whitespace).unwrap_or(rest.len()) };
        words.push(rest[..end].to_string());
        rest = rest[end..].trim_start();
    }
    words
}

fn full_match(node: &RawNode) -> Parsed {
    let pattern = node.attributes.text("pattern")?.ok_or_else(|| Error::invalid("attribute 'pattern' is missing"))?;
    let regex = Regex::new(&format!(r"\A(?:{pattern})\z"))
        .map_err(|_| Error::invalid(format!("'{pattern}' is no regular expression")))?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        one(Array::new(x.shape().to_vec(), x.expect::<String>()?.iter().map(|text| regex.is_match(text)).collect())?)
    })
}

/// Leaves out stop words, then changes the case.
fn normalize(node: &RawNode) -> Parsed {
    let change: fn(&str) -> String = match node.attributes.text_or("case_change_action", "NONE")? {
        "NONE" => str::to_string,
        "LOWER" => str::to_lowercase,
        "UPPER" => str::to_uppercase,
        other => return Err(Error::invalid(format!("case_change_action is '{other}', not NONE, LOWER or UPPER"))),
    };
    let exact = node.attributes.flag("is_case_sensitive", false)?;
    let stops = node.attributes.texts("stopwords")?.unwrap_or_default();
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let lower: Vec<_> = stops.iter().map(|stop| stop.to_lowercase()).collect();
        let is_stop = |text: &String| if exact { stops.contains(text) } else { lower.contains(&text.to_lowercase()) };
        if !matches!(x.shape(), [_] | [1, _]) {
            return Err(Error::invalid(format!(
                "expected a list of texts as [C] or [1, C], found shape {:?}",
                x.shape()
            )));
        }
        let mut kept: Vec<String> =
            x.expect::<String>()?.iter().filter(|text| !is_stop(text)).map(|text| change(text)).collect();
        // Nothing left is told as one empty text.
        if kept.is_empty() {
            kept.push(String::new());
        }
        let mut shape = x.shape().to_vec();
        shape[x.rank() - 1] = kept.len();
        one(Array::new(shape, kept)?)
    })
}

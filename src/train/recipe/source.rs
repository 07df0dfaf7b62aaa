//! Where in a recipe's text a key is.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::RecipeError;
use crate::keys::Mistake;

/// A recipe's text with the position of every key, and the overrides that go on top of it.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) overrides: &'a [String],
    pub(super) place: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, overrides: &'a [String], place: &'a str) -> Result<Self, RecipeError> {
        let table = DeTable::parse(text).map_err(|error| syntax(text, place, &error))?;
        Ok(Self { text, overrides, place, table })
    }

    /// The text's keys and values.
    pub(super) fn table(&self) -> Result<toml::Table, RecipeError> {
        toml::from_str(self.text).map_err(|error| syntax(self.text, self.place, &error))
    }

    /// Where a key was set, given with its sections: the flag, or the file and the line. Keys that are nowhere take the place of
    /// their section.
    pub(super) fn place_of(&self, path: &[&str]) -> String {
        let key = path.join(".");
        let sets = |setting: &&String| setting.split_once('=').is_some_and(|(set, _)| set.trim() == key);
        if let Some(setting) = self.overrides.iter().rev().find(sets) {
            return format!("--set {setting}");
        }
        let mut at = path.first().and_then(|key| entry(self.table.get_ref(), key));
        for part in path.iter().skip(1) {
            let inner = match at.map(|(_, value)| value.get_ref()) {
                Some(DeValue::Table(table)) => entry(table, part),
                Some(DeValue::Array(list)) => {
                    let item = part.parse().ok().and_then(|place: usize| list.get(place));
                    item.map(|value| (value.span().start, value))
                }
                _ => None,
            };
            if inner.is_none() {
                break;
            }
            at = inner;
        }
        let line = at.map_or_else(String::new, |(start, _)| format!(": line {}", line(self.text, start)));
        format!("{}{line}", self.place)
    }

    /// A mistake in the text, with its line and key.
    pub(super) fn error(&self, mistake: &Mistake) -> RecipeError {
        let place = self.place_of(&mistake.place());
        let problem = mistake.key().map_or_else(|| mistake.to_string(), |key| format!("{key}: {mistake}"));
        RecipeError::Key { place, problem }
    }
}

/// A key of a table with its position and value.
fn entry<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> Option<(usize, &'t Spanned<DeValue<'a>>)> {
    table.get_key_value(key).map(|(key, value)| (key.span().start, value))
}

fn syntax(text: &str, place: &str, error: &toml::de::Error) -> RecipeError {
    let line = error.span().map_or_else(String::new, |span| format!(": line {}", line(text, span.start)));
    let reason = error.message().trim().replace('\n', "; ").replace('`', "'");
    RecipeError::Key { place: format!("{place}{line}"), problem: format!("this is not valid TOML: {reason}") }
}

/// The number of the line of a position, from 1.
fn line(text: &str, position: usize) -> usize {
    text.get(..position).map_or(1, |before| before.matches('\n').count() + 1)
}

//! Where in a recipe's text a key is.

use toml::Spanned;
use toml::de::DeTable;

use super::RecipeError;
use super::words::{in_words, one_line};

/// A recipe's text with the position of every key, and the overrides that go on top of it.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) overrides: &'a [String],
    pub(super) place: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, overrides: &'a [String], place: &'a str) -> Result<Self, RecipeError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { text, overrides, place, table }),
            Err(error) => {
                let at = error
                    .span()
                    .map_or_else(|| place.to_string(), |span| format!("{place}: line {}", line(text, span.start)));
                Err(RecipeError::Key {
                    place: at,
                    problem: format!("this is not valid TOML: {}", one_line(error.message())),
                })
            }
        }
    }

    /// Where a key was set: the flag, or the file and the line. Keys that are nowhere take the place of their section.
    pub(super) fn place_of(&self, path: &str) -> String {
        let sets = |setting: &&String| setting.split_once('=').is_some_and(|(key, _)| key.trim() == path);
        if let Some(setting) = self.overrides.iter().rev().find(sets) {
            return format!("--set {setting}");
        }
        let mut at = self.table.get_ref();
        let mut found = None;
        for key in path.split('.') {
            let Some((key, value)) = at.get_key_value(key) else { break };
            found = Some(key.span().start);
            let Some(inner) = value.get_ref().as_table() else { break };
            at = inner;
        }
        found.map_or_else(|| self.place.to_string(), |start| format!("{}: line {}", self.place, line(self.text, start)))
    }

    /// The path of the innermost value at a position of the text: `train.epochs`, `optimizer.groups`.
    fn path_at(&self, position: usize) -> String {
        fn find<'t>(table: &'t DeTable<'_>, position: usize, path: &mut Vec<&'t str>) -> bool {
            table.iter().any(|(key, value)| {
                path.push(key.get_ref());
                // The span of a section is its header alone, so what is inside is looked at in any case.
                let inside = value.get_ref().as_table().is_some_and(|table| find(table, position, path));
                let found = inside || value.span().contains(&position);
                if !found {
                    path.pop();
                }
                found
            })
        }
        let mut path = Vec::new();
        find(self.table.get_ref(), position, &mut path);
        path.join(".")
    }

    /// serde's message with the line, the key and, for an unknown key, the nearest known one.
    pub(super) fn key_error(&self, error: &toml::de::Error) -> RecipeError {
        let message = error.message();
        let problem = in_words(message);
        let Some(span) = error.span() else { return RecipeError::Key { place: self.place.to_string(), problem } };
        let path = self.path_at(span.start);
        if message.starts_with("missing field") && path.is_empty() {
            // A section that is nowhere has no line.
            return RecipeError::Key { place: self.place.to_string(), problem };
        }
        let place = format!("{}: line {}", self.place, line(self.text, span.start));
        let names_value =
            ["invalid", "unknown variant", "missing field"].iter().any(|start| message.starts_with(start));
        let problem = if names_value && !path.is_empty() { format!("{path}: {problem}") } else { problem };
        RecipeError::Key { place, problem }
    }
}

/// The number of the line of a position, from 1.
fn line(text: &str, position: usize) -> usize {
    text.get(..position).map_or(1, |before| before.matches('\n').count() + 1)
}

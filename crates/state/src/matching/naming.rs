//! Files of libraries that give the layers of a network other names than the network has here.

use std::collections::{BTreeSet, HashSet};

use super::names::Names;
use super::shape::Shape;
use super::timm;

/// How another library names the layers of a network.
#[derive(Debug)]
pub struct Naming {
    /// Whose names of which network they are: `timm's EfficientNet`.
    pub of: &'static str,
    /// Names that every such file has.
    pub signs: &'static [&'static str],
    /// A name that every such network has here.
    pub here: &'static str,
    /// The names; others are the same.
    pub rules: &'static [Rule],
    /// Keys of the network's configuration that are others there, and that no tensor shows.
    pub keys: &'static [(&'static str, f64)],
    /// What else a file of these names may be, and no tensor shows.
    pub caution: &'static str,
}

/// A name there, the names that it may have here, and how its tensor is reshaped.
///
/// In a name there, `{s}` stands for a number and `*` for the rest. In a name here, `*` is that rest and braces hold a number: `{s+1}`,
/// `{2s-1}`; `{n}` numbers the blocks `blocks.S.B` of all stages from 1 and `{t}` the stages (outside of blocks, both are one more than
/// there are). The first name that the network has is the one.
#[derive(Debug)]
pub struct Rule(pub &'static str, pub &'static [&'static str], pub Shape);

/// A naming that a file and a model speak.
pub struct Translation {
    pub naming: &'static Naming,
    /// What stands before the names in the file.
    pub prefix: String,
    /// Stage and number of each block.
    blocks: BTreeSet<(usize, usize)>,
}

/// Whether files of these names may be for a model with those, under the names of another library.
pub fn is_spoken(file: &[String], model: &[&str]) -> bool {
    let has = |sign: &str| file.iter().any(|name| prefix_of(name, sign).is_some());
    timm::NAMINGS.iter().any(|naming| model.contains(&naming.here) && naming.signs.iter().all(|sign| has(sign)))
}

impl Translation {
    /// The naming of a file, if it is one that the model has a translation for.
    pub fn find(file: &[String], model: &Names<'_>) -> Option<Self> {
        let mut spoken = timm::NAMINGS.iter().filter(|naming| model.all.contains(naming.here));
        spoken.find_map(|naming| {
            let (first, others) = naming.signs.split_first()?;
            let all: HashSet<&str> = file.iter().map(String::as_str).collect();
            let mut prefixes = file.iter().filter_map(|name| prefix_of(name, first));
            let fits = |prefix: &&str| others.iter().all(|sign| all.contains(&*format!("{prefix}{sign}")));
            let prefix = prefixes.find(fits)?.to_string();
            let bare = file.iter().filter_map(|name| name.strip_prefix(&prefix));
            let block = |name: &str| {
                let (stage, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
                Some((stage.parse().ok()?, rest.split('.').next()?.parse().ok()?))
            };
            Some(Self { naming, blocks: bare.filter_map(block).collect(), prefix })
        })
    }

    /// The model's name for one of the file's, and how its tensor is reshaped.
    pub fn translate(&self, name: &str, model: &Names<'_>) -> Option<(String, Shape)> {
        let bare = name.strip_prefix(&self.prefix)?;
        let rules = self.naming.rules.iter().filter_map(|rule| Some((rule, Captured::of(rule.0, bare)?)));
        let named = rules.flat_map(|(rule, captured)| {
            let names = rule.1.iter().filter_map(move |pattern| self.fill(pattern, &captured));
            names.map(|name| (name, rule.2))
        });
        named.chain([(bare.to_string(), Shape::Same)]).find(|(name, _)| model.all.contains(name.as_str()))
    }

    /// A name here.
    fn fill(&self, pattern: &str, captured: &Captured<'_>) -> Option<String> {
        let mut filled = String::new();
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '*']) {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix('*') {
                filled.push_str(captured.rest);
                rest = after;
            } else {
                let (expression, after) = rest[1..].split_once('}')?;
                filled.push_str(&self.number(expression, captured)?.to_string());
                rest = after;
            }
        }
        filled.push_str(rest);
        Some(filled)
    }

    /// The value of `s`, `s+1`, `2s`, `2s-1`.
    fn number(&self, expression: &str, captured: &Captured<'_>) -> Option<usize> {
        let at = expression.find(|c: char| c.is_ascii_alphabetic())?;
        let variable = expression[at..].chars().next()?;
        let factor: usize = if at == 0 { 1 } else { expression[..at].parse().ok()? };
        let value = match variable {
            'n' => self.blocks_before(captured) + 1,
            't' => self.blocks.iter().map(|(stage, _)| stage).collect::<BTreeSet<_>>().len() + 1,
            _ => captured.numbers.iter().find(|(name, _)| *name == variable)?.1,
        };
        let value = factor.checked_mul(value)?;
        match expression[at + 1..].split_at_checked(1) {
            Some(("+", more)) => value.checked_add(more.parse().ok()?),
            Some(("-", less)) => value.checked_sub(less.parse().ok()?),
            _ => Some(value),
        }
    }

    /// How many blocks come before the one of a name, or all of them.
    fn blocks_before(&self, captured: &Captured<'_>) -> usize {
        match captured.numbers[..] {
            [('s', stage), ('b', block), ..] => self.blocks.range(..(stage, block)).count(),
            [('b', block), ..] => self.blocks.range(..(0, block)).count(),
            _ => self.blocks.len(),
        }
    }
}

/// What stands for the braces and the star of a name there.
struct Captured<'a> {
    numbers: Vec<(char, usize)>,
    rest: &'a str,
}

impl<'a> Captured<'a> {
    fn of(pattern: &str, name: &'a str) -> Option<Self> {
        let mut captured = Self { numbers: Vec::new(), rest: "" };
        let (mut pattern, mut name) = (pattern, name);
        while let Some(at) = pattern.find(['{', '*']) {
            name = name.strip_prefix(&pattern[..at])?;
            pattern = &pattern[at..];
            if pattern == "*" {
                captured.rest = name;
                return Some(captured);
            }
            let (variable, after) = pattern[1..].split_once('}')?;
            let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
            captured.numbers.push((variable.chars().next()?, name[..end].parse().ok()?));
            (pattern, name) = (after, &name[end..]);
        }
        (pattern == name).then_some(captured)
    }
}

/// What stands before a name, down to a dot or the path of a dictionary.
fn prefix_of<'a>(name: &'a str, bare: &str) -> Option<&'a str> {
    let prefix = name.strip_suffix(bare)?;
    (prefix.is_empty() || prefix.ends_with(['.', '/'])).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_are_captured_and_computed() {
        let captured = Captured::of("s{s}.b{b}.conv1.*", "s12.b3.conv1.bn.weight").unwrap();
        assert_eq!((&captured.numbers[..], captured.rest), (&[('s', 12), ('b', 3)][..], "bn.weight"));
        for name in ["s.b3.conv1.x", "s1.b3.conv2.x", "s1.b99999999999999999999.conv1.x", "s1", ""] {
            assert!(Captured::of("s{s}.b{b}.conv1.*", name).is_none(), "{name}");
        }
        let translation = Translation { naming: &timm::NAMINGS[0], prefix: String::new(), blocks: BTreeSet::new() };
        let filled = |pattern| translation.fill(pattern, &captured);
        assert_eq!(filled("x{s}.{b-1}.{2s+1}.*").as_deref(), Some("x12.2.25.bn.weight"));
        assert_eq!(filled("{b-4}"), None);
        assert_eq!(filled("{x}"), None);
    }

    #[test]
    fn blocks_are_numbered_through_all_stages() {
        let wanted = ["features.0.0.weight", "features.1.block.0.0.weight", "features.4.block.1.0.weight"];
        let all = ["features.5.0.weight", "classifier.0.weight"];
        let wanted: Vec<_> = wanted.iter().chain(&all).map(|name| (*name).to_string()).collect();
        let wanted: Vec<_> =
            wanted.into_iter().map(|name| super::super::Wanted { name, shape: vec![], optional: false }).collect();
        let model = Names::new(&wanted);
        let file = names(&[
            "model.conv_stem.weight",
            "model.blocks.0.0.conv_dw.weight",
            "model.blocks.1.0.conv_dw.weight",
            "model.blocks.1.10.conv_dw.weight",
            "model.blocks.1.9.conv_dw.weight",
            "model.conv_head.weight",
        ]);
        let translation = Translation::find(&file, &model).unwrap();
        assert_eq!((translation.naming.of, &*translation.prefix), ("timm's MobileNet v3", "model."));
        let translated = |name: &str| translation.translate(&format!("model.{name}"), &model).map(|(name, _)| name);
        assert_eq!(translated("conv_stem.weight").as_deref(), Some("features.0.0.weight"));
        assert_eq!(translated("blocks.0.0.conv_dw.weight").as_deref(), Some("features.1.block.0.0.weight"));
        assert_eq!(translated("blocks.1.10.conv_dw.weight").as_deref(), Some("features.4.block.1.0.weight"));
        assert_eq!(translated("blocks.1.9.conv_dw.weight"), None);
        assert_eq!(translated("conv_head.weight").as_deref(), Some("classifier.0.weight"));
        assert!(is_spoken(&file, &["features.1.block.0.0.weight"]) && !is_spoken(&file, &["conv1.weight"]));
        assert!(Translation::find(&names(&["conv_stem.weight"]), &model).is_none());
    }
}

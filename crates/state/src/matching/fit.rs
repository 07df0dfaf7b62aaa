//! How the names of a dictionary become those of a model.

use std::collections::{HashMap, HashSet};

use super::candidate::Candidate;
use super::names::{Names, unwrapped};
use super::naming::{Naming, Translation};
use super::shape::Shape;
use super::types::MatchOptions;
use crate::{Result, Tensor};

/// How a dictionary's names become the model's.
pub struct Fit {
    /// The model's name for every entry, or the file's where the model has none.
    pub names: Vec<String>,
    pub matches: usize,
    prefix: String,
    /// Wrapper words that were dropped inside names.
    wrappers: bool,
    /// How many gammas and betas were read as weight and bias.
    norms: usize,
    /// How many names are those of an earlier torchvision.
    former: usize,
    /// The library whose names they are, if that is another, and the tensors that are reshaped, by their entry.
    naming: Option<&'static Naming>,
    shapes: HashMap<usize, Shape>,
}

impl Fit {
    pub fn helps(&self) -> Vec<String> {
        let mut helps = Vec::new();
        if !self.prefix.is_empty() {
            let by = match self.prefix.as_str() {
                "module." => " (DataParallel)",
                "_orig_mod." => " (torch.compile)",
                _ => "",
            };
            helps.push(format!("took the prefix '{}' off the names{by}", self.prefix));
        }
        if self.wrappers {
            helps.push("dropped '_orig_mod' and 'module' inside the names (torch.compile, DataParallel)".to_string());
        }
        if self.norms > 0 {
            helps.push(format!("read gamma and beta as weight and bias ({} names)", self.norms));
        }
        if self.former > 0 {
            helps.push(format!("read the names of an earlier torchvision as those of today ({} names)", self.former));
        }
        if let Some(naming) = self.naming {
            helps.push(format!("read the names of {} as torchvision's", naming.of));
            helps.extend((!naming.caution.is_empty()).then(|| naming.caution.to_string()));
        }
        helps
    }

    /// Keys of the network's configuration that are others for such a file.
    pub fn keys(&self) -> &'static [(&'static str, f64)] {
        self.naming.map_or(&[], |naming| naming.keys)
    }

    /// The tensor of an entry as the model has it.
    pub fn tensor(&self, entry: usize, tensor: &Tensor) -> Result<Tensor> {
        self.shapes.get(&entry).map_or_else(|| Ok(tensor.clone()), |shape| shape.of(tensor))
    }
}

impl Candidate {
    /// The renaming that finds most of the model's names.
    pub fn fit(&self, names: &Names<'_>, options: &MatchOptions) -> Fit {
        let strip = options.strip.as_deref();
        let mut best = self.try_fit(names, strip.unwrap_or_default(), false);
        if best.matches < names.all.len()
            && let Some(fit) = self.try_translated(names, strip.unwrap_or_default())
            && fit.matches > best.matches
        {
            best = fit;
        }
        if strip.is_some() {
            return best;
        }
        let mut prefixes = self.prefixes(names, false).into_iter().map(|prefix| (prefix, false)).collect::<Vec<_>>();
        if best.matches < self.entries.len() && self.entries.iter().any(|(name, _)| unwrapped(name) != *name) {
            prefixes.push((String::new(), true));
            prefixes.extend(self.prefixes(names, true).into_iter().map(|prefix| (prefix, true)));
        }
        for (prefix, wrappers) in prefixes {
            let fit = self.try_fit(names, &prefix, wrappers);
            if fit.matches > best.matches {
                best = fit;
            }
        }
        best
    }

    /// What stands before one of the model's names in the file's: the few most frequent.
    fn prefixes(&self, names: &Names<'_>, wrappers: bool) -> Vec<String> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (name, _) in &self.entries {
            let name = if wrappers { unwrapped(name) } else { name.clone() };
            for (dot, _) in name.match_indices('.').take(32) {
                if names.resolve(&name[dot + 1..]).is_some() {
                    *counts.entry(name[..=dot].to_string()).or_default() += 1;
                }
            }
        }
        let mut prefixes: Vec<_> = counts.into_iter().collect();
        prefixes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.len().cmp(&b.0.len())).then_with(|| a.0.cmp(&b.0)));
        prefixes.into_iter().take(4).map(|(prefix, _)| prefix).collect()
    }

    fn try_fit(&self, names: &Names<'_>, prefix: &str, wrappers: bool) -> Fit {
        let mut fit = Fit {
            names: Vec::with_capacity(self.entries.len()),
            matches: 0,
            prefix: prefix.to_string(),
            wrappers,
            norms: 0,
            former: 0,
            naming: None,
            shapes: HashMap::new(),
        };
        let mut taken = HashSet::new();
        for (name, _) in &self.entries {
            let name = if wrappers { unwrapped(name) } else { name.clone() };
            let bare = name.strip_prefix(prefix).unwrap_or(&name);
            match names.resolve(bare) {
                Some(resolved) if taken.insert(resolved.clone()) => {
                    fit.matches += 1;
                    if resolved != bare {
                        let norm = bare.ends_with(".gamma") || bare.ends_with(".beta");
                        *(if norm { &mut fit.norms } else { &mut fit.former }) += 1;
                    }
                    fit.names.push(resolved);
                }
                _ => fit.names.push(bare.to_string()),
            }
        }
        fit
    }

    /// The fit under the names of another library, where the file speaks one that is known.
    fn try_translated(&self, names: &Names<'_>, strip: &str) -> Option<Fit> {
        let bare = |name: &str| unwrapped(name.strip_prefix(strip).unwrap_or(name));
        let bare: Vec<String> = self.entries.iter().map(|(name, _)| bare(name)).collect();
        let translation = Translation::find(&bare, names)?;
        let mut fit = Fit {
            names: Vec::with_capacity(bare.len()),
            matches: 0,
            prefix: format!("{strip}{}", translation.prefix),
            wrappers: self.entries.iter().any(|(name, _)| unwrapped(name) != *name),
            norms: 0,
            former: 0,
            naming: Some(translation.naming),
            shapes: HashMap::new(),
        };
        let mut taken = HashSet::new();
        for (entry, name) in bare.into_iter().enumerate() {
            match translation.translate(&name, names) {
                Some((resolved, shape)) if taken.insert(resolved.clone()) => {
                    fit.matches += 1;
                    fit.shapes.insert(entry, shape);
                    fit.names.push(resolved);
                }
                _ => fit.names.push(name),
            }
        }
        Some(fit)
    }
}

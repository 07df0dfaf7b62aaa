//! The known name that someone most likely meant.

/// How alike two names must be, of 1: half of the characters may be other ones.
const ALIKE: f64 = 0.5;

/// The known name that is nearest to another one, if one is near: by the number of characters that were typed wrong, left out, put in
/// or swapped, as a part of the longer name.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_alike(name, known, ALIKE)
}

/// As [`nearest`], with another measure of being alike, from 0 to 1.
pub fn nearest_alike<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, alike: f64) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let best = scored.filter(|(score, _)| *score >= alike).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_found_and_another_word_is_not() {
        let known = ["adam", "adamw", "sgd", "fashion-mnist"];
        assert_eq!(nearest("sdg", known), Some("sgd"));
        assert_eq!(nearest("fashionmnist", known), Some("fashion-mnist"));
        assert_eq!(nearest("adam", known), Some("adam"));
        assert_eq!(nearest("lion", known), None);
        assert_eq!(nearest("", []), None);
    }
}

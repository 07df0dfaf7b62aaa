//! serde's messages for somebody who writes TOML and not Rust.

pub(super) fn one_line(message: &str) -> String {
    message.trim().replace('\n', "; ").replace('`', "'")
}

/// serde's message for somebody who writes TOML and not Rust.
pub(super) fn in_words(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let name = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return match message.starts_with("unknown variant") {
            true => format!("unknown value '{name}', expected one of {}", known.join(", ")),
            false => format!("unknown key '{name}'{}", crate::error::nearest_or_list(name, &known)),
        };
    }
    if message.starts_with("missing field") {
        return format!("the key '{}' is missing", quoted.next().unwrap_or_default());
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((found, expected)) if !expected.contains('{') => {
            format!("expected {}, found {}", expected_in_words(expected), found_in_words(found))
        }
        // A message of ours, whose own commas must stay.
        _ => match wrong.and_then(|wrong| wrong.split_once(", expected ")) {
            Some((found, expected)) => format!("expected {}, found {}", one_line(expected), found_in_words(found)),
            None => one_line(message),
        },
    }
}

fn expected_in_words(expected: &str) -> String {
    match expected.trim() {
        "usize" | "u64" | "u32" => "a whole number, 0 or more".to_string(),
        "i64" => "a whole number".to_string(),
        "f64" | "f32" => "a number".to_string(),
        "a string" => "text in quotes".to_string(),
        "a boolean" => "true or false".to_string(),
        "a sequence" => "a list in [ ]".to_string(),
        "struct ModelSection" => "a section such as { name = \"net\" }".to_string(),
        structure if structure.starts_with("struct ") => "a section of keys and values".to_string(),
        other => one_line(other),
    }
}

fn found_in_words(found: &str) -> String {
    let found = one_line(found);
    let bare = ["integer ", "floating point ", "boolean "].iter().find_map(|kind| found.strip_prefix(kind));
    match (bare, found.strip_prefix("string "), found.as_str()) {
        (Some(value), ..) => value.trim_matches('\'').to_string(),
        (_, Some(text), _) => format!("the text {text}"),
        (.., "sequence") => "a list".to_string(),
        (.., "map") => "a section".to_string(),
        _ => found,
    }
}

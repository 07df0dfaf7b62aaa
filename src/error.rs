//! What errors share: the nearest known name, and turning a library's panic into a sentence.

use std::any::Any;
use std::cell::Cell;
use std::sync::Once;

/// `", did you mean 'x'?"` for the known name closest to `name`, or nothing when none is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    rekindle_state::nearest(name, known).map_or_else(String::new, |known| format!(", did you mean '{known}'?"))
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panics are caught and reported by the caller, without the panic's own report on stderr.
pub fn without_panic_output<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = run();
    QUIET.set(before);
    result
}

/// The first line of a panic's message, with the causes that a library puts on lines of their own below it.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let mut lines = whole_text(panic).lines().map(str::trim);
    let mut text = lines.next().unwrap_or_default().to_string();
    while let Some(line) = lines.next() {
        if line == "Caused by:"
            && let Some(cause) = lines.next()
        {
            text = format!("{}: {cause}", text.trim_end_matches(':'));
        }
    }
    text
}

/// A panic's whole message in one line.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    whole_text(panic).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn whole_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("an unknown failure")
}

/// The nearest known name, or all of them when none is near.
pub fn nearest_or_list(name: &str, known: &[&str]) -> String {
    let nearest = nearest(name, known.iter().copied());
    if nearest.is_empty() { format!(", expected one of {}", known.join(", ")) } else { nearest }
}

/// A library's panic as a sentence: what a device could not do, or else an error of ours.
pub fn failure(panic: &(dyn Any + Send)) -> String {
    let text = panic_text(panic);
    device_failure(&text).unwrap_or_else(|| format!("an internal error: {text}"))
}

/// What a device could not do, if that is what a panic says.
pub fn device_failure(text: &str) -> Option<String> {
    let (_, cause) = text.split_once("An error happened during execution")?;
    let size = cause.split_once("can't allocate buffer of size: ").and_then(|(_, rest)| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u64>().ok()
    });
    Some(match size {
        Some(size) => format!(
            "the device has no buffer of {} MiB, which one tensor takes: a smaller batch or another --device may help",
            size.div_ceil(1 << 20)
        ),
        None => format!("the device failed{cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_causes() {
        let text = |panic: &'static str| panic_text(&panic);
        assert_eq!(text("no such thing\nnote: more"), "no such thing");
        let nested = "reading: failed\nCaused by:\n  the device\nCaused by:\n  no memory\nBacktrace:\n   0: main";
        assert_eq!(text(nested), "reading: failed: the device: no memory");
        assert_eq!(text("failed\nCaused by:"), "failed");
    }

    #[test]
    fn a_device_that_has_too_little_memory_says_so() {
        let full =
            "reading: An error happened during execution\nCaused by:\n  can't allocate buffer of size: 150994944";
        let told = failure(&full);
        assert!(told.starts_with("the device has no buffer of 144 MiB"), "{told}");
        let lost = failure(&"reading: An error happened during execution\nCaused by:\n  device lost");
        assert_eq!(lost, "the device failed: device lost");
        assert_eq!(failure(&"index out of bounds"), "an internal error: index out of bounds");
    }
}

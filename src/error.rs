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

/// The first line of a panic's message.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    whole_text(panic).lines().next().unwrap_or_default().to_string()
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

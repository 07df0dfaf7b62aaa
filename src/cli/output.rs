//! Answers on stdout: lines, tables, JSON; what is said beside them on stderr and in a log. A reader that goes away ends the
//! program quietly.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Where what is said goes.
#[derive(Default)]
struct Says {
    quiet: bool,
    log: Option<File>,
}

static SAYS: OnceLock<Says> = OnceLock::new();

/// Takes the flags `--quiet` and `--log`. Until then, everything is said on stderr.
///
/// # Errors
/// When the log cannot be written.
pub fn listen(quiet: bool, log: Option<&Path>) -> anyhow::Result<()> {
    let open = |path: &Path| {
        let file = File::options().create(true).append(true).open(path);
        file.map_err(cannot("open the log", path))
    };
    let log = log.map(open).transpose()?;
    SAYS.get_or_init(|| Says { quiet, log });
    Ok(())
}

/// Whether nothing is said beside answers and errors.
pub fn is_quiet() -> bool {
    SAYS.get().is_some_and(|says| says.quiet)
}

/// Says something about the work: on stderr, unless `--quiet` is given, and in the log.
pub fn say_text(text: &str) {
    if !is_quiet() {
        eprintln!("{text}");
    }
    note(text);
}

/// Says why the program ends, which `--quiet` does not silence.
pub fn say_error(text: &str) {
    eprintln!("error: {text}");
    note(&format!("error: {text}"));
}

/// Adds lines to the log, each with its time. A log that cannot be written any more stops no work.
fn note(text: &str) {
    let Some(mut log) = SAYS.get().and_then(|says| says.log.as_ref()) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = crate::report::timestamp(now);
    let lines: String = text.lines().map(|line| format!("{time} {line}\n")).collect();
    let _ = log.write_all(lines.as_bytes());
}

/// [`say_text`] with a format.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::output::say_text(&format!($($part)*)) };
}
pub(in crate::cli) use say;

/// An error of the operating system with a file: what could not be done, and why.
pub fn cannot<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> anyhow::Error + 'a {
    move |error| anyhow::anyhow!("{}: cannot {doing}: {}", path.display(), rekindle_state::reason(&error))
}

/// Prints a line.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Whether an error is only that nobody reads our output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe))
}

/// Prints rows in columns; numbers go to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| !rows.is_empty() && rows.iter().all(|row| row[column].starts_with(|c: char| c.is_ascii_digit())))
        .collect();
    let show = |row: &[String]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let gap = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if numeric[column] { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    line(show(&header.iter().map(|name| (*name).to_string()).collect::<Vec<_>>()))?;
    rows.iter().try_for_each(|row| line(show(row)))
}

/// Text from a file with everything escaped that a terminal would obey: a name can hold any characters.
pub fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().flat_map(|c| if hidden(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

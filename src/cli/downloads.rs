//! Progress of downloads for people: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::is_quiet;
use crate::data::download::Received;

/// The bar of the file that comes in.
#[derive(Default)]
pub struct Bar {
    drawn: Option<(String, ProgressBar)>,
}

impl Bar {
    /// Draws what a download reports.
    pub fn listener(&mut self) -> impl FnMut(Received<'_>) {
        let shown = std::io::stderr().is_terminal() && !is_quiet();
        move |received| {
            if shown {
                self.draw(received);
            }
        }
    }

    fn draw(&mut self, Received { url, bytes, of }: Received<'_>) {
        let same = self.drawn.take().filter(|(address, _)| address == url);
        let (address, bar) = same.unwrap_or_else(|| (url.to_string(), new(url, bytes, of)));
        bar.set_position(bytes);
        if of == Some(bytes) {
            bar.finish_and_clear();
        } else {
            self.drawn = Some((address, bar));
        }
    }
}

fn new(url: &str, bytes: u64, of: Option<u64>) -> ProgressBar {
    let bar = of.map_or_else(ProgressBar::no_length, ProgressBar::new);
    // The template is fixed; should it ever be wrong, the default one draws.
    let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(url.rsplit('/').next().unwrap_or_default().to_string());
    bar.set_position(bytes);
    bar.reset_eta();
    bar
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((_, bar)) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }
}

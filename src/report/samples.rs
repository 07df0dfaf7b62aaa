//! What the network does with the test set: confusion matrix, scores of each class, the worst mistakes; or images before and after.

use maud::{Markup, html};

use super::chart::{grouped, number};
use super::data::{ClassesData, Evaluation, ImagesData};
use super::masks;

/// Whether there is a section to jump to.
pub(super) fn has_anything(evaluation: &Evaluation) -> bool {
    !matches!(evaluation, Evaluation::Skipped)
}

/// The figure at the top.
pub(super) fn figure(evaluation: &Evaluation) -> Markup {
    match evaluation {
        Evaluation::Classes(data) => html! {
            div {
                dt { "test accuracy" }
                dd { (format!("{:.2} %", data.accuracy() * 100.0)) }
                p { (grouped(data.items())) " items, " (data.of) }
            }
        },
        Evaluation::Images(data) => html! {
            div {
                dt { "test PSNR" }
                dd { (format!("{:.2} dB", data.psnr)) }
                p { (format!("{:+.2} dB to bicubic", data.psnr - data.bicubic)) }
            }
        },
        Evaluation::Masks(data) => masks::figure(data),
        Evaluation::Skipped | Evaluation::Failed(_) => html! {},
    }
}

pub(super) fn section(evaluation: &Evaluation) -> Markup {
    let inside = match evaluation {
        Evaluation::Skipped => return html! {},
        Evaluation::Failed(reason) => html! { p.empty { "The network was not run on the test set: " (reason) } },
        Evaluation::Classes(data) => classes(data),
        Evaluation::Images(data) => images(data),
        Evaluation::Masks(data) => masks::section(data),
    };
    html! {
        section #predictions aria-labelledby="predictions-title" {
            h2 #predictions-title { "Predictions" }
            (inside)
        }
    }
}

fn classes(data: &ClassesData) -> Markup {
    html! {
        p.sub {
            (grouped(data.items())) " items of the test set, " (data.of) ": loss " (number(data.loss)) ", accuracy "
            (format!("{:.2} %", data.accuracy() * 100.0))
        }
        div.split {
            @if data.names.len() <= 40 {
                (confusion(&data.names, &data.confusion, "rows: the truth, columns: the answer", |count, _| count.to_string()))
            }
            (per_class(data))
        }
        h3 { "Worst mistakes" }
        @if data.mistakes.is_empty() {
            p.empty { "There are none." }
        } @else {
            p.note { "Wrong answers with the highest probability first." }
            ul.mistakes {
                @for mistake in &data.mistakes {
                    li {
                        img src=(mistake.image) loading="lazy"
                            alt=(format!("Item {}: {}", mistake.index, name(data, mistake.truth)));
                        div {
                            b { (name(data, mistake.truth)) }
                            span { "taken for " (name(data, mistake.answer)) }
                            meter min="0" max="1" value=(format!("{:.4}", mistake.confidence))
                                aria-label="probability of the answer" {}
                            small {
                                (format!("{:.1} %", mistake.confidence * 100.0)) ", truth "
                                (format!("{:.1} %", mistake.of_truth * 100.0)) " · #" (mistake.index)
                            }
                        }
                    }
                }
            }
        }
    }
}

fn name(data: &ClassesData, class: usize) -> String {
    data.names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

/// A heat map that is a table: rows are the truth, columns the answers. `show` makes the text of a cell from its count and its row's.
pub(super) fn confusion(names: &[String], counts: &[Vec<u64>], note: &str, show: fn(u64, u64) -> String) -> Markup {
    html! {
        figure.matrix {
            figcaption { h3 { "Confusion matrix" } p.note { (note) } }
            div.scroll tabindex="0" role="region" aria-label="Confusion matrix" {
                table {
                    thead {
                        tr {
                            td {}
                            @for name in names { th scope="col" { span { (name) } } }
                        }
                    }
                    tbody {
                        @for (truth, row) in counts.iter().enumerate() {
                            tr {
                                th scope="row" { (names[truth]) }
                                @for (answer, count) in row.iter().enumerate() {
                                    (cell(names, (truth, answer), (*count, row.iter().sum()), show))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(
    names: &[String],
    (truth, answer): (usize, usize),
    (count, all): (u64, u64),
    show: fn(u64, u64) -> String,
) -> Markup {
    let share = count as f64 / all.max(1) as f64;
    let class = match (truth == answer, count) {
        (true, _) => "right",
        (false, 0) => "none",
        (false, _) => "wrong",
    };
    // Beyond this, text in the page's background colour reads better.
    let class = if share > 0.55 { format!("{class} full") } else { class.to_string() };
    let title = format!("{} taken for {}: {count} of {all}", names[truth], names[answer]);
    html! { td class=(class) style=(format!("--v:{share:.3}")) title=(title) { (show(count, all)) } }
}

fn per_class(data: &ClassesData) -> Markup {
    html! {
        figure.scores {
            figcaption { h3 { "Scores of each class" } p.note { "F1 is the harmonic mean of precision and recall" } }
            div.scroll tabindex="0" role="region" aria-label="Scores of each class" {
                table {
                    thead {
                        tr {
                            th scope="col" { "class" } th.num scope="col" { "items" } th.num scope="col" { "precision" }
                            th.num scope="col" { "recall" } th.num scope="col" { "F1" } th { span.hide { "F1 as a bar" } }
                        }
                    }
                    tbody {
                        @for class in 0..data.confusion.len() {
                            @let (items, precision, recall, f1) = data.scores(class);
                            tr {
                                th scope="row" { (name(data, class)) }
                                td.num { (grouped(items)) }
                                td.num { (format!("{precision:.3}")) }
                                td.num { (format!("{recall:.3}")) }
                                td.num { b { (format!("{f1:.3}")) } }
                                td.share { i style=(format!("width:{:.1}%", f1 * 100.0)) {} }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn images(data: &ImagesData) -> Markup {
    html! {
        p.sub {
            (grouped(data.items)) " items of the test set, " (data.of) ": loss " (number(data.loss)) ", PSNR "
            b { (format!("{:.2} dB", data.psnr)) } ", bicubic interpolation " (format!("{:.2} dB", data.bicubic))
        }
        ul.pairs3 {
            @for pair in &data.pairs {
                li {
                    (picture(&pair.before, "bicubic", Some(pair.psnr_before), pair.index))
                    (picture(&pair.after, "network", Some(pair.psnr_after), pair.index))
                    (picture(&pair.target, "target", None, pair.index))
                }
            }
        }
    }
}

fn picture(address: &str, what: &str, psnr: Option<f64>, index: usize) -> Markup {
    html! {
        figure {
            img src=(address) loading="lazy" alt=(format!("Item {index}, {what}"));
            figcaption { (what) @if let Some(psnr) = psnr { b { (format!("{psnr:.2} dB")) } } }
        }
    }
}

//! Segmentation on the test set: how much of each class is found, what is taken for what, the images with the most wrong pixels.

use maud::{Markup, html};
use serde::Serialize;

use super::chart::{grouped, number};
use super::evaluate::address;
use super::samples::confusion;
use crate::data::mask::colour;
use crate::data::{BatchTarget, IGNORED, Image, Loader, Shape, Target};
use crate::models::Network;
use crate::tasks::{Answer, Objective};
use crate::train::TrainError;

/// How many images are shown.
const WORST: usize = 12;

/// How much of a pixel is the colour of its class, in parts of 256.
const OPACITY: u32 = 144;

/// A network that gives a class for each pixel, on the test set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MasksData {
    /// The checkpoint.
    pub of: String,
    /// Names of the classes.
    pub names: Vec<String>,
    /// Pixels: rows are the true classes, columns the answers.
    pub confusion: Vec<Vec<u64>>,
    /// Mean loss.
    pub loss: f64,
    /// Number of images.
    pub images: u64,
    /// The images with the largest share of wrong pixels, the worst first.
    pub worst: Vec<Masked>,
}

/// An image with its masks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Masked {
    /// The image as the network gets it, as a `data:` address.
    pub image: String,
    /// The true mask over it.
    pub truth: String,
    /// The network's mask over it.
    pub answer: String,
    /// Its place in the test set.
    pub index: usize,
    /// Share of wrong pixels among those that count.
    pub wrong: f64,
}

impl MasksData {
    /// Pixels of a class in truth, in the answers, and in both.
    fn pixels(&self, class: usize) -> (u64, u64, u64) {
        let answered = self.confusion.iter().map(|row| row[class]).sum();
        (self.confusion[class].iter().sum(), answered, self.confusion[class][class])
    }

    /// Intersection over union of a class; none when neither truth nor answers have it.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let (truth, answered, both) = self.pixels(class);
        let union = truth + answered - both;
        (union > 0).then(|| both as f64 / union as f64)
    }

    /// Share of a class's pixels that are found; none when there are none.
    pub fn accuracy(&self, class: usize) -> Option<f64> {
        let (truth, _, both) = self.pixels(class);
        (truth > 0).then(|| both as f64 / truth as f64)
    }

    /// The mean of the intersections over unions that there are.
    pub fn mean_iou(&self) -> f64 {
        let all: Vec<f64> = (0..self.confusion.len()).filter_map(|class| self.iou(class)).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }

    /// Share of right pixels.
    pub fn pixel_accuracy(&self) -> f64 {
        let right: u64 = (0..self.confusion.len()).map(|class| self.confusion[class][class]).sum();
        right as f64 / self.confusion.iter().flatten().sum::<u64>().max(1) as f64
    }
}

/// Runs a network on the whole set; `data` has the names and a confusion of zeros.
pub(super) fn evaluate(
    network: &Network,
    objective: &Objective,
    loader: &Loader,
    mut data: MasksData,
) -> Result<MasksData, TrainError> {
    // Share of wrong pixels, place and answer of the worst ones so far.
    let mut worst: Vec<(f64, usize, Vec<usize>)> = Vec::new();
    for batch in loader.batches(0, 0) {
        let batch = batch?;
        let outputs = network.outputs(batch.input)?;
        let answers = objective.task.answers(outputs.main.clone())?;
        let BatchTarget::Masks(masks) = batch.target else { continue };
        let [_, height, width] = masks.dims();
        let truths: Vec<i64> = masks.clone().into_data().iter::<i64>().collect();
        let loss = objective.task.measure(outputs, BatchTarget::Masks(masks), objective.loss)?.loss;
        data.loss += f64::from(loss.into_data().iter::<f32>().next().unwrap_or(f32::NAN)) * batch.len as f64;
        for (answer, truth) in answers.into_iter().zip(truths.chunks((height * width).max(1))) {
            let Answer::Mask { classes, .. } = answer else { continue };
            let wrong = count(&mut data.confusion, truth, &classes);
            let index = data.images as usize;
            data.images += 1;
            let place = worst.partition_point(|(other, ..)| *other >= wrong);
            if place < WORST && wrong > 0.0 {
                worst.insert(place, (wrong, index, classes));
                worst.truncate(WORST);
            }
        }
    }
    data.loss /= data.images.max(1) as f64;
    for (wrong, index, classes) in worst {
        let sample = loader.sample(index)?;
        let answer: Vec<u8> = classes.iter().map(|class| u8::try_from(*class).unwrap_or(IGNORED)).collect();
        let Target::Mask(truth) = sample.target else { continue };
        let image = coloured(sample.image);
        let (truth, answer) = (address(&over(&image, &truth.pixels))?, address(&over(&image, &answer))?);
        data.worst.push(Masked { image: address(&image)?, truth, answer, index, wrong });
    }
    Ok(data)
}

/// Counts the pixels of an image; the share of wrong ones.
fn count(confusion: &mut [Vec<u64>], truth: &[i64], answer: &[usize]) -> f64 {
    let (mut counted, mut wrong) = (0_u64, 0_u64);
    for (&truth, &answer) in truth.iter().zip(answer) {
        let cell = usize::try_from(truth).ok().and_then(|truth| confusion.get_mut(truth)?.get_mut(answer));
        // A pixel of no class is in no row.
        let Some(cell) = cell else { continue };
        *cell += 1;
        counted += 1;
        wrong += u64::from(truth != answer as i64);
    }
    wrong as f64 / counted.max(1) as f64
}

/// An image of three channels.
fn coloured(image: Image) -> Image {
    if image.channels == 3 {
        return image;
    }
    let plane = &image.pixels[..image.height * image.width];
    let shape = Shape { channels: 3, ..image.shape() };
    Image::from_shape(shape, [plane; 3].concat())
}

/// The colours of classes over an image; the background stays as it is, and pixels that do not count become white.
fn over(image: &Image, classes: &[u8]) -> Image {
    let plane = image.height * image.width;
    let mut pixels = image.pixels.clone();
    for (at, &class) in classes.iter().enumerate().filter(|(_, class)| **class > 0) {
        for (channel, colour) in colour(class).into_iter().enumerate() {
            let pixel = &mut pixels[channel * plane + at];
            *pixel = ((u32::from(*pixel) * (256 - OPACITY) + u32::from(colour) * OPACITY) / 256) as u8;
        }
    }
    Image { pixels, ..*image }
}

/// The figure at the top.
pub(super) fn figure(data: &MasksData) -> Markup {
    html! {
        div {
            dt { "test mean IoU" }
            dd { (percent(data.mean_iou())) }
            p { (grouped(data.images)) " images, " (data.of) }
        }
    }
}

/// The section of the page.
pub(super) fn section(data: &MasksData) -> Markup {
    let shares = |count: u64, all: u64| format!("{:.1}", count as f64 * 100.0 / all.max(1) as f64);
    html! {
        p.sub {
            (grouped(data.images)) " images of the test set, " (data.of) ": loss " (number(data.loss)) ", mean IoU "
            b { (percent(data.mean_iou())) } ", right pixels " (percent(data.pixel_accuracy()))
        }
        div.split {
            @if data.names.len() <= 40 {
                (confusion(&data.names, &data.confusion, "percent of the pixels of a class; rows: the truth, columns: the answer", shares))
            }
            (per_class(data))
        }
        h3 { "Worst images" }
        @if data.worst.is_empty() {
            p.empty { "There are none: every pixel is right." }
        } @else {
            p.note { "The largest share of wrong pixels first; colours are those of PASCAL VOC, white does not count." }
            ul.pairs3 {
                @for masked in &data.worst {
                    li {
                        (picture(&masked.image, masked.index, "image", None))
                        (picture(&masked.truth, masked.index, "truth", None))
                        (picture(&masked.answer, masked.index, "answer", Some(masked.wrong)))
                    }
                }
            }
        }
    }
}

fn picture(address: &str, index: usize, what: &str, wrong: Option<f64>) -> Markup {
    html! {
        figure {
            img src=(address) loading="lazy" alt=(format!("Item {index}, {what}"));
            figcaption { (what) @if let Some(wrong) = wrong { b { (percent(wrong)) " wrong · #" (index) } } }
        }
    }
}

fn per_class(data: &MasksData) -> Markup {
    let share = |value: Option<f64>| value.map_or_else(|| "–".to_string(), |value| format!("{value:.3}"));
    html! {
        figure.scores {
            figcaption { h3 { "Scores of each class" } p.note { "IoU is intersection over union: of truth and answers" } }
            div.scroll tabindex="0" role="region" aria-label="Scores of each class" {
                table {
                    thead {
                        tr {
                            th scope="col" { "class" } th.num scope="col" { "pixels" } th.num scope="col" { "found" }
                            th.num scope="col" { "IoU" } th { span.hide { "IoU as a bar" } }
                        }
                    }
                    tbody {
                        @for (class, name) in data.names.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                td.num { (grouped(data.pixels(class).0)) }
                                td.num { (share(data.accuracy(class))) }
                                td.num { b { (share(data.iou(class))) } }
                                td.share { i style=(format!("width:{:.1}%", data.iou(class).unwrap_or(0.0) * 100.0)) {} }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_scored_by_intersection_over_union() {
        let mut data = MasksData { confusion: vec![vec![0; 3]; 3], ..MasksData::default() };
        let wrong = count(&mut data.confusion, &[0, 0, 1, 1, 255], &[0, 1, 1, 1, 2]);
        assert_eq!(wrong, 0.25);
        assert_eq!(data.confusion, [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
        assert_eq!((data.iou(0), data.iou(1), data.iou(2)), (Some(0.5), Some(2.0 / 3.0), None));
        assert_eq!((data.accuracy(1), data.accuracy(2)), (Some(1.0), None));
        assert!((data.mean_iou() - 7.0 / 12.0).abs() < 1e-12);
        assert_eq!(data.pixel_accuracy(), 0.75);
    }

    #[test]
    fn masks_are_laid_over_images() {
        let image = coloured(Image { channels: 1, height: 1, width: 2, pixels: vec![100, 100] });
        assert_eq!(over(&image, &[0, 1]).pixels, [100, 115, 100, 43, 100, 43]);
    }
}

//! Line charts that scale with the page: lines are SVG in a stretched view box, labels and points are HTML at percentages, so that
//! text keeps its size on a phone and on paper.

use maud::{Markup, PreEscaped, html};

/// Side of the SVG's square view box, which the page stretches.
const BOX: f64 = 1000.0;
/// Points are marked one by one up to this many; more would hide the line.
const MARKED_POINTS: usize = 32;

/// One line.
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Number of its colour in the style sheet, from 0.
    pub colour: usize,
    /// Whether it is drawn in dashes.
    pub dashed: bool,
    /// x (epochs) and y; what is no number is a gap.
    pub points: Vec<(f64, f64)>,
}

/// A point that is pointed out.
pub struct Mark {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// What is said of it.
    pub label: String,
    /// The colour of its series.
    pub colour: usize,
}

/// How values are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As they are.
    Plain,
    /// 0 to 1, as percent.
    Share,
    /// Decibels.
    Decibels,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Plain => number(value),
            Self::Share => format!("{:.2} %", value * 100.0),
            Self::Decibels => format!("{value:.2} dB"),
            Self::Seconds => seconds(value),
        }
    }

    /// A tick of an axis: as short as the step allows.
    fn tick(self, value: f64, step: f64) -> String {
        let (value, step) = if self == Self::Share { (value * 100.0, step * 100.0) } else { (value, step) };
        let suffix = match self {
            Self::Share => " %",
            Self::Decibels => " dB",
            Self::Seconds => " s",
            Self::Plain => "",
        };
        if value != 0.0 && (value.abs() >= 1e6 || step < 1e-4) {
            return format!("{value:.0e}{suffix}");
        }
        let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        // A step of 2.5 needs one more digit than its magnitude says.
        let exact = (step * 10_f64.powi(decimals as i32)).fract().abs() < 1e-6;
        format!("{value:.*}{suffix}", decimals + usize::from(!exact))
    }
}

/// A chart over epochs.
pub struct Chart {
    /// Distinguishes it on the page.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// A line under the title.
    pub note: String,
    /// How values are printed.
    pub unit: Unit,
    /// The lines.
    pub series: Vec<Series>,
    /// Points that are pointed out.
    pub marks: Vec<Mark>,
    /// Whether the vertical axis starts at zero.
    pub from_zero: bool,
    /// Steps at the end of each epoch, shown under the epochs.
    pub steps: Vec<(f64, u64)>,
}

/// A range of values with its ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Ticks at 1, 2 or 5 times a power of ten, about `count` of them; the range is widened to whole ticks.
    fn new(low: f64, high: f64, count: f64) -> Self {
        let middle = low.abs().max(high.abs()).max(1e-12);
        let (low, high) =
            if high - low < middle * 1e-9 { (low - middle * 0.1, high + middle * 0.1) } else { (low, high) };
        let raw = (high - low) / count;
        let power = 10_f64.powf(raw.log10().floor());
        let step =
            power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw * 0.999).unwrap_or(10.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks: Vec<f64> = (0..=(last - first) as usize).map(|tick| (first + tick as f64) * step).collect();
        Self { low: first * step, high: last * step, step, ticks }
    }

    /// Whole numbers from the first to the last, at most `count` of them labelled.
    fn whole(low: f64, high: f64, count: f64) -> Self {
        let step = ((high - low) / count).ceil().max(1.0);
        let power = 10_f64.powf(step.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step).unwrap_or(10.0);
        let first = if low <= step { low } else { (low / step).ceil() * step };
        let mut ticks = vec![first];
        let mut next = (first / step).floor() * step + step;
        while next <= high {
            ticks.push(next);
            next += step;
        }
        Self { low, high, step, ticks }
    }

    /// The share of the way from the low to the high end.
    fn at(&self, value: f64) -> f64 {
        if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 }
    }
}

impl Chart {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        !self.series.iter().flat_map(|series| &series.points).any(|(_, y)| y.is_finite())
    }

    /// The chart as a figure, with a table of its values for those who cannot or will not look at it.
    pub fn render(&self) -> Markup {
        if self.is_empty() {
            return html! {
                figure.chart { figcaption { h3 { (self.title) } p.note { "no epoch was recorded" } } }
            };
        }
        let (x, y) = self.axes();
        html! {
            figure.chart id=(self.id) {
                figcaption {
                    h3 { (self.title) }
                    @if !self.note.is_empty() { p.note { (self.note) } }
                    ul.legend {
                        @for series in &self.series {
                            li {
                                span class=(format!("key c{}{}", series.colour, if series.dashed { " dashed" } else { "" })) {}
                                (series.name)
                            }
                        }
                    }
                }
                div.plot tabindex="0" role="img" aria-label=(self.describe()) data-chart=(self.data()) {
                    div.area {
                        (self.labels(&x, &y))
                        (self.drawing(&x, &y))
                        @for series in &self.series { (points(series, &x, &y)) }
                        @for mark in &self.marks { (self.spot(mark, &x, &y)) }
                        div.cursor hidden {}
                        div.tip hidden {}
                    }
                }
                (self.table())
            }
        }
    }

    fn axes(&self) -> (Axis, Axis) {
        let all = || self.series.iter().flat_map(|series| &series.points).filter(|(_, y)| y.is_finite());
        let least = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::NEG_INFINITY, f64::max);
        let low = if self.from_zero { 0.0_f64.min(least(|point| point.1)) } else { least(|point| point.1) };
        (Axis::whole(least(|point| point.0), most(|point| point.0), 8.0), Axis::new(low, most(|point| point.1), 4.0))
    }

    /// Labels of the ticks, around the area.
    fn labels(&self, x: &Axis, y: &Axis) -> Markup {
        let steps_at = |epoch: f64| self.steps.iter().find(|(at, _)| *at == epoch).map(|(_, step)| *step);
        html! {
            @for tick in &y.ticks {
                span.ytick style=(format!("top:{}", percent(1.0 - y.at(*tick)))) { (self.unit.tick(*tick, y.step)) }
            }
            @for tick in &x.ticks {
                span.xtick style=(format!("left:{}", percent(x.at(*tick)))) {
                    (format!("{tick}"))
                    @if let Some(step) = steps_at(*tick) { small { (grouped(step)) } }
                }
            }
            span.xname { "epoch" @if !self.steps.is_empty() { small { "step" } } }
        }
    }

    fn drawing(&self, x: &Axis, y: &Axis) -> Markup {
        let mut inside = String::new();
        for tick in &y.ticks {
            let at = (1.0 - y.at(*tick)) * BOX;
            inside.push_str(&format!("<path class=\"grid\" d=\"M0 {at:.1}H{BOX}\"/>"));
        }
        for mark in &self.marks {
            let at = x.at(mark.x) * BOX;
            inside.push_str(&format!("<path class=\"best c{}\" d=\"M{at:.1} 0V{BOX}\"/>", mark.colour));
        }
        for series in &self.series {
            let class = if series.dashed { "line dashed" } else { "line" };
            inside.push_str(&format!("<path class=\"{class} c{}\" d=\"{}\"/>", series.colour, path(series, x, y)));
        }
        html! {
            svg viewBox=(format!("0 0 {BOX} {BOX}")) preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                (PreEscaped(inside))
            }
        }
    }

    /// A mark with its label, where no other line is and where there is room.
    fn spot(&self, mark: &Mark, x: &Axis, y: &Axis) -> Markup {
        let side = if x.at(mark.x) > 0.6 { "left" } else { "right" };
        let values = self.series.iter().filter_map(|series| value_at(series, mark.x));
        let is_above = values.clone().any(|value| value > mark.y);
        let is_below = values.clone().any(|value| value < mark.y);
        let height = y.at(mark.y);
        let under = if is_above == is_below { height > 0.85 } else { is_above && height > 0.15 };
        let place = if under || height > 0.92 { "under" } else { "over" };
        html! {
            i class=(format!("dot ring c{}", mark.colour))
                style=(format!("left:{};top:{}", percent(x.at(mark.x)), percent(1.0 - height))) {
                b class=(format!("{side} {place}")) { (mark.label) }
            }
        }
    }

    /// The chart in a sentence or two.
    fn describe(&self) -> String {
        let mut text = format!("{} by epoch.", self.title);
        for series in &self.series {
            let finite: Vec<&(f64, f64)> = series.points.iter().filter(|(_, y)| y.is_finite()).collect();
            let (Some(first), Some(last)) = (finite.first(), finite.last()) else { continue };
            let (from, to) = (self.unit.show(first.1), self.unit.show(last.1));
            text.push_str(&match finite.len() {
                1 => format!(" {}: {from}.", series.name),
                _ => format!(" {}: from {from} at epoch {} to {to} at epoch {}.", series.name, first.0, last.0),
            });
        }
        for mark in &self.marks {
            text.push_str(&format!(" {}: {} at epoch {}.", mark.label, self.unit.show(mark.y), mark.x));
        }
        text
    }

    /// What the script needs to show values under the pointer.
    fn data(&self) -> String {
        let xs = self.xs();
        let (x, y) = self.axes();
        let series = self.series.iter().map(|series| {
            let values: Vec<serde_json::Value> = xs
                .iter()
                .map(|x| {
                    let value = value_at(series, *x);
                    value.map_or(serde_json::Value::Null, |value| {
                        serde_json::json!([y.at(value), self.unit.show(value)])
                    })
                })
                .collect();
            serde_json::json!({ "name": series.name, "colour": series.colour, "values": values })
        });
        let series: Vec<serde_json::Value> = series.collect();
        let places: Vec<f64> = xs.iter().map(|at| x.at(*at)).collect();
        serde_json::json!({ "x": xs, "at": places, "series": series }).to_string()
    }

    /// Every epoch that any series has.
    fn xs(&self) -> Vec<f64> {
        let mut xs: Vec<f64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    fn table(&self) -> Markup {
        html! {
            details.values {
                summary { "Values" }
                div.scroll tabindex="0" role="region" aria-label=(format!("Values of {}", self.title)) {
                    table {
                        thead {
                            tr {
                                th scope="col" { "epoch" }
                                @for series in &self.series { th scope="col" { (series.name) } }
                            }
                        }
                        tbody {
                            @for x in self.xs() {
                                tr {
                                    th scope="row" { (x) }
                                    @for series in &self.series {
                                        td { (value_at(series, x).map_or_else(|| "–".to_string(), |y| self.unit.show(y))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn value_at(series: &Series, x: f64) -> Option<f64> {
    series.points.iter().find(|point| point.0 == x).map(|point| point.1).filter(|y| y.is_finite())
}

/// A series as the path of an SVG, with gaps where there is no number.
fn path(series: &Series, x: &Axis, y: &Axis) -> String {
    let mut text = String::new();
    let mut pen = 'M';
    for (at, value) in &series.points {
        if !value.is_finite() {
            pen = 'M';
            continue;
        }
        text.push_str(&format!("{pen}{:.1} {:.1}", x.at(*at) * BOX, (1.0 - y.at(*value)) * BOX));
        pen = 'L';
    }
    text
}

fn points(series: &Series, x: &Axis, y: &Axis) -> Markup {
    let shown: Vec<_> = series.points.iter().filter(|(_, y)| y.is_finite()).collect();
    html! {
        @if shown.len() <= MARKED_POINTS {
            @for (at, value) in shown {
                i class=(format!("dot c{}", series.colour))
                    style=(format!("left:{};top:{}", percent(x.at(*at)), percent(1.0 - y.at(*value)))) {}
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// A number with about four digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    match size {
        0.0 => "0".to_string(),
        1e5.. => format!("{value:.3e}"),
        100.0.. => format!("{value:.1}"),
        1e-3.. => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            // A narrow space that does not break: the separator of ISO 31-0.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A time as people read it.
pub fn seconds(value: f64) -> String {
    match value {
        3600.0.. => format!("{} h {} min", (value / 3600.0) as u64, (value % 3600.0 / 60.0) as u64),
        60.0.. => format!("{} min {} s", (value / 60.0) as u64, (value % 60.0) as u64),
        1.0.. => format!("{value:.1} s"),
        0.0 => "0 s".to_string(),
        _ => format!("{:.1} ms", value * 1e3),
    }
}

/// Bytes as people read them.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_ticks_at_round_numbers_that_hold_all_values() {
        for (low, high) in [(0.42, 1.08), (0.0, 0.003), (12.0, 12.0), (-3.0, 250.0), (0.59, 0.85), (1e-9, 2e-9)] {
            let axis = Axis::new(low, high, 4.0);
            assert!(axis.low <= low && axis.high >= high, "{low}..{high}: {}..{}", axis.low, axis.high);
            assert!((2..=8).contains(&axis.ticks.len()), "{low}..{high}: {:?}", axis.ticks);
        }
        assert_eq!(Axis::whole(1.0, 5.0, 8.0).ticks, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(Axis::whole(1.0, 40.0, 8.0).ticks, [1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
        assert_eq!(Axis::whole(3.0, 3.0, 8.0).ticks, [3.0]);
    }

    #[test]
    fn what_is_no_number_is_a_gap_in_the_line() {
        let points = vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 0.0)];
        let series = Series { name: "loss".into(), colour: 0, dashed: false, points };
        let (x, y) = (Axis::whole(1.0, 3.0, 8.0), Axis::new(0.0, 1.0, 4.0));
        assert_eq!(path(&series, &x, &y), "M0.0 0.0M1000.0 1000.0");
    }

    #[test]
    fn numbers_are_printed_for_people() {
        assert_eq!([number(0.5079), number(1e-9), number(12345.678)], ["0.5079", "1.000e-9", "12345.7"]);
        assert_eq!([seconds(0.0123), seconds(75.0), seconds(7300.0)], ["12.3 ms", "1 min 15 s", "2 h 1 min"]);
        assert_eq!([bytes(512), bytes(1536), bytes(1 << 30)], ["512 B", "1.5 KiB", "1.0 GiB"]);
        assert_eq!(grouped(1234567), "1\u{202f}234\u{202f}567");
        assert_eq!(Unit::Share.tick(0.85, 0.05), "85 %");
        assert_eq!(Unit::Plain.tick(0.25, 0.05), "0.25");
    }
}

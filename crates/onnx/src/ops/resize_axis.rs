//! Resizing one axis: which values a new one is made of, and their weights.

use super::real::zeros;
use crate::{Error, Result};

/// Sizes of an axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Size before.
    pub from: usize,
    /// Size after.
    pub to: usize,
    /// How much larger it becomes.
    pub factor: f32,
    /// The size after, not rounded.
    pub exact: f32,
}

/// How a place after is mapped to one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// `half_pixel`.
    HalfPixel,
    /// `half_pixel_symmetric`.
    HalfPixelSymmetric,
    /// `pytorch_half_pixel`.
    PytorchHalfPixel,
    /// `align_corners`.
    AlignCorners,
    /// `asymmetric`.
    Asymmetric,
    /// `tf_half_pixel_for_nn`.
    OldHalfPixel,
    /// `tf_crop_and_resize`.
    Crop,
}

impl Coordinates {
    /// By the name of the attribute.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "half_pixel" => Self::HalfPixel,
            "half_pixel_symmetric" => Self::HalfPixelSymmetric,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            "tf_half_pixel_for_nn" => Self::OldHalfPixel,
            "tf_crop_and_resize" => Self::Crop,
            other => return Err(Error::invalid(format!("its coordinate_transformation_mode is '{other}'"))),
        })
    }

    /// The place before, in 32 bits as models are made for.
    fn map(self, place: usize, scale: Scale, (start, end): (f32, f32)) -> f32 {
        let (place, last) = (place as f32, scale.from as f32 - 1.0);
        let centre = (place + 0.5) / scale.factor - 0.5;
        match self {
            Self::HalfPixel => centre,
            Self::HalfPixelSymmetric => scale.from as f32 / 2.0 * (1.0 - scale.to as f32 / scale.exact) + centre,
            Self::PytorchHalfPixel => {
                if scale.to > 1 {
                    centre
                } else {
                    0.0
                }
            }
            Self::AlignCorners => {
                if scale.exact == 1.0 || scale.to == 1 {
                    0.0
                } else {
                    place * last / (scale.exact - 1.0)
                }
            }
            Self::Asymmetric => place / scale.factor,
            Self::OldHalfPixel => (place + 0.5) / scale.factor,
            Self::Crop if scale.to > 1 => start * last + place * (end - start) * last / (scale.exact - 1.0),
            Self::Crop => 0.5 * (start + end) * last,
        }
    }
}

/// Which of two neighbours is the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    /// `round_prefer_floor`.
    RoundPreferFloor,
    /// `round_prefer_ceil`.
    RoundPreferCeil,
    /// `floor`.
    Floor,
    /// `ceil`.
    Ceil,
    /// Before version 11: the next when the axis shrinks, else the one before.
    Old,
}

impl Nearest {
    /// By the name of the attribute.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "round_prefer_floor" => Self::RoundPreferFloor,
            "round_prefer_ceil" => Self::RoundPreferCeil,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            other => return Err(Error::invalid(format!("its nearest_mode is '{other}'"))),
        })
    }

    fn of(self, place: f32, shrinks: bool) -> f32 {
        match self {
            // By the rest, which is exact: adding a half first would round.
            Self::RoundPreferFloor => place.floor() + if place - place.floor() > 0.5 { 1.0 } else { 0.0 },
            Self::RoundPreferCeil => place.floor() + if place - place.floor() >= 0.5 { 1.0 } else { 0.0 },
            Self::Floor => place.floor(),
            Self::Ceil => place.ceil(),
            Self::Old => {
                if shrinks {
                    place.ceil()
                } else {
                    place.floor()
                }
            }
        }
    }
}

/// How values around a place are weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    /// The nearest value.
    Nearest(Nearest),
    /// By distance, from neighbour to neighbour.
    Linear {
        /// Whether it grows as the axis shrinks.
        antialias: bool,
    },
    /// By a cubic function, over two neighbours on each side.
    Cubic {
        /// Whether it grows as the axis shrinks.
        antialias: bool,
        /// The coefficient.
        a: f32,
    },
}

impl Kernel {
    /// How far it reaches, and its weight at a distance.
    fn reach(self) -> f64 {
        match self {
            Self::Nearest(_) => 0.0,
            Self::Linear { .. } => 1.0,
            Self::Cubic { .. } => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Nearest(_) => 1.0,
            Self::Linear { .. } => (1.0 - x).max(0.0),
            Self::Cubic { a, .. } => {
                let a = f64::from(a);
                if x <= 1.0 {
                    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
                } else {
                    0.0
                }
            }
        }
    }
}

/// The values that those of a resized axis are made of.
pub(super) struct Taps {
    /// For each new value, the first place that it takes; places outside the axis are its ends.
    pub starts: Vec<i64>,
    /// Places that each takes.
    pub width: usize,
    /// Their weights.
    pub weights: Vec<f64>,
    /// Whether a new value is outside the region altogether.
    pub outside: Vec<bool>,
    last: i64,
}

impl Taps {
    pub fn new(
        scale: Scale,
        coordinates: Coordinates,
        region: (f32, f32),
        kernel: Kernel,
        exclude_outside: bool,
    ) -> Result<Self> {
        // An antialiasing kernel grows as the axis shrinks.
        let antialias = matches!(kernel, Kernel::Linear { antialias: true } | Kernel::Cubic { antialias: true, .. });
        let shrink = if antialias { f64::from(scale.factor.min(1.0)) } else { 1.0 };
        let before = (kernel.reach() / shrink).ceil() as i64 - 1;
        if before > 1 << 31 {
            return Err(Error::invalid(format!(
                "an axis made {} times as large is too small for antialiasing",
                scale.factor
            )));
        }
        let width = if kernel.reach() == 0.0 { 1 } else { 2 * (before as usize + 1) };
        let last = scale.from as i64 - 1;
        let mut weights = zeros::<f64>(&[scale.to, width])?;
        let (mut starts, mut outside) = (zeros::<i64>(&[scale.to])?, zeros::<bool>(&[scale.to])?);
        for place in 0..scale.to {
            let at = coordinates.map(place, scale, region);
            outside[place] = coordinates == Coordinates::Crop && !(0.0..=last as f32).contains(&at);
            let weights = &mut weights[place * width..][..width];
            if let Kernel::Nearest(which) = kernel {
                starts[place] = which.of(at, scale.factor < 1.0) as i64;
                weights[0] = 1.0;
                continue;
            }
            let floor = f64::from(at.floor());
            starts[place] = (floor as i64).saturating_sub(before);
            let mut sum = 0.0;
            for (tap, slot) in weights.iter_mut().enumerate() {
                let tap = tap as i64 - before;
                let inside = (0..=last).contains(&(floor as i64).saturating_add(tap));
                let weight = kernel.weight((tap as f64 - (f64::from(at) - floor)) * shrink);
                *slot = if exclude_outside && !inside { 0.0 } else { weight };
                sum += *slot;
            }
            if (antialias || exclude_outside) && sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
        }
        Ok(Self { starts, width, weights, outside, last })
    }

    /// The place of a tap of a new value.
    pub fn index(&self, i: usize, tap: usize) -> usize {
        self.starts[i].saturating_add(tap as i64).clamp(0, self.last) as usize
    }
}

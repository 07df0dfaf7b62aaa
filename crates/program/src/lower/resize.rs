//! Upsampling.

use rekindle_onnx::builder::Attr;
use rekindle_onnx::{Array, DType};

use super::{Args, Int, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("upsample_nearest1d", |l, a| upsample(l, a, "nearest", 1)),
    ("upsample_nearest2d", |l, a| upsample(l, a, "nearest", 2)),
    ("upsample_nearest3d", |l, a| upsample(l, a, "nearest", 3)),
    ("_upsample_nearest_exact1d", |l, a| upsample(l, a, "exact", 1)),
    ("_upsample_nearest_exact2d", |l, a| upsample(l, a, "exact", 2)),
    ("_upsample_nearest_exact3d", |l, a| upsample(l, a, "exact", 3)),
    ("upsample_linear1d", |l, a| upsample(l, a, "linear", 1)),
    ("upsample_bilinear2d", |l, a| upsample(l, a, "linear", 2)),
    ("_upsample_bilinear2d_aa", |l, a| upsample(l, a, "antialias", 2)),
    ("upsample_trilinear3d", |l, a| upsample(l, a, "linear", 3)),
    ("upsample_bicubic2d", |l, a| upsample(l, a, "cubic", 2)),
    ("_upsample_bicubic2d_aa", |l, a| upsample(l, a, "cubic antialias", 2)),
    ("grid_sampler", grid_sample),
    ("grid_sampler_3d", grid_sample),
    ("affine_grid_generator", affine_grid),
    ("grid_sampler_2d", grid_sample),
];

fn upsample(l: &mut Lower, args: &Args, kind: &'static str, n: usize) -> Result<Vec<Value>> {
    let x = args.tensor(if args.get("input").is_none() { "self" } else { "input" })?;
    if l.rank(x) != n + 2 {
        return Err(Error::invalid(format!("expected {} axes, found {}", n + 2, l.rank(x))));
    }
    let align = args.bool("align_corners")?;
    let mode = match kind {
        "antialias" => "linear",
        "exact" => "nearest",
        "cubic antialias" => "cubic",
        kind => kind,
    };
    let mut attributes = vec![("mode", Attr::Text(mode))];
    attributes.push((
        "coordinate_transformation_mode",
        Attr::Text(match (kind, align) {
            ("nearest", _) => "asymmetric",
            ("exact", _) => "half_pixel",
            (_, true) => "align_corners",
            (_, false) => "pytorch_half_pixel",
        }),
    ));
    match kind {
        "nearest" => attributes.push(("nearest_mode", Attr::Text("floor"))),
        "cubic" => attributes.push(("cubic_coeff_a", Attr::Float(-0.75))),
        "exact" => attributes.push(("nearest_mode", Attr::Text("round_prefer_ceil"))),
        // PyTorch gives no weight to what is outside the image.
        "antialias" => attributes.extend([("antialias", int(1)), ("exclude_outside", int(1))]),
        // As PIL has it, unlike without antialiasing.
        "cubic antialias" => {
            attributes.extend([
                ("antialias", int(1)),
                ("exclude_outside", int(1)),
                ("cubic_coeff_a", Attr::Float(-0.5)),
            ]);
        }
        _ => {}
    }
    let value = l.value(x)?;
    let factors = args.get("scale_factors").clone();
    if let Value::List(factors) = &factors {
        let mut scales = vec![1.0_f32; 2];
        for factor in factors {
            match factor {
                Value::Float(super::Float::Known(factor)) => scales.push(*factor as f32),
                Value::Int(Int::Known(factor)) => scales.push(*factor as f32),
                _ => return Err(Error::beyond("a scale that follows an open size")),
            }
        }
        if scales.len() != n + 2 {
            return Err(Error::invalid(format!("{} scales for {n} axes", factors.len())));
        }
        let scales = l.constant(&Array::vector(scales))?;
        let value = l.node("Resize", &[&value, "", &scales], &attributes)?;
        return l.answer(value);
    }
    // Scales given beside sizes (`scales_h` …) are the ones that PyTorch computes positions with.
    let names: &[&str] = match n {
        1 => &["scales"],
        2 => &["scales_h", "scales_w"],
        _ => &["scales_d", "scales_h", "scales_w"],
    };
    let given: Vec<Option<f64>> = names.iter().map(|name| args.optional_float(name)).collect::<Result<_>>()?;
    let sizes = args.syms("output_size")?;
    if sizes.len() != n {
        return Err(Error::invalid(format!("{} sizes for {n} axes", sizes.len())));
    }
    if given.iter().all(Option::is_some) && !align {
        let mut scales = vec![1.0_f32; 2];
        scales.extend(given.iter().flatten().map(|&scale| scale as f32));
        let scales = l.constant(&Array::vector(scales))?;
        let resized = l.node("Resize", &[&value, "", &scales], &attributes)?;
        let agrees = l.fact(&resized).is_some_and(|fact| {
            fact.probes.iter().enumerate().all(|(at, probe)| {
                probe.shape[2..]
                    .iter()
                    .zip(&sizes)
                    .all(|(size, wanted)| l.hints(wanted).is_none_or(|hints| hints[at] == *size as i64))
            })
        });
        if agrees {
            return l.answer(resized);
        }
        return Err(Error::beyond("upsampling to a size that its scales do not give"));
    }
    let shape = l.shape_of(&value)?;
    let (zero, two) = (l.ints(&[0])?, l.ints(&[2])?);
    let head = l.node("Slice", &[&shape, &zero, &two, &zero], &[])?;
    let sizes = l.vector(&sizes)?;
    let sizes = l.node("Concat", &[&head, &sizes], &[("axis", int(0))])?;
    let value = l.node("Resize", &[&value, "", "", &sizes], &attributes)?;
    l.answer(value)
}

fn grid_sample(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, grid) = (args.tensor("input")?, args.tensor("grid")?);
    let mode = match args.int("interpolation_mode")? {
        0 => "linear",
        1 => "nearest",
        2 => "cubic",
        other => return Err(Error::beyond(format!("interpolation mode {other}"))),
    };
    let padding = match args.int("padding_mode")? {
        0 => "zeros",
        1 => "border",
        2 => "reflection",
        other => return Err(Error::beyond(format!("padding mode {other}"))),
    };
    if l.dtype(x) != DType::F32 {
        return Err(Error::beyond(format!("grid_sample of {}", l.dtype(x))));
    }
    let (x, grid) = (l.value(x)?, l.value(grid)?);
    let attributes = [
        ("mode", Attr::Text(mode)),
        ("padding_mode", Attr::Text(padding)),
        ("align_corners", int(i64::from(args.bool("align_corners")?))),
    ];
    let value = l.node("GridSample", &[&x, &grid], &attributes)?;
    l.answer(value)
}

fn affine_grid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let theta = args.tensor("theta")?;
    let sizes = args.syms("size")?;
    let (theta, sizes) = (l.value(theta)?, l.vector(&sizes)?);
    let align = int(i64::from(args.bool("align_corners")?));
    let value = l.node("AffineGrid", &[&theta, &sizes], &[("align_corners", align)])?;
    l.answer(value)
}

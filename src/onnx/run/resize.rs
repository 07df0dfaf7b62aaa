//! Images of another size, where Burn's interpolation is ONNX's.

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use rekindle_onnx::Result;

use super::call::Call;
use super::tensor::DeviceTensor;
use super::{DeviceOp, Outputs};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Resize" => resize,
        "Upsample" => |call| {
            let mode = call.node.attributes.text_or("mode", "nearest")? == "nearest";
            if mode { run(call, Sizes::Scales(1), InterpolateMode::Nearest, false) } else { Ok(None) }
        },
        _ => return None,
    })
}

/// Which input says how large the output is.
#[derive(Clone, Copy)]
enum Sizes {
    Scales(usize),
    Sizes(usize),
}

fn resize(call: &mut Call<'_, '_>) -> Outputs {
    let attributes = &call.node.attributes;
    let special =
        ["antialias", "exclude_outside"].iter().map(|name| attributes.flag(name, false)).collect::<Result<Vec<_>>>()?;
    if special.contains(&true)
        || attributes.ints("axes")?.is_some()
        || attributes.get("keep_aspect_ratio_policy").is_some()
    {
        return Ok(None);
    }
    // Version 10 has no region of interest between the image and the scales, and its coordinates are asymmetric.
    let old = call.node.version < 11;
    let default = if old { "asymmetric" } else { "half_pixel" };
    let coordinates = attributes.text_or("coordinate_transformation_mode", default)?;
    let rounding = attributes.text_or("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    let (mode, corners) = match (attributes.text_or("mode", "nearest")?, coordinates) {
        ("nearest", "asymmetric") if rounding == "floor" => (InterpolateMode::Nearest, false),
        ("linear", "half_pixel" | "pytorch_half_pixel") => (InterpolateMode::Bilinear, false),
        ("linear", "align_corners") => (InterpolateMode::Bilinear, true),
        _ => return Ok(None),
    };
    let scales = if old { 1 } else { 2 };
    let given = |input: usize| call.shape(input).is_some_and(|shape| shape != [0]);
    let sizes = if given(3) { Sizes::Sizes(3) } else { Sizes::Scales(scales) };
    run(call, sizes, mode, corners)
}

fn run(call: &mut Call<'_, '_>, sizes: Sizes, mode: InterpolateMode, corners: bool) -> Outputs {
    let Some(shape) = call.shape(0).filter(|shape| shape.len() == 4) else { return Ok(None) };
    let output: Vec<f64> = match sizes {
        Sizes::Sizes(input) => call.ints(input)?.unwrap_or_default().into_iter().map(|size| size as f64).collect(),
        Sizes::Scales(input) => {
            let scales = match call.node.attributes.floats("scales")? {
                Some(scales) => scales.iter().map(|&scale| f64::from(scale)).collect(),
                None => call.host(input)?.map(|scales| scales.floats()).transpose()?.unwrap_or_default(),
            };
            scales.iter().zip(&shape).map(|(scale, &size)| scale * size as f64).collect()
        }
    };
    // Scales that do not give whole sizes make other coordinates than the sizes alone.
    let whole = output.len() == 4 && output.iter().all(|size| size.fract() == 0.0 && (1.0..1e9).contains(size));
    if !whole || output[0] != shape[0] as f64 || output[1] != shape[1] as f64 {
        return Ok(None);
    }
    let (height, width) = (output[2] as usize, output[3] as usize);
    // A single row or column has coordinates of its own in some modes.
    if height < 2 || width < 2 || shape[2] < 2 || shape[3] < 2 {
        return Ok(None);
    }
    let x = call.take(0)?;
    let dtype = x.dtype();
    let options = InterpolateOptions::new(mode).with_align_corners(corners).with_output_size([height, width]);
    let out = interpolate(x.view_as(&shape), options);
    Ok(Some(vec![DeviceTensor::new(out, vec![shape[0], shape[1], height, width], dtype)]))
}

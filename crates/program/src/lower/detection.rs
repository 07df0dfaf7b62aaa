//! Operators of torchvision: boxes, regions of interest, deformable convolutions.

use rekindle_onnx::builder::Attr;
use rekindle_onnx::{Array, DType};

use super::{Args, Lower, Row, Value, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("torchvision::nms", suppressed),
    ("torchvision::roi_align", roi_align),
    ("torchvision::deform_conv2d", deform_conv2d),
];

/// Which boxes are left when those that overlap a better one are taken out, the best first.
fn suppressed(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (boxes, scores) = (args.tensor("dets")?, args.tensor("scores")?);
    let (boxes, scores) = (l.value_as(boxes, DType::F32)?, l.value_as(scores, DType::F32)?);
    let (one, two) = (l.ints(&[0])?, l.ints(&[0, 1])?);
    let (boxes, scores) = (l.node("Unsqueeze", &[&boxes, &one], &[])?, l.node("Unsqueeze", &[&scores, &two], &[])?);
    let all = l.shape_of(&scores)?;
    let last = l.constant(&Array::vector(vec![2_i64]))?;
    let most = l.node("Gather", &[&all, &last], &[("axis", int(0))])?;
    let overlap = l.constant(&Array::vector(vec![args.float("iou_threshold")? as f32]))?;
    let found = l.node("NonMaxSuppression", &[&boxes, &scores, &most, &overlap], &[])?;
    // Batch, class and box.
    let column = l.constant(&Array::scalar(2_i64))?;
    let value = l.node("Gather", &[&found, &column], &[("axis", int(1))])?;
    let tensor = l.tensor_or_unknown(value);
    l.assume(tensor, DType::I64, 1);
    Ok(vec![Value::Tensor(tensor)])
}

fn roi_align(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, regions) = (args.tensor("input")?, args.tensor("rois")?);
    let dtype = l.dtype(x);
    let rows = l.value_as(regions, dtype)?;
    let cut = |l: &mut Lower, start: i64, end: i64| {
        let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[1])?);
        l.node("Slice", &[&rows, &start, &end, &axis], &[])
    };
    let (image, corners) = (cut(l, 0, 1)?, cut(l, 1, 5)?);
    let axis = l.ints(&[1])?;
    let image = l.node("Squeeze", &[&image, &axis], &[])?;
    let image = l.cast(&image, dtype, DType::I64)?;
    let attributes = [
        ("spatial_scale", Attr::Float(args.float("spatial_scale")? as f32)),
        ("output_height", int(args.int("pooled_height")?)),
        ("output_width", int(args.int("pooled_width")?)),
        // As many samples as a region has pixels, where none are said.
        ("sampling_ratio", int(args.int("sampling_ratio")?.max(0))),
        (
            "coordinate_transformation_mode",
            Attr::Text(if args.bool("aligned")? { "half_pixel" } else { "output_half_pixel" }),
        ),
    ];
    let value = l.value(x)?;
    let value = l.node("RoiAlign", &[&value, &corners, &image], &attributes)?;
    let tensor = l.tensor_or_unknown(value);
    l.assume(tensor, dtype, 4);
    Ok(vec![Value::Tensor(tensor)])
}

fn deform_conv2d(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let weight = args.tensor("weight")?;
    let kernel = [l.size(weight, 2)? as i64, l.size(weight, 3)? as i64];
    let mut values = Vec::new();
    for name in ["input", "weight", "offset", "bias", "mask"] {
        let used = name != "mask" || args.bool("use_mask")?;
        values.push(match args.optional(name)?.filter(|_| used) {
            Some(tensor) => l.value(tensor)?,
            None => "".into(),
        });
    }
    let pads = [args.int("pad_h")?, args.int("pad_w")?];
    let attributes = [
        ("kernel_shape", list(kernel)),
        ("strides", list([args.int("stride_h")?, args.int("stride_w")?])),
        ("pads", list([pads, pads].concat())),
        ("dilations", list([args.int("dilation_h")?, args.int("dilation_w")?])),
        ("group", int(args.int("groups")?)),
        ("offset_group", int(args.int("offset_groups")?)),
    ];
    let inputs: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let value = l.node("DeformConv", &inputs, &attributes)?;
    if l.fact(&value).is_none() {
        return Err(Error::beyond("a deformable convolution of an open size"));
    }
    l.answer(value)
}

//! Pooling.

use burn::backend::ir::{AdaptiveAvgPool2dOpIr, AvgPool2dOpIr, MaxPool2dOpIr};

use super::super::dims::Dim;
use super::super::graph::{Graph, int, ints};

pub fn max_pool2d(graph: &mut Graph<'_>, op: &MaxPool2dOpIr) -> Result<(), String> {
    let module = graph.names.layer("MaxPool2d");
    let x = graph.value(&op.x)?;
    let [height, width] = op.padding;
    let attributes = vec![
        ints("kernel_shape", &op.kernel_size),
        ints("strides", &op.stride),
        ints("pads", &[height, width, height, width]),
        ints("dilations", &op.dilation),
        int("ceil_mode", i64::from(op.ceil_mode)),
    ];
    graph.node(&module, "MaxPool", vec![x], &[&op.out], attributes);
    Ok(())
}

pub fn avg_pool2d(graph: &mut Graph<'_>, op: &AvgPool2dOpIr) -> Result<(), String> {
    let module = graph.names.layer("AvgPool2d");
    let x = graph.value(&op.x)?;
    let [height, width] = op.padding;
    let attributes = vec![
        ints("kernel_shape", &op.kernel_size),
        ints("strides", &op.stride),
        ints("pads", &[height, width, height, width]),
        int("ceil_mode", i64::from(op.ceil_mode)),
        int("count_include_pad", i64::from(op.count_include_pad)),
    ];
    graph.node(&module, "AveragePool", vec![x], &[&op.out], attributes);
    Ok(())
}

/// Averages over cells of a grid. ONNX has it for one cell (`GlobalAveragePool`) and for cells of one size (`AveragePool`). Cells
/// of different sizes, which may overlap, are weighted sums over rows and columns: two products with constant matrices.
pub fn adaptive_avg_pool2d(graph: &mut Graph<'_>, op: &AdaptiveAvgPool2dOpIr) -> Result<(), String> {
    let module = graph.names.layer("AdaptiveAvgPool2d");
    let shape = graph.shape(&op.x);
    let (Some(Some(height)), Some(Some(width))) =
        (shape.get(2).map(|dim| dim.fixed()), shape.get(3).map(|dim| dim.fixed()))
    else {
        return Err("the size of its images is not fixed".to_string());
    };
    let [rows, columns] = op.output_size;
    if (height, width) == (rows, columns) {
        return graph.alias(&op.x, &op.out);
    }
    let x = graph.value(&op.x)?;
    if (rows, columns) == (1, 1) {
        graph.node(&module, "GlobalAveragePool", vec![x], &[&op.out], vec![]);
        return Ok(());
    }
    if height % rows == 0 && width % columns == 0 {
        let cell = [height / rows, width / columns];
        graph.node(
            &module,
            "AveragePool",
            vec![x],
            &[&op.out],
            vec![ints("kernel_shape", &cell), ints("strides", &cell)],
        );
        return Ok(());
    }
    let over_columns = cells(width, columns);
    let transposed: Vec<f32> = (0..width)
        .flat_map(|x| (0..columns).map(move |cell| (cell, x)))
        .map(|(cell, x)| over_columns[cell * width + x])
        .collect();
    let right = graph.matrix(width, columns, &transposed)?;
    let left = graph.matrix(rows, height, &cells(height, rows))?;
    let between = [shape[0], shape[1], Dim::Fixed(height), Dim::Fixed(columns)];
    let narrow = graph.inner(&module, "MatMul", vec![x, right], &op.out, &between, vec![])?;
    graph.node(&module, "MatMul", vec![left, narrow], &[&op.out], vec![]);
    Ok(())
}

/// The matrix `[cells, side]` that averages: cell `i` reaches from ⌊i·side/cells⌋ to ⌈(i+1)·side/cells⌉.
fn cells(side: usize, cells: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; cells * side];
    for cell in 0..cells {
        let (from, to) = (cell * side / cells, ((cell + 1) * side).div_ceil(cells));
        matrix[cell * side + from..cell * side + to].fill(1.0 / (to - from) as f32);
    }
    matrix
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_overlap_as_in_pytorch() {
        // Five values in three cells: 0–1, 1–3, 3–4.
        let third = 1.0 / 3.0;
        let expected = [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, third, third, third, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5];
        assert_eq!(super::cells(5, 3), expected);
        // One value in two cells: both have it.
        assert_eq!(super::cells(1, 2), [1.0, 1.0]);
    }
}

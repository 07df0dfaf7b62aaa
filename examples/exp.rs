use burn::tensor::{Device, Distribution, Tensor, TensorData};
use std::time::Instant;
fn med(mut f: impl FnMut()) -> f64 {
    f();
    let mut v: Vec<f64> = (0..7)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    v.sort_by(f64::total_cmp);
    v[3]
}
fn main() {
    #[allow(deprecated)]
    for (name, d) in [("flex", Device::flex()), ("ndarray", Device::ndarray())] {
        for (i, o) in [(25088usize, 4096usize), (4096, 4096), (4096, 1000), (784, 514)] {
            let w: Tensor<2> =
                Tensor::from_data(TensorData::new((0..i * o).map(|k| (k % 1009) as f32 * 1e-3).collect::<Vec<f32>>(), [o, i]), &d);
            let view = w.clone().swap_dims(0, 1);
            let t = Instant::now();
            let copy = w.clone().swap_dims(0, 1).mul_scalar(1.0);
            let c = t.elapsed();
            let cont: Tensor<2> = Tensor::from_data(copy.clone().into_data(), &d);
            for b in [1, 8, 64] {
                let x = Tensor::<2>::random([b, i], Distribution::Default, &d);
                let a = med(|| drop(x.clone().matmul(view.clone()).into_data()));
                let e = med(|| drop(x.clone().matmul(cont.clone()).into_data()));
                println!("{name} {i}x{o} batch {b}: view {a:.2} ms contiguous {e:.2} ms; transposing copy {c:?}");
            }
            let g = cont.clone();
            let a = med(|| drop((view.clone() - g.clone().mul_scalar(0.1)).into_data()));
            let e = med(|| drop((cont.clone() - g.clone().mul_scalar(0.1)).into_data()));
            println!("   sgd step view {a:.2} contiguous {e:.2}");
        }
    }
}

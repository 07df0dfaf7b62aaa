//! `model.load_state_dict(…); model.eval(); model(x)`.

use std::path::Path;

use burn::module::Module;
use burn::tensor::activation::softmax;
use rekindle::checkpoint::Which;
use rekindle::data::{BatchTarget, Split};
use rekindle::device::DeviceName;
use rekindle::models::Output;
use rekindle::models::Registry;
use rekindle::train::{recipe, recipe_of, restored};

pub fn run(scratch: &Path) -> crate::Answer {
    let contents = crate::train(&scratch.join("run"), &[])?.find(Which::Best)?.read()?;
    let recipe = recipe_of(&contents, "the run")?;
    let network = restored(&recipe::architecture(&Registry::built_in(), &recipe)?, &contents, "the run")?;

    // `fork` moves to a device (`auto` takes a GPU if there is one), `valid` is `model.eval()`.
    let device = DeviceName::AUTO.open()?;
    let network = network.fork(&device.device).valid();

    let loader = recipe.data.loader(Path::new(""), Split::Test, 0, &device.device)?;
    let names = loader.dataset().classes().to_vec();
    let batch = loader.batches(0, 0).next().ok_or("the set is empty")??;
    let (Output::Classes(scores), BatchTarget::Classes(labels)) = (network.forward(batch.input)?, batch.target) else {
        return Err("expected classes".into());
    };
    let probabilities: Vec<f32> = softmax(scores, 1).into_data().iter::<f32>().collect();
    for (row, label) in probabilities.chunks(names.len()).zip(labels.into_data().iter::<i64>()).take(5) {
        let (class, probability) = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("no classes")?;
        println!("{:5.1} % {:12} (it is {})", probability * 100.0, names[class], names[label as usize]);
    }
    println!("on {}", device.description);
    Ok(())
}

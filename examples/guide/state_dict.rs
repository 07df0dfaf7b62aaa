//! The loops that print `model.state_dict()` and `optimizer.state_dict()`.

use std::path::Path;

use rekindle::models::{Registry, weights};
use rekindle::optim::{self, OptimizerConfig, Settings};
use rekindle::state::show_shape;
use rekindle::train::{fresh, trained_parameters};

pub fn run(_: &Path) -> crate::Answer {
    let architecture = Registry::built_in().find("the_model_class")?.standard()?;
    let model = fresh(&architecture, 42);
    println!("Model's state_dict:");
    for (name, tensor) in weights::to_state_dict(&model)?.tensors() {
        println!("{name}\t{}", show_shape(tensor.shape()));
    }

    // optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    let settings = Settings::new().with("lr", 0.001).with("momentum", 0.9);
    let parameters = trained_parameters(&model);
    let groups = OptimizerConfig::new("sgd", &settings)?.resolve(&parameters)?;
    let optimizer = optim::module_optimizer(&groups, &parameters)?;
    println!("Optimizer's state_dict:");
    for (key, value) in optim::to_state_dict(optimizer.to_record(), &parameters, &groups)?.iter() {
        println!("{}\t{value:?}", key.text());
    }
    Ok(())
}

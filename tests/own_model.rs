//! Networks that are not built in: through the registry, the command line's parts, and the library.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::store::ModuleRecord;
use burn::tensor::{Device, Int, Tensor};
use burn::train::TrainStep;
use rekindle::data::{Batch, BatchTarget};
use rekindle::models::{Architecture, Network, weights};
use rekindle::prelude::*;
use rekindle::tasks::Objective;
use rekindle::train::{StepInput, recipe};
use serde_json::json;

/// Takes ids and features, gives scores with an auxiliary head in training.
#[derive(Module, Debug)]
struct Two {
    embedding: Embedding,
    steps: Param<Tensor<1, Int>>,
    dropout: Dropout,
    layers: Vec<Linear>,
    head: Option<Linear>,
}

impl Forward for Two {
    type Input = (Tensor<2, Int>, Tensor<2>);
    type Output = Scores;

    fn forward(&self, (ids, features): Self::Input) -> Scores {
        let words: Tensor<2> = self.embedding.forward(ids).mean_dim(1).squeeze_dim(1);
        let x = self.dropout.forward(words + features);
        let auxiliary = match &self.head {
            Some(head) if x.device().is_autodiff() => vec![(0.5, head.forward(x.clone()))],
            _ => Vec::new(),
        };
        Scores { logits: self.layers.iter().fold(x, |x, layer| layer.forward(x)), auxiliary }
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(default, deny_unknown_fields)]
struct TwoConfig {
    #[serde(alias = "embedding_dim")]
    width: usize,
    classes: usize,
    with_head: bool,
}

impl Default for TwoConfig {
    fn default() -> Self {
        Self { width: 4, classes: 3, with_head: true }
    }
}

impl ModelConfig for TwoConfig {
    type Model = Two;
    const NAME: &'static str = "two";

    fn init(&self, device: &Device) -> Two {
        Two {
            embedding: EmbeddingConfig::new(5, self.width).init(device),
            steps: Param::from_tensor_int(device),
            dropout: DropoutConfig::new(0.0).init(),
            layers: vec![
                LinearConfig::new(self.width, self.width).init(device),
                LinearConfig::new(self.width, self.classes).init(device),
            ],
            head: self.with_head.then(|| LinearConfig::new(self.width, self.classes).init(device)),
        }
    }

    fn io(&self) -> Io {
        let items = vec![Item::Ids(6), Item::Features(self.width)];
        Io::new(Item::Several(items), Classification::logits(self.classes))
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.width > 0 { Ok(()) } else { Err(Invalid::new("width", "must be at least 1, found 0")) }
    }
}

/// An integer parameter of one value.
trait FromInt {
    fn from_tensor_int(device: &Device) -> Param<Tensor<1, Int>>;
}

impl FromInt for Param<Tensor<1, Int>> {
    fn from_tensor_int(device: &Device) -> Self {
        Param::initialized(burn::module::ParamId::new(), Tensor::from_data([7_i64], device))
    }
}

fn inputs(device: &Device) -> (Tensor<2, Int>, Tensor<2>) {
    let ids = Tensor::from_data([[0_i64, 1, 2, 3, 4, 0], [4, 4, 1, 1, 0, 2]], device);
    (ids, Tensor::from_data([[0.5_f32, -1.0, 2.0, 0.0], [1.0, 1.0, -2.0, 0.25]], device))
}

fn names<M: Module>(module: &M) -> Vec<String> {
    weights::entries(module).into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_network_of_any_type_is_its_module() {
    let device = Device::flex();
    let module = TwoConfig::default().init(&device);
    let network = Network::new(module.clone());
    assert_eq!(names(&network), names(&module));
    assert_eq!(network.num_params(), module.num_params());
    let x = inputs(&device);
    let expected = module.forward(x.clone()).logits.into_data();
    assert_eq!(network.forward(x.clone()).unwrap().into_data(), expected);
    assert!(network.get::<Two>().is_some() && network.get::<Linear2>().is_none());
    // Moved, put into training and back, mapped, cloned: the same network.
    let again = network.clone().train().fork(&device.clone().autodiff()).valid().materialize().no_grad();
    assert_eq!(again.forward(x).unwrap().into_data(), expected);
    assert_eq!(again.devices(), vec![device]);
    let module = again.into_module::<Two>().unwrap();
    assert_eq!(module.layers.len(), 2);
    assert_eq!(module.steps.val().into_data().iter::<i64>().collect::<Vec<_>>(), [7]);
}

/// Another network, to ask for the wrong type.
#[derive(Module, Debug)]
struct Linear2 {
    fc: Linear,
}

impl Forward for Linear2 {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc.forward(x)
    }
}

#[test]
fn a_record_of_a_network_loads_into_the_module_itself() {
    let device = Device::flex();
    let network = Architecture::new(TwoConfig::default()).build(&device);
    let expected = network.forward(inputs(&device)).unwrap().into_data();
    let bytes = network.into_record().into_bytes().unwrap();
    let module = TwoConfig::default().init(&device);
    let module = module.try_load_record(ModuleRecord::from_bytes(bytes).unwrap()).unwrap();
    assert_eq!(module.forward(inputs(&device)).logits.into_data(), expected);
}

#[test]
fn keys_are_laid_over_the_default() {
    let registry = Registry::built_in().with::<TwoConfig>();
    let configure = |keys: serde_json::Value| registry.find("two").unwrap().configure(keys.as_object().unwrap());
    let found = configure(json!({ "embedding_dim": 8 })).unwrap();
    assert_eq!(found.config(), json!({ "width": 8, "classes": 3, "with_head": true }));
    assert_eq!(found.get::<TwoConfig>().unwrap().width, 8);
    let message = |keys| configure(keys).unwrap_err().to_string();
    assert_eq!(
        message(json!({ "classe": 8 })),
        "model 'two': unknown key 'classe', did you mean 'classes'?; its keys are width, classes, with_head"
    );
    assert_eq!(message(json!({ "width": 0 })), "model 'two': key 'width': must be at least 1, found 0");
    assert_eq!(
        message(json!({ "width": "x" })),
        "model 'two': key 'width': expected a whole number, 0 or more, found the text \"x\""
    );
    assert!(registry.find("tow").unwrap_err().to_string().contains("did you mean 'two'?"));
    // A row of the same name gives way.
    let registry = registry.with_entry(entry("two", "wide", || TwoConfig { width: 9, ..TwoConfig::default() }));
    assert_eq!(registry.find("two").unwrap().standard().unwrap().get::<TwoConfig>().unwrap().width, 9);
    assert_eq!(registry.entries().iter().filter(|entry| entry.name == "two").count(), 1);
}

#[test]
fn an_input_of_another_kind_is_an_error() {
    let device = Device::flex();
    let network = Architecture::new(TwoConfig::default()).build(&device);
    let error = network.forward(Tensor::<4>::zeros([1, 3, 4, 4], &device)).unwrap_err().to_string();
    assert_eq!(error, "model 'Two' expects two inputs, found images [1, 3, 4, 4]");
    // Images are features and rows, where a network wants these.
    let flat = Network::new(Linear2 { fc: LinearConfig::new(48, 2).init(&device) });
    assert_eq!(flat.forward(Tensor::<4>::zeros([1, 3, 4, 4], &device)).unwrap().shape(), [1, 2]);
}

#[test]
fn auxiliary_heads_count_in_the_training_loss() {
    let device = Device::flex().autodiff();
    let loss = |with_head: bool| {
        let architecture = Architecture::new(TwoConfig { with_head, ..TwoConfig::default() });
        let network = architecture.build(&Device::flex());
        // The same values in both networks: weights are small numbers by their place.
        let network = network.map(&mut Numbered(0)).train().fork(&device);
        let (ids, features) = inputs(&device);
        let target = BatchTarget::Classes(Tensor::from_data([0_i64, 2], &device));
        let batch = Batch { input: (ids, features).into(), target, len: 2 };
        let output =
            TrainStep::step(&network, StepInput { batch, objective: Objective::new(architecture.task(), None) });
        (output.item.reported().unwrap().read().1, network)
    };
    let (without, _) = loss(false);
    let (with, network) = loss(true);
    let (ids, features) = inputs(&device);
    let outputs = network.outputs((ids, features)).unwrap();
    let Output::Classes(scores) = outputs.auxiliary[0].output.clone() else { unreachable!("a head gives scores") };
    let classes = Tensor::from_data([0_i64, 2], &device);
    let head = rekindle::optim::cross_entropy(scores, classes).into_data().iter::<f32>().next().unwrap();
    assert!((with - (without + 0.5 * f64::from(head))).abs() < 1e-5, "{with}, {without}, {head}");
    // In evaluation mode there is no auxiliary head.
    assert!(network.valid().outputs(inputs(&Device::flex())).unwrap().auxiliary.is_empty());
}

/// Gives every parameter values by their place.
struct Numbered(usize);

impl burn::module::ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let count = shape.num_elements();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + 3) % 11) as f32 * 0.1 - 0.5).collect();
        self.0 += 1;
        param.map(|value| Tensor::from_data(burn::tensor::TensorData::new(values, shape), &value.device()))
    }
}

#[test]
fn parameters_are_visited_in_order() {
    struct Shapes(Vec<Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.lazy_shape().to_vec());
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.0.push(param.lazy_shape().to_vec());
        }
    }
    let mut shapes = Shapes(Vec::new());
    Architecture::new(TwoConfig::default()).build(&Device::flex()).visit(&mut shapes);
    assert_eq!(shapes.0, [vec![5, 4], vec![1], vec![4, 4], vec![4], vec![4, 3], vec![3], vec![4, 3], vec![3]]);
}

#[test]
fn a_loss_that_does_not_fit_the_output_is_refused() {
    let text = |model: &str, loss: &str| {
        format!(
            "name = \"x\"\nmodel = {{ name = \"{model}\" }}\n[data]\nname = \"fashion-mnist-sample\"\n[optimizer]\nname = \"sgd\"\nlr = 0.1\n\
             [train]\nloss = \"{loss}\"\n"
        )
    };
    let registry = Registry::built_in();
    let refused = |model: &str, loss: &str| {
        let recipe = recipe::parse(&registry, &text(model, loss), &[], "r.toml").unwrap();
        rekindle::train::Plan::new(&registry, recipe, "r.toml").err().map(|error| error.to_string())
    };
    assert_eq!(
        refused("cifar_cnn", "nll").unwrap(),
        "r.toml: train.loss = \"nll\" needs log-probabilities, and the model gives logits: its loss would fall without end; use \
         \"cross-entropy\""
    );
    assert_eq!(
        refused("cifar_cnn", "mse").unwrap(),
        "r.toml: train.loss = \"mse\" does not fit a model that gives classes"
    );
    assert_eq!(
        refused("super_resolution", "nll").unwrap(),
        "r.toml: train.loss = \"nll\" does not fit a model that gives images"
    );
    assert_eq!(refused("fashion_classifier", "nll"), None);
    assert_eq!(refused("fashion_classifier", "cross-entropy"), None);
    assert_eq!(refused("super_resolution", "l1"), None);
}

#[test]
fn a_training_in_code_reports_and_gives_its_best_network() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        || rekindle::models::FashionClassifierConfig { hidden: [16, 12, 12, 12], classes: 10, ..Default::default() };
    let data = || DataConfig {
        limit: Some(Limit { train: Some(96), test: Some(64) }),
        batch_size: 32,
        ..DatasetName::FASHION_MNIST_SAMPLE.into()
    };
    let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = events.clone();
    let run = Training::of(config())
        .data(data())
        .epochs(2)
        .device(DeviceName::FLEX)
        .observe(move |event: &Event| told.lock().unwrap().push(event.clone()))
        .run(folder.path().join("run"))
        .unwrap();
    let events = events.lock().unwrap();
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| if let Event::Step { step, .. } = event { Some(*step) } else { None })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    let ended = events.iter().filter(|event| matches!(event, Event::EpochEnded(report) if report.metrics.len() == 4));
    assert_eq!(ended.count(), 2);
    let model = run.best::<rekindle::models::FashionClassifierConfig>(&Device::flex()).unwrap();
    assert_eq!(model.config().hidden, [16, 12, 12, 12]);
    let pth = folder.path().join("best.pth");
    model.save(&pth).unwrap();
    let (again, _) = Trained::load(config(), &pth, &Device::flex()).unwrap();
    let x = Tensor::<4>::ones([1, 1, 28, 28], &Device::flex());
    assert_eq!(again.forward(x.clone()).into_data(), model.forward(x).into_data());
    let written = model.export_onnx(folder.path().join("best.onnx")).unwrap();
    assert!(!written.findings.is_empty() && written.files.iter().all(|file| file.is_file()));
    let error = run.best::<CifarCnnConfig>(&Device::flex()).unwrap_err().to_string();
    assert!(error.ends_with("the run is of the model 'fashion_classifier', not of 'cifar_cnn'"), "{error}");
    let error = Training::of(config()).data(data()).epochs(0).run(folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("train.epochs: must be at least 1, found 0"), "{error}");
    assert!(!Path::new(&folder.path().join("none")).exists());
}

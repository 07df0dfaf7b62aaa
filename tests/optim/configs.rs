//! Optimizers of recipes: defaults, groups, and what is refused with which words.

use burn::module::ParamId;
use rekindle::optim::{Adam, OptimizerConfig, ParameterInfo, ParameterPart, RmsProp, Rule, Sgd};

fn read(text: &str) -> Result<OptimizerConfig, String> {
    toml::from_str(text).map_err(|error| error.message().to_string())
}

fn parameters(names: &[&str]) -> Vec<ParameterInfo> {
    names
        .iter()
        .map(|name| ParameterInfo {
            name: name.to_string(),
            shape: vec![1],
            parts: vec![ParameterPart { id: ParamId::new(), path: name.to_string(), transposed: false }],
        })
        .collect()
}

#[test]
fn defaults_are_those_of_torch() {
    let defaults = |name: &str| read(&format!("name = \"{name}\"")).map(|config| (config.lr, config.rule)).unwrap();
    let sgd = Sgd { momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false };
    assert_eq!(defaults("sgd"), (1e-3, Rule::Sgd(sgd)));
    let adam =
        Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, amsgrad: false, maximize: false, decoupled: false };
    assert_eq!(defaults("adam"), (1e-3, Rule::Adam(adam.clone())));
    assert_eq!(defaults("adamw"), (1e-3, Rule::Adam(Adam { weight_decay: 1e-2, decoupled: true, ..adam })));
    let rms = RmsProp { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false, maximize: false };
    assert_eq!(defaults("rmsprop"), (1e-2, Rule::RmsProp(rms)));
}

#[test]
fn the_first_matching_group_wins_and_the_rest_comes_last() {
    let config = read(
        "name = \"adam\"\nlr = 0.1\ngroups = [{ match = \"bias$\", weight_decay = 0 }, { match = \"^fc\", lr = 1e-4, betas = [0.5, 0.6] }]",
    )
    .unwrap();
    let table = parameters(&["conv.weight", "conv.bias", "fc.weight", "fc.bias", "norm.weight"]);
    let groups = config.resolve(&table).unwrap();
    let summary: Vec<_> = groups.iter().map(|group| (group.lr, group.members.clone())).collect();
    assert_eq!(summary, [(0.1, vec![1, 3]), (1e-4, vec![2]), (0.1, vec![0, 4])]);
    let Rule::Adam(second) = &groups[1].rule else { panic!("{:?}", groups[1].rule) };
    assert_eq!((second.betas, second.eps), ([0.5, 0.6], 1e-8));

    let all = read("name = \"sgd\"\ngroups = [{ match = \".\" }]").unwrap().resolve(&table).unwrap();
    assert_eq!(all.len(), 1);
}

#[test]
fn groups_without_parameters_are_refused() {
    let table = parameters(&["a.weight", "a.bias", "b.weight", "b.bias", "c.weight"]);
    let error = |groups: &str| {
        read(&format!("name = \"sgd\"\ngroups = {groups}")).unwrap().resolve(&table).unwrap_err().to_string()
    };
    assert_eq!(
        error("[{ match = \"^fc\" }]"),
        "optimizer group '^fc' matches no parameter: the model's are a.weight, a.bias, b.weight, b.bias, …"
    );
    assert_eq!(
        error("[{ match = \"^a\" }, { match = \"a.bias\" }]"),
        "optimizer group 'a.bias' is empty: earlier groups took every parameter that it matches"
    );
}

#[test]
fn impossible_settings_are_refused() {
    for (text, message) in [
        (
            "name = \"lion\"",
            "unknown optimizer 'lion': expected one of sgd, adam, adamw, rmsprop, adagrad, adamax, radam, nadam, adadelta",
        ),
        (
            "name = \"adafactor\"",
            "unknown optimizer 'adafactor': expected one of sgd, adam, adamw, rmsprop, adagrad, adamax, radam, nadam, adadelta",
        ),
        ("name = \"sgd\"\nlr = -0.1", "optimizer 'sgd' cannot have lr = -0.1: expected a number that is 0 or more"),
        ("name = \"sgd\"\nlr = nan", "optimizer 'sgd' cannot have lr = NaN: expected a number that is 0 or more"),
        (
            "name = \"sgd\"\nnesterov = true",
            "optimizer 'sgd' with nesterov = true needs a momentum above 0 and dampening = 0: found momentum = 0 and dampening = 0",
        ),
        (
            "name = \"sgd\"\nnesterov = true\nmomentum = 0.9\ndampening = 0.1",
            "optimizer 'sgd' with nesterov = true needs a momentum above 0 and dampening = 0: found momentum = 0.9 and dampening = 0.1",
        ),
        (
            "name = \"adam\"\nbetas = [0.9, 1.0]",
            "optimizer 'adam' cannot have betas[1] = 1: expected a number from 0 to 1, 1 excluded",
        ),
        (
            "name = \"adamw\"\neps = -1e-8",
            "optimizer 'adamw' cannot have eps = -0.00000001: expected a number that is 0 or more",
        ),
        (
            "name = \"rmsprop\"\nbetas = [0.9, 0.9]",
            "optimizer 'rmsprop' has no setting 'betas': it knows lr, momentum, alpha, eps, centered, weight_decay, maximize",
        ),
        (
            "name = \"adam\"\ngroups = [{ match = \"fc\", momentum = 0.9 }]",
            "optimizer group 'fc': optimizer 'adam' has no setting 'momentum': it knows lr, betas, eps, weight_decay, amsgrad, maximize",
        ),
        (
            "name = \"adam\"\ngroups = [{ match = \"fc(\" }]",
            "optimizer group 'fc(' is not a regular expression: unclosed group",
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), message);
    }
    assert!(read("name = \"sgd\"\nlearning_rate = 0.1").unwrap_err().starts_with("unknown field `learning_rate`"));
    assert!(
        read("name = \"sgd\"\ngroups = [{ match = \"fc\", rate = 1 }]")
            .unwrap_err()
            .starts_with("unknown field `rate`")
    );
    assert!(read("lr = 0.1").unwrap_err().starts_with("missing field `name`"));
}

#[test]
fn tables_survive_writing_and_reading() {
    for text in [
        "name = \"sgd\"\nlr = 0.5\nmomentum = 0.9\nnesterov = true",
        "name = \"adamw\"\nbetas = [0.8, 0.9]\namsgrad = true\ngroups = [{ match = \"^fc\", lr = 1e-4, weight_decay = 0.0 }, { match = \"b\" }]",
        "name = \"rmsprop\"\ncentered = true\nmaximize = true",
    ] {
        let config = read(text).unwrap();
        let written = toml::to_string(&config).unwrap();
        assert_eq!(read(&written).unwrap(), config, "{written}");
    }
}

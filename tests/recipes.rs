//! Recipes: what each mistake is told, those in the program, and that every key is documented.

use std::fs;
use std::path::Path;

use rekindle::models::Registry;
use rekindle::train::recipe::{self, EMBEDDED};
use serde_json::Value;

/// A recipe that is right; each test changes one line of it.
const RIGHT: &str = r#"name = "small"
model = { name = "fashion_classifier", classes = 10 }

[data]
name = "fashion-mnist-sample"
batch_size = 50

[optimizer]
name = "sgd"
lr = 1e-2

[train]
epochs = 2
freeze = ["^fc4"]

[checkpoint]
monitor = "valid.accuracy"
"#;

/// The message for the recipe with `old` replaced by `new`.
#[track_caller]
fn message(old: &str, new: &str) -> String {
    assert_eq!(RIGHT.matches(old).count(), 1, "'{old}' is not in the recipe once");
    recipe::parse(&Registry::built_in(), &RIGHT.replace(old, new), &[], "r.toml")
        .expect_err("the recipe should be refused")
        .to_string()
}

/// The message for the right recipe with overrides.
#[track_caller]
fn overridden(overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    recipe::parse(&Registry::built_in(), RIGHT, &overrides, "r.toml")
        .expect_err("the recipe should be refused")
        .to_string()
}

#[test]
fn a_right_recipe_is_read() {
    let recipe =
        recipe::parse(&Registry::built_in(), RIGHT, &["train.epochs=7".into(), "data.limit.train=30".into()], "r.toml")
            .unwrap();
    assert_eq!((recipe.train.epochs, recipe.data.batch_size), (7, 50));
    assert_eq!(recipe.data.limit.unwrap().train, Some(30));
}

#[test]
fn unknown_keys_name_the_line_and_the_nearest_key() {
    assert_eq!(message("epochs = 2", "epoch = 2"), "r.toml: line 13: unknown key 'epoch', did you mean 'epochs'?");
    assert_eq!(
        message("batch_size", "batchsize"),
        "r.toml: line 6: unknown key 'batchsize', did you mean 'batch_size'?"
    );
    assert_eq!(message("[train]", "[training]"), "r.toml: line 12: unknown key 'training', did you mean 'train'?");
    assert_eq!(message("lr = 1e-2", "lrr = 1e-2"), "r.toml: line 10: unknown key 'lrr', did you mean 'lr'?");
    assert_eq!(
        message("epochs = 2", "early_stopping = { patiens = 3 }"),
        "r.toml: line 13: unknown key 'patiens', did you mean 'patience'?"
    );
    assert_eq!(
        message("monitor", "zzz"),
        "r.toml: line 17: unknown key 'zzz', expected one of every_epochs, every_steps, every_minutes, keep_last, keep_all, top_k, max_total_size, \
         monitor, mode, weights_only, on_exception"
    );
}

#[test]
fn wrong_types_say_what_was_expected_in_words() {
    assert_eq!(
        message("epochs = 2", "epochs = \"2\""),
        "r.toml: line 13: train.epochs: expected a whole number, 0 or more, found the text \"2\""
    );
    assert_eq!(
        message("epochs = 2", "epochs = 2.5"),
        "r.toml: line 13: train.epochs: expected a whole number, 0 or more, found 2.5"
    );
    assert_eq!(
        message("epochs = 2", "epochs = -1"),
        "r.toml: line 13: train.epochs: expected a whole number, 0 or more, found -1"
    );
    assert_eq!(
        message("lr = 1e-2", "lr = \"x\""),
        "r.toml: line 10: optimizer.lr: expected a number, found the text \"x\""
    );
    assert_eq!(
        message("[\"^fc4\"]", "\"^fc4\""),
        "r.toml: line 14: train.freeze: expected a list in [ ], found the text \"^fc4\""
    );
    assert_eq!(
        message("batch_size = 50", "shuffle = 1"),
        "r.toml: line 6: data.shuffle: expected true or false, found 1"
    );
    assert_eq!(
        message("batch_size = 50", "limit = 5"),
        "r.toml: line 6: data.limit: expected a section of keys and values, found 5"
    );
    assert_eq!(
        message("batch_size = 50", "resize = \"big\""),
        "r.toml: line 6: data.resize: expected a size as 32, [32, 48] or { height = 32, width = 48 }, found the text \"big\""
    );
    assert_eq!(
        message("{ name = \"fashion_classifier\", classes = 10 }", "\"net\""),
        "r.toml: line 2: model: expected a section such as { name = \"net\" }, found the text \"net\""
    );
    assert_eq!(message("name = \"small\"", "name = 5"), "r.toml: line 1: name: expected text in quotes, found 5");
}

#[test]
fn missing_keys_name_their_section() {
    assert_eq!(message("name = \"small\"\n", ""), "r.toml: the key 'name' is missing");
    assert_eq!(message("model =", "# model ="), "r.toml: the key 'model' is missing");
    assert_eq!(message("name = \"fashion_classifier\", ", ""), "r.toml: line 2: model: the key 'name' is missing");
    assert_eq!(message("name = \"sgd\"\n", ""), "r.toml: line 8: optimizer: the key 'name' is missing");
    assert_eq!(
        message("lr = 1e-2", "groups = [{ lr = 1.0 }]"),
        "r.toml: line 10: optimizer.groups: the key 'match' is missing"
    );
    assert_eq!(
        message("epochs = 2", "early_stopping = {}"),
        "r.toml: line 13: train.early_stopping: the key 'patience' is missing"
    );
}

#[test]
fn what_is_no_toml_is_said_to_be_none() {
    assert_eq!(
        message("epochs = 2", "epochs ="),
        "r.toml: line 13: this is not valid TOML: string values must be quoted, expected literal string"
    );
    assert_eq!(message("[checkpoint]", "[train]"), "r.toml: line 16: this is not valid TOML: duplicate key");
}

#[test]
fn impossible_values_are_refused() {
    assert_eq!(message("epochs = 2", "epochs = 0"), "r.toml: line 13: train.epochs: must be at least 1, found 0");
    assert_eq!(
        message("batch_size = 50", "batch_size = 0"),
        "r.toml: line 6: data.batch_size: must be at least 1, found 0"
    );
    assert_eq!(
        message("lr = 1e-2", "lr = -1"),
        "r.toml: line 8: optimizer 'sgd' cannot have lr = -1: expected a number that is 0 or more"
    );
    assert_eq!(
        message("lr = 1e-2", "nesterov = true"),
        "r.toml: line 8: optimizer 'sgd' with nesterov = true needs a momentum above 0 and dampening = 0: \
         found momentum = 0 and dampening = 0"
    );
    assert_eq!(
        message("lr = 1e-2", "betas = [0.9, 0.99]"),
        "r.toml: line 8: optimizer 'sgd' has no setting 'betas': it knows lr, momentum, dampening, weight_decay, nesterov, maximize"
    );
    assert_eq!(
        message("\"^fc4\"", "\"(\""),
        "r.toml: line 14: train.freeze: '(' is not a regular expression: unclosed group"
    );
    assert_eq!(
        message("lr = 1e-2", "groups = [{ match = \"(\" }]"),
        "r.toml: line 8: optimizer group '(' is not a regular expression: unclosed group"
    );
    assert_eq!(
        message("epochs = 2", "clip_grad_norm = 0"),
        "r.toml: line 13: train.clip_grad_norm: must be positive, found 0"
    );
    assert_eq!(
        message("epochs = 2", "clip_grad_value = -1.5"),
        "r.toml: line 13: train.clip_grad_value: must be positive, found -1.5"
    );
    assert_eq!(
        message("epochs = 2", "clip_grad_value = 1.0\nclip_grad_norm = 1.0"),
        "r.toml: line 13: train.clip_grad_value: cannot be used together with clip_grad_norm"
    );
    assert_eq!(
        message("epochs = 2", "early_stopping = { patience = 0 }"),
        "r.toml: line 13: train.early_stopping.patience: must be at least 1, found 0"
    );
    assert_eq!(
        message("[checkpoint]", "[checkpoint]\nevery_steps = 0"),
        "r.toml: line 17: checkpoint.every_steps: must be at least 1, found 0"
    );
    assert_eq!(
        message("[checkpoint]", "[checkpoint]\nkeep_last = 0"),
        "r.toml: line 17: checkpoint.keep_last: must be at least 1: the newest checkpoint is always kept"
    );
    assert_eq!(
        message("[checkpoint]", "[checkpoint]\nevery_minutes = 0"),
        "r.toml: line 17: checkpoint.every_minutes: must be positive, found 0"
    );
    let size = "r.toml: line 17: checkpoint.max_total_size: expected a size as \"2GiB\", \"500MB\" or a number of bytes, found ";
    for (text, found) in [("\"much\"", "the text \"much\""), ("0", "0"), ("-5", "-5"), ("true", "true")] {
        assert_eq!(
            message("[checkpoint]", &format!("[checkpoint]\nmax_total_size = {text}")),
            format!("{size}{found}")
        );
    }
    assert_eq!(message("\"small\"", "\"a/b\""), "r.toml: line 1: name: 'a/b' cannot name a folder");
}

#[test]
fn unknown_names_list_those_that_exist() {
    assert_eq!(
        message("\"sgd\"", "\"lion\""),
        "r.toml: line 8: unknown optimizer 'lion': expected one of sgd, adam, adamw, rmsprop, adagrad, adamax, radam, nadam, adadelta"
    );
    assert_eq!(
        message("epochs = 2", "loss = \"huber\""),
        "r.toml: line 13: unknown loss 'huber': expected one of cross-entropy, nll, mse, l1, smooth-l1"
    );
    assert_eq!(
        message("[train]", "[scheduler]\nname = \"poly\"\n[train]"),
        "r.toml: line 12: unknown scheduler 'poly': expected one of constant, step, multi_step, exponential, cosine, linear, polynomial, warm_restarts, one_cycle, plateau"
    );
    assert_eq!(
        message("\"fashion-mnist-sample\"", "\"imagenet\""),
        "r.toml: line 5: data.name: unknown value 'imagenet', expected one of mnist, fashion-mnist, fashion-mnist-sample, cifar-10, folder, \
         segmentation-folder, super-resolution"
    );
    assert_eq!(
        message("\"valid.accuracy\"", "\"valid.accurracy\""),
        "r.toml: line 17: checkpoint.monitor: unknown metric 'valid.accurracy', did you mean 'valid.accuracy'?"
    );
    assert_eq!(
        message("\"valid.accuracy\"", "\"valid.psnr\""),
        "r.toml: line 17: checkpoint.monitor: a model that gives classes has no psnr: use valid.loss or valid.accuracy"
    );
    assert_eq!(
        message("\"fashion_classifier\"", "\"fashion_clasifier\""),
        "r.toml: line 2: unknown model 'fashion_clasifier', did you mean 'fashion_classifier'?; `rekindle models` lists them"
    );
}

#[test]
fn keys_of_a_model_are_checked() {
    assert_eq!(
        message("classes", "clases"),
        "r.toml: line 2: model 'fashion_classifier': unknown key 'clases', did you mean 'classes'?; its keys are inputs, hidden, classes, dropout"
    );
    assert_eq!(
        message("classes = 10", "classes = \"ten\""),
        "r.toml: line 2: model 'fashion_classifier': key 'classes': expected a whole number, 0 or more, found the text \"ten\""
    );
    assert_eq!(
        message("classes = 10", "classes = 0"),
        "r.toml: line 2: model 'fashion_classifier': key 'classes': must be at least 1, found 0"
    );
    assert_eq!(
        message("classes = 10", "dropout = 1.5"),
        "r.toml: line 2: model 'fashion_classifier': key 'dropout': must be at least 0 and less than 1, found 1.5"
    );
}

#[test]
fn overrides_name_the_flag() {
    assert_eq!(overridden(&["train.epochs"]), "--set train.epochs: expected key=value, such as train.epochs=3");
    assert_eq!(overridden(&["=3"]), "--set =3: the key is empty");
    assert_eq!(overridden(&["name.x=3"]), "--set name.x=3: 'name' is not a section");
    assert_eq!(overridden(&["train.epoch=3"]), "--set train.epoch=3: unknown key 'epoch', did you mean 'epochs'?");
    assert_eq!(
        overridden(&["train.seed=1", "train.epochs=three"]),
        "--set train.epochs=three: expected a whole number, 0 or more, found the text \"three\""
    );
    assert_eq!(overridden(&["train.epochs=0"]), "--set train.epochs=0: train.epochs: must be at least 1, found 0");
    assert_eq!(
        overridden(&["optimizer.lr=-1"]),
        "--set optimizer.lr=-1: optimizer 'sgd' cannot have lr = -1: expected a number that is 0 or more"
    );
    assert_eq!(
        overridden(&["model.clases=5"]),
        "--set model.clases=5: model 'fashion_classifier': unknown key 'clases', did you mean 'classes'?; \
         its keys are inputs, hidden, classes, dropout"
    );
}

#[test]
fn a_recipe_that_is_nowhere_is_told_where_recipes_are() {
    let error = recipe::load(&Registry::built_in(), Path::new("nowhere.toml"), &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "nowhere.toml: cannot read the recipe: no such file; `rekindle train NAME` takes a file or one of \
         fashion_mnist_sample, fashion_mnist, the_model_class, net, cifar_cnn, cifar_cnn_guide, super_resolution, \
         resnet18, mobilenet_v3_small, efficientnet_b0, convnext_atto, vit_tiny, swin_tiny"
    );
}

#[test]
fn every_recipe_in_the_folder_is_in_the_program_and_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let text = fs::read_to_string(&path).unwrap();
        recipe::parse(&Registry::built_in(), &text, &[], &name).unwrap();
        let embedded = EMBEDDED.iter().find(|(known, _)| *known == name);
        assert_eq!(
            embedded.map(|(_, text)| *text),
            Some(text.as_str()),
            "{name} is not in the program as it is in the folder"
        );
        names.push(name);
    }
    assert_eq!(names.len(), EMBEDDED.len());
}

/// A recipe that uses every key of every section.
const EVERYTHING: &str = r#"
name = "everything"
model = { name = "net" }
[data]
name = "super-resolution"
dir = "pictures"
batch_size = 1
workers = 1
shuffle = true
drop_last = true
grayscale = true
channels = 1
resize = 142
center_crop = { height = 142, width = 142 }
augment = [{ random_crop = { size = 32, padding = 4 } }, { random_horizontal_flip = { p = 0.5 } }]
normalize = { mean = [0.5], std = [0.5] }
source = "folder"
upscale_factor = 3
crop = 9
limit = { train = 1, test = 1 }
[optimizer]
name = "adam"
lr = 1e-3
betas = [0.9, 0.999]
groups = [{ match = "^fc", lr = 1e-4 }]
[scheduler]
name = "step"
step_size = 1
per = "step"
warmup = 2
warmup_start_factor = 0.5
[train]
epochs = 1
seed = 1
loss = "nll"
clip_grad_norm = 1.0
freeze = ["^conv"]
init = { weights = "a.pth", partial = true }
early_stopping = { monitor = "valid.loss", mode = "min", patience = 1, min_delta = 0.1 }
[checkpoint]
every_epochs = 1
every_steps = 1
every_minutes = 2.5
keep_last = 1
keep_all = true
top_k = 1
monitor = "valid.loss"
mode = "min"
max_total_size = "2GiB"
weights_only = true
on_exception = false
"#;

#[test]
fn every_key_is_documented() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    keys(&serde_json::json!(recipe::parse(&Registry::built_in(), EVERYTHING, &[], "everything").unwrap()), &mut found);
    // The other optimizers and curves, and the keys that exclude each other.
    for (old, new) in [
        ("name = \"adam\"\nlr = 1e-3\nbetas = [0.9, 0.999]", "name = \"sgd\""),
        ("name = \"adam\"\nlr = 1e-3\nbetas = [0.9, 0.999]", "name = \"rmsprop\""),
        ("name = \"step\"\nstep_size = 1", "name = \"exponential\"\ngamma = 0.9"),
        ("name = \"step\"\nstep_size = 1", "name = \"cosine\"\nt_max = 3"),
        ("name = \"step\"\nstep_size = 1", "name = \"linear\""),
        ("name = \"step\"\nstep_size = 1", "name = \"multi_step\"\nmilestones = [1]"),
        (
            "name = \"step\"\nstep_size = 1\nper = \"step\"\nwarmup = 2\nwarmup_start_factor = 0.5",
            "name = \"one_cycle\"\nmax_lr = 0.1",
        ),
        (
            "name = \"step\"\nstep_size = 1\nper = \"step\"\nwarmup = 2\nwarmup_start_factor = 0.5",
            "name = \"plateau\"\nmonitor = \"valid.loss\"",
        ),
        ("clip_grad_norm", "clip_grad_value"),
    ] {
        assert!(EVERYTHING.contains(old), "{old}");
        keys(
            &serde_json::json!(
                recipe::parse(&Registry::built_in(), &EVERYTHING.replace(old, new), &[], "everything").unwrap()
            ),
            &mut found,
        );
    }
    // A recipe from the program tells the places of a size too.
    found.extend(["height", "width"].map(str::to_string));
    for entry in Registry::built_in().entries() {
        keys(&entry.standard().unwrap().config(), &mut found);
        found.push(entry.name.to_string());
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/README.md")).unwrap();
    found.sort();
    found.dedup();
    let missing: Vec<&String> = found.iter().filter(|key| !readme.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not in models/README.md: {missing:?}");
    assert!(found.len() > 60, "only {} keys were found", found.len());
}

#[test]
fn every_section_of_the_documentation_is_a_recipe_that_parses() {
    // The documentation's own examples are fenced as toml; each stands for a whole recipe.
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        if let Err(error) = recipe::parse(&Registry::built_in(), block, &[], "models/README.md") {
            panic!("{error}\n{block}");
        }
    }
}

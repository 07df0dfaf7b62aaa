//! TorchScript archives: the current layout (`data.pkl` beside `code/`) and the one before 1.4 (`model.json` and `tensors/`).

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::archive::{read_record, root_folder};
use super::exported::is_exported;
use super::module::ModuleTree;
use super::zip::Zip;
use super::{Globals, content};
use crate::format::{Format, Opened, Probe};
use crate::walk::name_storages;
use crate::{Content, DType, Error, Global, Key, Object, Result, StateDict, Tensor, Value, View};

/// A TorchScript archive.
#[derive(Debug)]
pub struct TorchScript;

impl Format for TorchScript {
    fn name(&self) -> &'static str {
        "torchscript"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.zip().is_some_and(|zip| is_script(zip) && !is_exported(zip))
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        let Some(zip) = file.zip() else { return Err(Error::damaged("the zip archive is broken")) };
        let (content, script) = read_script(zip)?;
        Ok(Opened { script, ..Opened::from(content) })
    }
}

/// Whether an archive is TorchScript's, in either layout.
pub(super) fn is_script(zip: &Zip) -> bool {
    let has =
        |end: &str| zip.entries().iter().any(|entry| entry.name == end || entry.name.ends_with(&format!("/{end}")));
    has("constants.pkl") && has("data.pkl") || has("model.json")
}

/// Reads a TorchScript archive: the tensors under their `state_dict` names, and the class tree.
fn read_script(zip: &Zip) -> Result<(Content, Option<ModuleTree>)> {
    if let Some(entry) =
        zip.entries().iter().find(|entry| entry.name == "model.json" || entry.name.ends_with("/model.json"))
    {
        let root = entry.name.trim_end_matches("model.json").to_string();
        return Ok((content(Value::Dict(read_model_json(zip, &root)?), Globals::default()), None));
    }
    let root = root_folder(zip)?;
    let mut globals = Globals::default();
    let value = read_record(zip, &root, "data.pkl", "data/", &mut globals)?;
    let Value::Object(object) = &value else { return Ok((content(value, globals), None)) };
    let mut code = Code { zip, root: &root, classes: HashMap::new() };
    let mut dict = StateDict::ordered();
    collect(object, "", &mut code, &mut dict);
    if dict.is_empty() {
        // `torch.jit.freeze` makes constants of the weights and keeps none of their names.
        constants(zip, &root, &mut globals, &mut dict)?;
        loose(&value, "", &mut dict);
    }
    let tree = tree(object, String::new());
    Ok((content(Value::Dict(dict), globals), Some(tree)))
}

/// The tensors of `constants.pkl`, under the names by which the code calls them.
fn constants(zip: &Zip, root: &str, globals: &mut Globals, dict: &mut StateDict) -> Result<()> {
    if !zip.contains(&format!("{root}constants.pkl")) {
        return Ok(());
    }
    let constants = read_record(zip, root, "constants.pkl", "constants/", globals)?;
    for (place, mut value) in constants.as_slice().unwrap_or_default().iter().cloned().enumerate() {
        if let Value::Tensor(_) = value {
            name_storages(&mut value, "constants");
            dict.insert(format!("CONSTANTS.c{place}"), value);
        }
    }
    Ok(())
}

/// What the source text of each class says of its tensors; the text is searched, never run.
struct Code<'z> {
    zip: &'z Zip,
    root: &'z str,
    classes: HashMap<Global, Option<HashSet<String>>>,
}

impl Code<'_> {
    /// Names of a class's parameters and buffers; none if the text does not say.
    fn tensors(&mut self, class: &Global) -> Option<&HashSet<String>> {
        if !self.classes.contains_key(class) {
            let found = self.search(class);
            self.classes.insert(class.clone(), found);
        }
        self.classes.get(class)?.as_ref()
    }

    fn search(&self, class: &Global) -> Option<HashSet<String>> {
        let bytes = self.zip.read(&format!("{}code/{}.py", self.root, class.module.replace('.', "/"))).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let start = text.find(&format!("class {}(Module):", class.name))?;
        let mut names = HashSet::new();
        let mut lists = 0;
        for line in text[start..].lines().skip(1).take(8) {
            let line = line.trim();
            let Some(list) = line.strip_prefix("__parameters__ = [").or_else(|| line.strip_prefix("__buffers__ = ["))
            else {
                continue;
            };
            lists += 1;
            names.extend(list.split('"').skip(1).step_by(2).map(str::to_string));
        }
        (lists == 2).then_some(names)
    }
}

/// The attributes of a scripted object, or its state when that is of another form.
fn state(object: &Object) -> Option<&StateDict> {
    object.state.as_dict()
}

fn collect(object: &Object, prefix: &str, code: &mut Code<'_>, dict: &mut StateDict) {
    let Some(attributes) = state(object) else {
        // A class with a state of its own, such as packed weights.
        loose(&object.state, prefix, dict);
        return;
    };
    let known = code.tensors(&object.class).cloned();
    for (key, value) in attributes.iter() {
        let name = key.text();
        if let Value::Tensor(tensor) = value
            && known.as_ref().is_none_or(|known| known.contains(name.as_ref()))
        {
            dict.insert(format!("{prefix}{name}"), tensor.clone());
        }
    }
    for (key, value) in attributes.iter() {
        if let Value::Object(child) = value {
            collect(child, &format!("{prefix}{}.", key.text()), code, dict);
        }
    }
}

/// Tensors of a state that is no dictionary of attributes, by position.
fn loose(value: &Value, prefix: &str, dict: &mut StateDict) {
    match value {
        Value::Tensor(tensor) => {
            dict.insert(prefix.trim_end_matches('.').to_string(), tensor.clone());
        }
        Value::Tuple(items) | Value::List(items) => {
            for (place, item) in items.iter().enumerate() {
                loose(item, &format!("{prefix}{place}."), dict);
            }
        }
        Value::Dict(entries) => {
            for (key, item) in entries.iter() {
                loose(item, &format!("{prefix}{}.", key.text()), dict);
            }
        }
        Value::Object(object) => loose(&object.state, prefix, dict),
        _ => {}
    }
}

fn tree(object: &Object, name: String) -> ModuleTree {
    let attributes = || state(object).into_iter().flat_map(StateDict::iter);
    let hyper_parameters = attributes()
        .filter(|(key, value)| {
            let internal = key.text().starts_with('_') || key.text() == "training";
            !internal && matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_))
        })
        .map(|(key, value)| (key.text().into_owned(), value.clone()))
        .collect();
    let children = attributes()
        .filter_map(|(key, value)| match (key, value) {
            (Key::Str(name), Value::Object(child)) => Some(tree(child, name.clone())),
            _ => None,
        })
        .collect();
    ModuleTree { class: object.class.clone(), name, hyper_parameters, children }
}

/// `model.json`: protobuf's JSON form of a model definition, in which numbers of 64 bits are text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    main_module: Module,
    #[serde(default)]
    tensors: Vec<TensorDef>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    name: String,
    #[serde(default)]
    parameters: Vec<Parameter>,
    #[serde(default)]
    submodules: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    #[serde(default)]
    name: String,
    #[serde(default)]
    tensor_id: Number,
    #[serde(default)]
    is_buffer: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TensorDef {
    #[serde(default)]
    dims: Vec<Number>,
    #[serde(default)]
    offset: Number,
    #[serde(default)]
    strides: Vec<Number>,
    #[serde(default)]
    requires_grad: bool,
    #[serde(default)]
    data_type: String,
    data: Record,
}

#[derive(Deserialize)]
struct Record {
    key: String,
}

/// A number, written as one or as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Int(u64),
    Text(String),
}

impl Default for Number {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl Number {
    fn get(&self) -> Result<u64> {
        match self {
            Self::Int(int) => Ok(*int),
            Self::Text(text) => {
                text.parse().map_err(|_| Error::damaged(format!("model.json: '{}' is no number", text.escape_debug())))
            }
        }
    }
}

fn read_model_json(zip: &Zip, root: &str) -> Result<StateDict> {
    let bytes = zip.read(&format!("{root}model.json"))?;
    let model: Model =
        serde_json::from_slice(&bytes).map_err(|error| Error::damaged(format!("model.json is broken: {error}")))?;
    let mut storages = HashMap::new();
    let mut tensors = Vec::new();
    for (number, def) in model.tensors.iter().enumerate() {
        let key = &def.data.key;
        let storage = match storages.get(key) {
            Some(storage) => storage,
            None => {
                let short = key.rsplit('/').next().unwrap_or_default();
                let (storage, _) = zip.storage(&format!("{root}{key}"), short)?;
                storages.entry(key).or_insert(storage)
            }
        };
        let numbers = |numbers: &[Number]| numbers.iter().map(Number::get).collect::<Result<Vec<_>>>();
        let dtype = data_type(&def.data_type)?;
        let view = View {
            storage: storage.clone(),
            offset: def.offset.get()?,
            strides: numbers(&def.strides)?,
            conjugate: false,
            negative: false,
        };
        let tensor = Tensor::strided(dtype, &numbers(&def.dims)?, view);
        let mut tensor = tensor.map_err(|error| error.within(format_args!("tensor {number} of model.json")))?;
        tensor.requires_grad = def.requires_grad;
        tensors.push(tensor);
    }
    let mut dict = StateDict::ordered();
    collect_json(&model.main_module, "", &tensors, &mut dict)?;
    Ok(dict)
}

fn collect_json(module: &Module, prefix: &str, tensors: &[Tensor], dict: &mut StateDict) -> Result<()> {
    for parameter in &module.parameters {
        let id = parameter.tensor_id.get()?;
        let tensor = usize::try_from(id).ok().and_then(|id| tensors.get(id));
        let Some(tensor) = tensor else {
            return Err(Error::damaged(format!("'{prefix}{}' is tensor {id} of {}", parameter.name, tensors.len())));
        };
        let mut tensor = tensor.clone();
        tensor.parameter = !parameter.is_buffer;
        dict.insert(format!("{prefix}{}", parameter.name), tensor);
    }
    for child in &module.submodules {
        collect_json(child, &format!("{prefix}{}.", child.name), tensors, dict)?;
    }
    Ok(())
}

/// Caffe2's names of element types.
fn data_type(name: &str) -> Result<DType> {
    Ok(match name {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "INT64" => DType::I64,
        "INT32" => DType::I32,
        "INT16" => DType::I16,
        "INT8" => DType::I8,
        "UINT8" | "BYTE" => DType::U8,
        "UINT16" => DType::U16,
        "BOOL" => DType::Bool,
        other => return Err(Error::unsupported(format!("model.json names the unknown element type '{other}'"))),
    })
}

//! TorchScript archives: a pickle of modules, and text of a small language that is evaluated to a graph.

mod arithmetic;
mod branch;
mod builtin;
mod call;
mod code;
mod container;
mod eval;
mod host;
mod lexer;
mod names;
mod parser;
mod quantized;
mod summary;
mod syntax;
mod value;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::IndexMap;
use rekindle_onnx::{Axis, DType};
use rekindle_state::{ProgramArchive, StateDict, Value as Stored};

use crate::lower::{Float, Lower, Mode, Probe, TensorId, Value};
use crate::program::{Buffer, Example, Given, Input, Lowered, Output, Parameter};
use crate::{Error, Result};
use code::Code;
use eval::Eval;
pub(crate) use value::Item;
use value::Object;

/// How deep modules may be nested.
const MAX_DEPTH: usize = 64;

/// A TorchScript program.
#[derive(Debug)]
pub(crate) struct Script {
    pub path: PathBuf,
    code: Code,
    root: Stored,
    constants: Vec<Stored>,
    /// Types and sizes of the inputs that it was traced with.
    traced: Option<Vec<Example>>,
}

impl Script {
    /// Reads an archive.
    pub fn open(path: &Path, archive: &ProgramArchive) -> Result<Self> {
        if archive.names().any(|name| name.ends_with("model.json"))
            && !archive.names().any(|name| name.ends_with("data.pkl"))
        {
            return Err(Error::beyond("TorchScript of PyTorch before 1.4"));
        }
        let root = archive.root()?;
        let place = format!("{root}code/");
        let mut files = HashMap::new();
        let names: Vec<String> = archive.names().filter(|name| name.starts_with(&place)).map(str::to_string).collect();
        for name in names.iter().filter(|name| name.ends_with(".py")) {
            let text = String::from_utf8(archive.read(name)?.into_owned())
                .map_err(|_| Error::invalid(format!("'{name}' is no UTF-8 text")))?;
            files.insert(name[place.len()..].to_string(), text);
        }
        let constants = match archive.pickle("constants.pkl", "constants/")? {
            Stored::Tuple(values) | Stored::List(values) => values,
            Stored::None => Vec::new(),
            other => vec![other],
        };
        let traced = if archive.names().any(|name| name == format!("{root}traced_inputs.pkl")) {
            examples(&archive.outlines("traced_inputs.pkl")?)
        } else {
            None
        };
        let root = archive.pickle("data.pkl", "data/")?;
        Ok(Self { path: path.to_path_buf(), code: Code::new(files), root, constants, traced })
    }

    /// Whether it was traced, with inputs that it says.
    pub fn says_inputs(&self) -> bool {
        self.traced.is_some()
    }

    /// Lowers the program for inputs of these types and sizes; without, for those that it was traced with.
    pub fn lower(&self, mode: Mode, state: bool, examples: Option<&[Example]>) -> Result<Lowered> {
        let examples = examples.or(self.traced.as_deref()).ok_or_else(|| {
            Error::invalid(
                "a scripted program does not say what it takes: give it inputs (`rekindle run --input` or `--reference`), \
                 whose types and sizes it is read for",
            )
        })?;
        // Two examples that differ in their first sizes tell which sizes follow the batch.
        match self.attempt(mode, state, examples, true) {
            Ok(lowered) => Ok(lowered),
            Err(first) => match self.attempt(mode, state, examples, false) {
                Ok(lowered) => Ok(lowered),
                // What fails either way says more of the program than of its batch.
                Err(second) => Err(if matches!(first, Error::Missing(_)) { first } else { second }),
            },
        }
    }

    fn attempt(&self, mode: Mode, state: bool, examples: &[Example], open: bool) -> Result<Lowered> {
        let stem = self.path.file_stem().map_or("program".into(), |stem| stem.to_string_lossy().into_owned());
        let mut l = Lower::new(&stem, 2, mode);
        let (parameters, buffers, states) = (Vec::new(), Vec::new(), Vec::new());
        let mut tree = Tree { l: &mut l, mode, parameters, buffers, states, code: &self.code };
        let Stored::Object(object) = &self.root else { return Err(Error::invalid("data.pkl holds no module")) };
        let root = tree.object(object, "", 0)?;
        let (parameters, buffers, states) = (tree.parameters, tree.buffers, tree.states);
        let mut constants = Vec::new();
        for (at, constant) in self.constants.iter().enumerate() {
            constants.push(match constant {
                Stored::Tensor(tensor) => {
                    let id = l.constant_weight(&format!("CONSTANTS.c{at}"), tensor)?;
                    // A number of Python in a trace is such a tensor, and libtorch takes it for a number again.
                    if l.rank(id) == 0 && matches!(l.dtype(id), DType::F64 | DType::I64) {
                        l.count_as_number(id);
                    }
                    Item::Plain(Value::Tensor(id))
                }
                other => plain(other)?,
            });
        }
        let class = self.code.class(&root.class)?;
        let forward = class.methods.iter().find(|method| method.name == "forward");
        let forward = forward.ok_or_else(|| Error::invalid("the module has no method 'forward'"))?;
        let mut inputs = Vec::new();
        let mut arguments = Vec::new();
        for (at, example) in examples.iter().enumerate() {
            let name = forward.parameters.get(at + 1).map_or_else(|| format!("in{at}"), |(name, _)| name.clone());
            let name = if l.builder.is_defined(&name) { format!("{name}.input") } else { name };
            let mut other = example.shape.clone();
            let mut axes: Vec<Axis> = example.shape.iter().map(|&size| Axis::Size(size)).collect();
            if let (true, Some(first)) = (open, other.first_mut()) {
                *first += 1;
                // Inputs of as many items as the first one are of one batch.
                let one = examples.first().is_some_and(|own| own.shape.first() == example.shape.first());
                axes[0] = if one { Axis::Named("batch".to_string()) } else { Axis::Any };
            }
            let probes = [example.shape.clone(), other].map(|shape| Probe { shape, data: None }).to_vec();
            let id = l.input(&name, example.dtype, &axes, probes)?;
            inputs.push(Input { name, given: Given::Tensor });
            arguments.push(Item::Plain(Value::Tensor(id)));
        }
        let mut eval = Eval::new(l, &self.code, constants);
        for (object, state) in states {
            eval.method(&object, "__setstate__", vec![state])?;
        }
        let result = eval.method(&root, "forward", arguments)?;
        let mut flat = Vec::new();
        flatten(&result, &mut flat, 0)?;
        let mut l = eval.l;
        let count = flat.iter().filter(|item| matches!(item, Item::Plain(Value::Tensor(_)))).count();
        let mut outputs = Vec::new();
        let mut at = 0;
        for item in flat {
            let Item::Plain(Value::Tensor(id)) = item else {
                let given = if item.is_none() { Given::Nothing } else { Given::Other };
                outputs.push(Output { name: String::new(), given });
                continue;
            };
            let value = l.value(id)?;
            let mut name = if count == 1 { "output".to_string() } else { format!("output_{at}") };
            at += 1;
            while l.builder.is_defined(&name) {
                name.push('_');
            }
            let named = l.builder.named(&value, &name)?;
            let axes = axes(&l, id);
            l.builder.output(&named, Some(l.dtype(id)), Some(&axes))?;
            outputs.push(Output { name, given: Given::Tensor });
        }
        let mut kept = Vec::new();
        for (mut buffer, tensor) in buffers {
            if state && l.state(tensor).version > 0 {
                let value = l.value(tensor)?;
                let name = format!("state:{}", buffer.name);
                let named = l.builder.named(&value, &name)?;
                let axes = axes(&l, tensor);
                l.builder.output(&named, Some(l.dtype(tensor)), Some(&axes))?;
                buffer.output = Some(name);
            }
            kept.push(buffer);
        }
        l.builder.metadata("rekindle.source", "torchscript");
        Ok(Lowered { proto: l.builder.finish("rekindle"), inputs, outputs, parameters, buffers: kept })
    }
}

fn axes(l: &Lower, id: TensorId) -> Vec<Axis> {
    l.state(id).shape.iter().map(|dim| dim.size().map_or(Axis::Any, Axis::Size)).collect()
}

/// Tensors of a result, in the order in which its tree is flattened.
fn flatten(item: &Item, flat: &mut Vec<Item>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("the result is nested too deep"));
    }
    match item {
        Item::List(_) | Item::Tuple(..) => {
            for item in item.elements()? {
                flatten(&item, flat, depth + 1)?;
            }
        }
        Item::Dict(entries) => {
            for (_, item) in entries.borrow().iter() {
                flatten(item, flat, depth + 1)?;
            }
        }
        other => flat.push(other.clone()),
    }
    Ok(())
}

/// Types and sizes of `{"forward": [tensor, …]}`; nothing if an input is no tensor.
fn examples(value: &Stored) -> Option<Vec<Example>> {
    let Some(Stored::List(inputs) | Stored::Tuple(inputs)) = value.as_dict()?.get("forward") else { return None };
    let mut all = Vec::new();
    for input in inputs {
        let Stored::Tensor(tensor) = input else { return None };
        let dtype = DType::from_name(tensor.dtype().name())?;
        all.push(Example { dtype, shape: tensor.shape().iter().map(|&axis| axis as usize).collect() });
    }
    Some(all)
}

/// A value of a pickle that holds no module.
fn plain(value: &Stored) -> Result<Item> {
    Ok(match value {
        Stored::None => Item::none(),
        Stored::Bool(bool) => Item::bool(*bool),
        Stored::Int(int) => Item::int(*int),
        Stored::Float(float) => Item::Plain(Value::Float(Float::Known(*float))),
        Stored::Str(text) => Item::text(text.clone()),
        Stored::List(values) => Item::list(values.iter().map(plain).collect::<Result<_>>()?),
        Stored::Tuple(values) => Item::tuple(values.iter().map(plain).collect::<Result<_>>()?),
        Stored::Device(_) => Item::Plain(Value::Other),
        Stored::Dict(entries) => {
            let mut all = Vec::new();
            for (key, value) in entries.iter() {
                let key = match key {
                    rekindle_state::Key::Int(int) => Item::int(*int),
                    other => Item::text(other.text().into_owned()),
                };
                all.push((key, plain(value)?));
            }
            Item::Dict(Rc::new(RefCell::new(all)))
        }
        other => return Err(Error::beyond(format!("a constant of type {}", other.type_name()))),
    })
}

/// Reads the tree of modules.
struct Tree<'t> {
    l: &'t mut Lower,
    mode: Mode,
    parameters: Vec<Parameter>,
    buffers: Vec<(Buffer, TensorId)>,
    /// Objects that make themselves from a state of their own, inner ones first, and those states.
    states: Vec<(Rc<Object>, Item)>,
    code: &'t Code,
}

impl Tree<'_> {
    fn object(&mut self, object: &rekindle_state::Object, path: &str, depth: usize) -> Result<Rc<Object>> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("modules are nested more than {MAX_DEPTH} deep")));
        }
        let class = format!("{}.{}", object.class.module, object.class.name);
        let own_state = !matches!(object.state, Stored::Dict(_) | Stored::None);
        if own_state
            && self.code.class(&class).is_ok_and(|class| class.methods.iter().any(|own| own.name == "__setstate__"))
        {
            let state = self.state(&object.state, path, depth)?;
            let own = Object { class, path: path.to_string(), attributes: RefCell::default() };
            let own = Rc::new(own);
            self.states.push((own.clone(), state));
            return Ok(own);
        }
        let empty = StateDict::new();
        let state = match &object.state {
            Stored::Dict(state) => state,
            Stored::None => &empty,
            other => {
                return Err(Error::beyond(format!(
                    "'{path}' of class {class}, whose state is of type {} (packed weights, for example),",
                    other.type_name()
                )));
            }
        };
        let (parameters, buffers) = self.lists(&class);
        let mut attributes = IndexMap::new();
        for (key, value) in state.iter() {
            let name = key.text().into_owned();
            let own = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let item = match value {
                Stored::Tensor(tensor) if tensor.dtype().is_complex() => {
                    Item::Plain(self.l.complex_weight(&own, tensor)?)
                }
                Stored::Tensor(tensor) if matches!(tensor.data(), rekindle_state::Data::Quantized { .. }) => {
                    Item::Plain(Value::Tensor(quantized::weight(self.l, &own, tensor)?))
                }
                Stored::Tensor(tensor) => {
                    let id = self.l.weight(&own, tensor)?;
                    if parameters.contains(&name) {
                        let stored = self.l.state(id).value_name().to_string();
                        self.parameters.push(Parameter { name: own, stored, tensor: tensor.clone() });
                    } else {
                        // Scales and counters.
                        if tensor.numel() == 1 {
                            self.l.follow(id, tensor);
                        }
                        let persistent = buffers.contains(&name);
                        let tensor = tensor.clone();
                        self.buffers.push((Buffer { name: own, persistent, tensor, output: None }, id));
                    }
                    Item::Plain(Value::Tensor(id))
                }
                Stored::Object(child)
                    if quantized::is_packed(&format!("{}.{}", child.class.module, child.class.name)) =>
                {
                    Item::Packed(Rc::new(quantized::packed(self.l, child, &own)?))
                }
                Stored::Object(child) => Item::Object(self.object(child, &own, depth + 1)?),
                Stored::Bool(training) if name == "training" => Item::bool(match self.mode {
                    Mode::AsExported => *training,
                    Mode::Eval => false,
                    Mode::Train | Mode::TrainFrozenStatistics => true,
                }),
                Stored::List(values) if values.iter().any(|value| matches!(value, Stored::Tensor(_))) => {
                    let mut all = Vec::new();
                    for (at, value) in values.iter().enumerate() {
                        let Stored::Tensor(tensor) = value else {
                            return Err(Error::beyond(format!("the list '{own}' of tensors and other things")));
                        };
                        all.push(Item::Plain(Value::Tensor(self.l.weight(&format!("{own}.{at}"), tensor)?)));
                    }
                    Item::list(all)
                }
                other => plain(other)
                    .map_err(|_| Error::beyond(format!("the attribute '{own}' of type {}", other.type_name())))?,
            };
            attributes.insert(name, item);
        }
        Ok(Rc::new(Object { class, path: path.to_string(), attributes: RefCell::new(attributes) }))
    }

    /// A state that is no dictionary of attributes.
    fn state(&mut self, value: &Stored, path: &str, depth: usize) -> Result<Item> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("modules are nested more than {MAX_DEPTH} deep")));
        }
        let mut all = |values: &[Stored]| -> Result<Vec<Item>> {
            let values = values.iter().enumerate();
            values.map(|(at, value)| self.state(value, &format!("{path}.{at}"), depth + 1)).collect()
        };
        Ok(match value {
            Stored::Tuple(values) => Item::tuple(all(values)?),
            Stored::List(values) => Item::list(all(values)?),
            Stored::Tensor(tensor) => Item::Plain(Value::Tensor(quantized::weight(self.l, path, tensor)?)),
            Stored::Object(child) => Item::Object(self.object(child, path, depth + 1)?),
            other => plain(other)?,
        })
    }

    /// Names of the parameters and buffers of a class, as its text lists them.
    fn lists(&self, class: &str) -> (Vec<String>, Vec<String>) {
        let Ok(class) = self.code.class(class) else { return (Vec::new(), Vec::new()) };
        let names = |field: &str| {
            let value = class.fields.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.as_ref());
            let Some(syntax::Expr::List(all)) = value else { return Vec::new() };
            let texts = all
                .iter()
                .filter_map(|expr| if let syntax::Expr::Str(text) = expr { Some(text.clone()) } else { None });
            texts.collect()
        };
        (names("__parameters__"), names("__buffers__"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::Int;

    /// A number that is known.
    fn known(item: &Item) -> Option<i64> {
        match item.as_int()? {
            Int::Known(int) => Some(int),
            Int::Open(_) => None,
        }
    }

    fn run(text: &str) -> Result<Item> {
        let code = Code::new(HashMap::from([("__torch__.py".to_string(), text.to_string())]));
        let root = Object { class: "__torch__.M".to_string(), path: String::new(), attributes: RefCell::default() };
        let mut eval = Eval::new(Lower::new("test", 1, Mode::AsExported), &code, Vec::new());
        eval.method(&Rc::new(root), "forward", Vec::new())
    }

    #[test]
    fn numbers_lists_and_loops_are_python_s() -> Result<()> {
        let text = "class M(Module):\n  def helper(self: __torch__.M,\n    k: int=3) -> int:\n    total = 0\n    for i in range(k):\n      total = torch.add(total, i)\n    return total\n  def forward(self: __torch__.M) -> int:\n    a = annotate(List[int], [])\n    i = 0\n    while torch.lt(i, 4):\n      _0 = torch.append(a, torch.floordiv(torch.neg(i), 2))\n      i = torch.add(i, 1)\n    return torch.add(torch.mul(torch.sum(a), 10), (self).helper(5, ))\n";
        // -(0 // 2) …: 0, -1, -1, -2 and 0 + 1 + 2 + 3 + 4.
        assert_eq!(known(&run(text)?), Some(-30));
        Ok(())
    }

    #[test]
    fn hostile_programs_end() {
        let body = |body: &str| format!("class M(Module):\n  def forward(self: __torch__.M) -> int:\n{body}");
        assert!(run(&body("    while True:\n      pass\n    return 1\n")).is_err());
        assert!(run(&body("    for i in range(1000000000000000000):\n      pass\n    return 1\n")).is_err());
        assert!(run(&body("    return (self).forward()\n")).is_err());
        assert!(run(&body("    a = [1]\n    for i in range(64):\n      a = torch.add(a, a)\n    return 1\n")).is_err());
    }
}

//! The text of an archive, read module by module when it is asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::parser::parse;
use super::syntax::{Class, Function, Kind};
use crate::{Error, Result};

/// A function or class of a module.
#[derive(Debug, Clone)]
pub enum Definition {
    Function(Rc<Function>),
    Class(Rc<Class>),
}

type Module = Rc<HashMap<String, Definition>>;

/// The text of a program: files by their path below `code/`.
#[derive(Debug)]
pub struct Code {
    files: HashMap<String, String>,
    modules: RefCell<HashMap<String, Module>>,
}

impl Code {
    pub fn new(files: HashMap<String, String>) -> Self {
        Self { files, modules: RefCell::new(HashMap::new()) }
    }

    fn module(&self, name: &str) -> Result<Module> {
        if let Some(module) = self.modules.borrow().get(name) {
            return Ok(module.clone());
        }
        let path = format!("{}.py", name.replace('.', "/"));
        let text = self.files.get(&path);
        let text = text.ok_or_else(|| Error::invalid(format!("the archive holds no text of '{name}'")))?;
        let mut found = HashMap::new();
        for statement in parse(text).map_err(|error| Error::invalid(format!("code/{path}: {error}")))? {
            match statement.kind {
                Kind::Def(function) => {
                    found.insert(function.name.clone(), Definition::Function(function));
                }
                Kind::Class(class) => {
                    found.insert(class.name.clone(), Definition::Class(class));
                }
                _ => {}
            }
        }
        let module = Rc::new(found);
        self.modules.borrow_mut().insert(name.to_string(), module.clone());
        Ok(module)
    }

    /// A function or class by its whole name.
    pub fn find(&self, name: &str) -> Result<Definition> {
        let (module, own) = name.rsplit_once('.').ok_or_else(|| Error::invalid(format!("'{name}' is not known")))?;
        let found = self.module(module)?.get(own).cloned();
        found.ok_or_else(|| Error::invalid(format!("the text of '{module}' has no '{own}'")))
    }

    /// A class by its whole name.
    pub fn class(&self, name: &str) -> Result<Rc<Class>> {
        match self.find(name)? {
            Definition::Class(class) => Ok(class),
            Definition::Function(_) => Err(Error::invalid(format!("'{name}' is no class"))),
        }
    }
}

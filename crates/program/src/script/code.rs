//! The text of an archive, read module by module when it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::parser::parse;
use super::syntax::{Class, Function, Kind};
use crate::{Error, Result};

/// A function or class of a module.
#[derive(Debug, Clone)]
pub enum Definition {
    Function(Arc<Function>),
    Class(Arc<Class>),
}

type Module = Arc<HashMap<String, Definition>>;

/// The text of a program: files by their path below `code/`.
#[derive(Debug)]
pub struct Code {
    files: HashMap<String, String>,
    modules: Mutex<HashMap<String, Module>>,
}

impl Code {
    pub fn new(files: HashMap<String, String>) -> Self {
        Self { files, modules: Mutex::new(HashMap::new()) }
    }

    /// The text of every file.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.files.values().map(String::as_str)
    }

    /// A thread that gave up while it held them has left them whole.
    fn modules(&self) -> std::sync::MutexGuard<'_, HashMap<String, Module>> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn module(&self, name: &str) -> Result<Module> {
        if let Some(module) = self.modules().get(name) {
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
        let module = Arc::new(found);
        self.modules().insert(name.to_string(), module.clone());
        Ok(module)
    }

    /// A function or class by its whole name.
    pub fn find(&self, name: &str) -> Result<Definition> {
        let (module, own) = name.rsplit_once('.').ok_or_else(|| Error::invalid(format!("'{name}' is not known")))?;
        let found = self.module(module)?.get(own).cloned();
        found.ok_or_else(|| Error::invalid(format!("the text of '{module}' has no '{own}'")))
    }

    /// A class by its whole name.
    pub fn class(&self, name: &str) -> Result<Arc<Class>> {
        match self.find(name)? {
            Definition::Class(class) => Ok(class),
            Definition::Function(_) => Err(Error::invalid(format!("'{name}' is no class"))),
        }
    }
}

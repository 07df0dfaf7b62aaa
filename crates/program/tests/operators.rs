//! Calls of single operators, and programs of views and writes in place: what they give is what PyTorch gave.
//! `fixtures/operators/make.py` writes them, one archive for each family in both forms, exported and decomposed.

mod support;

use std::sync::Arc;

use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{Array, Cpu, DType, HostOnly, Session, Value};
use rekindle_program::{Mode, Program};
use support::{archive, arrays, fixture, given};

/// Names of the cases by output.
fn cases(family: &str) -> Vec<String> {
    let text = std::fs::read_to_string(fixture(&format!("operators/{family}.txt"))).unwrap();
    let mut names = Vec::new();
    for line in text.lines() {
        let (name, count) = line.split_once(' ').unwrap();
        names.extend(std::iter::repeat_n(name.to_string(), count.parse().unwrap()));
    }
    names
}

/// What differs, one line a case.
fn differing(outputs: Vec<Value>, expected: &[Array], names: &[String]) -> Vec<String> {
    assert_eq!(outputs.len(), expected.len());
    let mut found = Vec::new();
    for ((output, expected), name) in outputs.into_iter().zip(expected).zip(names) {
        let half = expected.dtype() == DType::F16 || name.contains("bfloat16");
        let tolerance = if half { Tolerance { rtol: 2e-2, atol: 2e-2 } } else { Tolerance { rtol: 1e-4, atol: 1e-5 } };
        if let Some(how) = difference(&output, &expected.clone().into(), tolerance, &mut 0.0).unwrap() {
            found.push(format!("{name}: {how}"));
        }
    }
    found
}

fn agrees(family: &str) {
    let reference = archive(&format!("operators/{family}.npz"));
    let (inputs, expected, names) = (arrays(&reference, "in"), arrays(&reference, "out"), cases(family));
    for form in ["", "_core"] {
        let program = Program::open(&fixture(&format!("operators/{family}{form}.pt2"))).unwrap();
        let lowered = program.lower(Mode::AsExported, false).unwrap_or_else(|error| panic!("{error}"));
        let model = Arc::new(lowered.model().unwrap());
        let plain = Session::new(model.clone(), HostOnly).unwrap().run(given(&lowered, inputs.clone())).unwrap();
        assert_eq!(differing(plain, &expected, &names), Vec::<String>::new(), "{family}{form}, reference");
        let fast = Session::prepared(model, Cpu).unwrap().run(given(&lowered, inputs.clone())).unwrap();
        assert_eq!(differing(fast, &expected, &names), Vec::<String>::new(), "{family}{form}, cpu");
    }
}

#[test]
fn arithmetic() {
    agrees("arithmetic");
}

#[test]
fn functions() {
    agrees("functions");
}

#[test]
fn comparisons_and_choices() {
    agrees("compare");
}

#[test]
fn reductions() {
    agrees("reduce");
}

#[test]
fn shapes() {
    agrees("shape");
}

#[test]
fn tensors_that_are_made() {
    agrees("create");
}

#[test]
fn positions() {
    agrees("index");
}

#[test]
fn pools_and_sizes() {
    agrees("pool");
}

#[test]
fn layers() {
    agrees("layers");
}

#[test]
fn complex_numbers_and_transforms() {
    agrees("signal");
}

#[test]
fn matrices() {
    agrees("algebra");
}

#[test]
fn repetitions_and_order() {
    agrees("unique");
}

#[test]
fn layers_that_are_one_call() {
    agrees("cells");
}

#[test]
fn boxes_and_quantizers() {
    agrees("vision");
}

#[test]
fn views_and_writes_in_place() {
    for family in 0..4 {
        agrees(&format!("views{family}"));
    }
}

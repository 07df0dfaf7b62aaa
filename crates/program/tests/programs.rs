//! Programs that PyTorch wrote, run on the host and held against what PyTorch answers. `fixtures/make.py` writes them.

mod support;

use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{Array, HostOnly, Session};
use rekindle_program::{Error, Example, Given, Mode, Program};
use support::{archive, arrays, fixture, given};

/// Types and sizes of inputs.
fn examples(inputs: &[Array]) -> Vec<Example> {
    inputs.iter().map(|array| Example { dtype: array.dtype(), shape: array.shape().to_vec() }).collect()
}

/// Runs a program on the inputs of its reference and compares all outputs.
fn agrees(name: &str) {
    let stem = name.rsplit_once('.').unwrap().0;
    let reference = archive(&format!("{stem}.npz"));
    let (inputs, expected) = (arrays(&reference, "in"), arrays(&reference, "out"));
    let examples = examples(&inputs);
    let program = Program::open(&fixture(name)).unwrap();
    let lowered = program.lower_for(Mode::AsExported, false, Some(&examples)).unwrap_or_else(|error| panic!("{error}"));
    let session = Session::new(lowered.model().unwrap(), HostOnly).unwrap();
    let outputs = session.run(given(&lowered, inputs)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(outputs.len(), expected.len(), "{name}");
    for (at, (output, expected)) in outputs.iter().zip(expected).enumerate() {
        let mut worst = 0.0;
        let tolerance = Tolerance { rtol: 1e-3, atol: 1e-5 };
        let how = difference(output, &expected.into(), tolerance, &mut worst).unwrap();
        assert_eq!(how, None, "{name}: output {at}");
    }
}

#[test]
fn exported_programs_answer_as_pytorch_does() {
    for name in ["half.pt2", "lstm.pt2", "old_2.5.1_net.pt2"] {
        agrees(name);
    }
}

#[test]
fn an_open_batch_stays_open() {
    agrees("open_batch.pt2");
}

#[test]
fn writes_through_views_reach_their_tensor() {
    agrees("inplace_views.pt2");
    agrees("inplace_views_decomposed.pt2");
}

#[test]
fn a_tensor_that_is_perhaps_a_view_of_a_view_is_not_read_after_a_write() {
    let example = Example { dtype: rekindle_onnx::DType::F32, shape: vec![2, 3] };
    let program = Program::open(&fixture("doubtful_traced.pt")).unwrap();
    let error = program.lower_for(Mode::AsExported, false, Some(&[example])).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("may share the memory of one that was written"), "{error}");
}

#[test]
fn numbers_in_a_trace_do_not_widen_tensors() {
    agrees("numbers_traced.pt");
}

#[test]
fn a_decomposed_bilinear_layer() {
    agrees("bilinear.pt2");
}

#[test]
fn a_matrix_repeated_for_a_batch_is_read_once() {
    agrees("repeated.pt2");
    let lowered = Program::open(&fixture("repeated.pt2")).unwrap().lower(Mode::AsExported, false).unwrap();
    let nodes = lowered.proto.graph.unwrap().node;
    // Left are that of the open batch to its own size, and one where both operands repeat.
    assert_eq!(nodes.iter().filter(|node| node.op_type == "Expand").count(), 2);
    assert_eq!(nodes.iter().filter(|node| node.op_type == "MatMul").count(), 4);
}

#[test]
fn a_branch_on_data_is_a_node_with_two_graphs() {
    agrees("cond.pt2");
}

#[test]
fn trees_of_arguments_keep_their_order_and_fixed_numbers() {
    agrees("pytree_buffers.pt2");
    let program = Program::open(&fixture("pytree_buffers.pt2")).unwrap();
    let lowered = program.lower(Mode::AsExported, true).unwrap();
    let fixed: Vec<_> = lowered.inputs.iter().map(|input| input.given.clone()).collect();
    assert_eq!(fixed[3..], [Given::Number(5.0), Given::Number(3.0)]);
    let changed: Vec<_> = lowered.buffers.iter().filter(|buffer| buffer.output.is_some()).collect();
    assert_eq!(changed.iter().map(|buffer| buffer.name.as_str()).collect::<Vec<_>>(), ["n", "ema"]);
}

#[test]
fn torchscript_answers_as_pytorch_does() {
    for name in ["dyn_traced.pt", "dyn_scripted.pt", "lstm_traced.pt", "lstm_scripted.pt"] {
        agrees(name);
    }
}

#[test]
fn spectra_with_complex_weights() {
    for name in ["spectrum.pt2", "spectrum_decomposed.pt2"] {
        agrees(name);
    }
}

#[test]
fn sequences_of_several_lengths() {
    for name in ["packed_scripted.pt", "packed_traced.pt"] {
        agrees(name);
    }
}

#[test]
fn fused_layers_of_a_trace_without_gradients() {
    agrees("encoder_traced.pt");
}

#[test]
fn sizes_that_follow_from_data() {
    for name in ["boxes_scripted.pt", "boxes_traced.pt"] {
        agrees(name);
    }
}

#[test]
fn quantized_layers_give_what_their_grid_has() {
    for name in ["quantized_scripted.pt", "quantized_traced.pt"] {
        agrees(name);
    }
}

#[test]
fn a_branch_on_the_values_of_a_tensor_is_an_if() {
    let program = Program::open(&fixture("flow_scripted.pt")).unwrap();
    let reference = archive("flow_scripted.npz");
    let (inputs, expected) = (arrays(&reference, "in"), arrays(&reference, "out"));
    let lowered = program.lower_for(Mode::AsExported, false, Some(&examples(&inputs))).unwrap();
    let nodes = &lowered.proto.graph.as_ref().unwrap().node;
    assert!(nodes.iter().any(|node| node.op_type == "If"));
    let session = Session::new(lowered.model().unwrap(), HostOnly).unwrap();
    let outputs = session.run(given(&lowered, inputs)).unwrap();
    let tolerance = Tolerance { rtol: 1e-3, atol: 1e-5 };
    // The reference holds the tensor alone, not the list beside it.
    assert_eq!(difference(&outputs[0], &expected[0].clone().into(), tolerance, &mut 0.0).unwrap(), None);
    let error = program.lower(Mode::AsExported, false).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("give it inputs"), "{error}");
}

#[test]
fn what_is_cut_short_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["half.pt2", "cond.pt2", "dyn_traced.pt"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for keep in (0..whole.len()).step_by(whole.len() / 40) {
            let path = folder.path().join("cut.pt2");
            std::fs::write(&path, &whole[..keep]).unwrap();
            assert!(Program::open(&path).is_err(), "{name} cut to {keep} bytes");
        }
    }
}

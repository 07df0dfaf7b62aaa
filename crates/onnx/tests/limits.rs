//! Small files that ask for much work: each operator whose work grows faster than its values leaves off when time is over, or is refused
//! before it begins.

mod support;

use std::time::{Duration, Instant};

use rekindle_onnx::{Accelerator, Array, Cpu, HostOnly, Limits, Model, Session};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{GraphProto, ModelProto};
use support::hostile::{self, MOST, TIME};
use support::{floats, graph, int, model, node, port, untyped};

/// How long a model takes to end.
fn time<A: Accelerator>(proto: &ModelProto, prepared: bool, accelerator: A) -> (Duration, String) {
    let begin = Instant::now();
    let session = Model::from_proto(proto, &mut External::new("".as_ref())).and_then(|model| {
        if prepared { Session::prepared(model, accelerator) } else { Session::new(model, accelerator) }
    });
    let ended = session.and_then(|mut session| {
        session.set_limits(Limits { time: TIME, ..Limits::USUAL });
        let begin = Instant::now();
        session.run(vec![("one".to_string(), Array::scalar(0.5_f32).into())])?;
        Ok(begin.elapsed())
    });
    let how = match ended {
        // An operator that breaks off gives what it has: that is no answer.
        Ok(run) if run > 2 * TIME => format!("it gave an answer after {:.1} s", run.as_secs_f64()),
        Ok(_) => "it ran".to_string(),
        Err(error) => error.to_string(),
    };
    (begin.elapsed(), how)
}

/// What comes of a model on each runtime without a device.
fn on_both(proto: &ModelProto) -> [(&'static str, (Duration, String)); 2] {
    [("plain", time(proto, false, HostOnly)), ("cpu", time(proto, true, Cpu))]
}

fn end_in_time(graphs: Vec<(&'static str, ModelProto)>) {
    for (name, proto) in graphs {
        for (runtime, (taken, how)) in on_both(&proto) {
            assert!(taken < MOST, "{name} on {runtime} took {:.1} s: {how}", taken.as_secs_f64());
            assert!(hostile::is_refusal(&how) || how == "it ran", "{name} on {runtime}: {how}");
        }
    }
}

#[test]
fn products_end_in_time() {
    end_in_time(hostile::products());
}

#[test]
fn convolutions_end_in_time() {
    end_in_time(hostile::convolutions());
}

#[test]
fn windows_end_in_time() {
    end_in_time(hostile::windows());
}

#[test]
fn recurrent_layers_end_in_time() {
    end_in_time(hostile::recurrent_layers());
}

#[test]
fn signals_and_order_end_in_time() {
    end_in_time(hostile::signals_and_order());
}

#[test]
fn settings_out_of_proportion_end_in_time() {
    for (name, proto) in hostile::settings() {
        for (runtime, (taken, how)) in on_both(&proto) {
            assert!(taken < MOST, "{name} on {runtime} took {:.1} s: {how}", taken.as_secs_f64());
        }
    }
}

#[test]
fn a_scan_of_batches_of_different_sizes_is_an_error() {
    let body = GraphProto {
        input: vec![port("state", 1, &[2]), port("item", 1, &[2])],
        output: vec![port("next", 1, &[2]), port("each", 1, &[2])],
        node: vec![node("Add", &["state", "item"], &["next"], vec![]), node("Identity", &["next"], &["each"], vec![])],
        ..GraphProto::default()
    };
    let scan =
        node("Scan", &["", "state", "items"], &["final", "all"], vec![graph("body", body), int("num_scan_inputs", 1)]);
    let with = |batch: i64| {
        let own = GraphProto {
            node: vec![scan.clone()],
            initializer: vec![
                floats("state", &[3, 2], &[0.0; 6]),
                floats("items", &[batch, 4, 2], &vec![1.0; batch as usize * 8]),
            ],
            output: vec![untyped("final"), untyped("all")],
            ..GraphProto::default()
        };
        let mut proto = model(own, Vec::new());
        proto.opset_import[0].version = 8;
        let model = Model::from_proto(&proto, &mut External::new("".as_ref())).unwrap();
        Session::new(model, HostOnly).unwrap().run(Vec::new())
    };
    let outputs = with(3).unwrap();
    assert_eq!(outputs[0].clone().into_array().unwrap().floats().unwrap(), vec![4.0; 6]);
    for batch in [1, 2, 4] {
        assert!(with(batch).unwrap_err().to_string().contains("its inputs are not of one batch"), "{batch}");
    }
}

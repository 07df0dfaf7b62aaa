//! The schedule that follows a metric, against `torch.optim.lr_scheduler.ReduceLROnPlateau`.

use rekindle::optim::{PlateauState, Schedule, SchedulerConfig};
use serde_json::{Value as Json, json};

use super::states::assert_same_dict;
use super::support::*;

fn schedule(recipe: &Json) -> Schedule {
    serde_json::from_value::<SchedulerConfig>(recipe.clone()).unwrap().resolve(1, 1)
}

#[test]
fn rates_and_states_are_those_of_torch_after_every_epoch() {
    let mut lowered = 0;
    for (name, case) in entries(&fixture("optim/plateaus.json")) {
        let mut schedule = schedule(&case["recipe"]);
        let plateau = schedule.curve.plateau().unwrap().clone();
        let (base_lrs, falls) = (numbers(&case["base_lrs"]), case["falls"].as_bool().unwrap());
        let mut state = PlateauState::default();
        for (epoch, expected) in case["epochs"].as_array().unwrap().iter().enumerate() {
            let label = format!("{name} after {} epochs", epoch + 1);
            state = plateau.after(state, expected["value"].as_f64().unwrap(), falls);
            schedule.lowered = state.lowered;
            let rates: Vec<f64> = base_lrs.iter().map(|&base| schedule.lr(base, 0)).collect();
            assert_eq!(rates, numbers(&expected["rates"]), "{label}");
            let mut ours = plateau.to_state_dict(&state, falls, epoch as u64 + 1, &rates);
            assert_eq!(ours.remove("mode_worse").unwrap().as_float().unwrap() > 0.0, falls, "{label}");
            let theirs = state_dict(&expected["state"]);
            assert_same_dict(&ours, &theirs, 0.0, &label);
            // What is read from PyTorch's state goes on as ours does; how often the rate was lowered is in the optimizer's rates.
            let (seen, fell) = rekindle::optim::Plateau::seen(&theirs).unwrap();
            assert_eq!((seen, fell), (PlateauState { lowered: 0, ..state.clone() }, falls), "{label}");
            let found = SchedulerConfig::from_state_dict(&theirs).unwrap();
            assert_eq!(found.curve.plateau(), Some(&plateau), "{label}");
        }
        lowered += state.lowered;
    }
    assert!(lowered > 20, "the rates were lowered {lowered} times");
}

#[test]
fn what_has_no_value_is_no_improvement() {
    let schedule = schedule(&json!({"name": "plateau", "patience": 1}));
    let plateau = schedule.curve.plateau().unwrap();
    let after =
        |values: &[f64]| values.iter().fold(PlateauState::default(), |state, &value| plateau.after(state, value, true));
    assert_eq!(after(&[f64::NAN, f64::NAN]).lowered, 1);
    assert_eq!(after(&[f64::NAN, 1.0]), PlateauState { best: Some(1.0), ..PlateauState::default() });
}

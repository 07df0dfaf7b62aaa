//! Schedules against the rates and states of `torch.optim.lr_scheduler`.

use burn::lr_scheduler::LrScheduler;
use rekindle::optim::{Cosine, Curve, GroupSchedule, Per, Schedule, SchedulerConfig};
use serde_json::{Value as Json, json};

use super::states::assert_same_dict;
use super::support::*;

fn config(table: Json) -> Result<SchedulerConfig, String> {
    serde_json::from_value(table).map_err(|error| error.to_string())
}

fn schedule(recipe: &Json) -> Schedule {
    config(recipe.clone()).unwrap().resolve(1, 1)
}

#[test]
fn rates_are_those_of_torch() {
    let mut worst = 0.0_f64;
    for (name, case) in entries(&fixture("optim/schedules.json")) {
        let schedule = schedule(&case["recipe"]);
        let base_lrs = numbers(&case["base_lrs"]);
        for (count, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
            for (base, expected) in base_lrs.iter().zip(numbers(expected)) {
                let gap = (schedule.lr(*base, count as u64) - expected).abs() / base;
                assert!(gap < 1e-12, "{name} after {count} steps: differs by {gap} of the base rate");
                worst = worst.max(gap);
            }
        }
    }
    println!("largest difference from torch, relative to the base rate: {worst:e}");
}

#[test]
fn states_are_those_of_torch() {
    for (name, case) in entries(&fixture("optim/schedules.json")) {
        let schedule = schedule(&case["recipe"]);
        let base_lrs = numbers(&case["base_lrs"]);
        for (count, state) in entries(&case["states"]) {
            let label = format!("{name} after {count} steps");
            let expected = state_dict(state);
            let count = count.parse().unwrap();
            assert_same_dict(&schedule.to_state_dict(count, &base_lrs), &expected, 0.0, &label);
            let restored = schedule.from_state_dict(&expected).unwrap();
            assert_eq!(
                (restored.count, restored.base_lrs, restored.differences, restored.rates),
                (count, base_lrs.clone(), Vec::new(), Vec::new()),
                "{label}"
            );
        }
    }
}

#[test]
fn states_of_another_schedule_are_refused_or_reported() {
    let fixture = fixture("optim/schedules.json");
    let step = schedule(&json!({"name": "step", "step_size": 4}));
    let error = step.from_state_dict(&state_dict(&fixture["cosine"]["states"]["3"])).unwrap_err();
    assert_eq!(error.to_string(), "the checkpoint's scheduler is CosineAnnealingLR, the configuration's is StepLR");
    let warm = schedule(&json!({"name": "step", "step_size": 4, "warmup": 2}));
    let error = warm.from_state_dict(&state_dict(&fixture["step"]["states"]["3"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint's scheduler is StepLR, the configuration's is SequentialLR of a warm-up and StepLR"
    );

    let restored = step.from_state_dict(&state_dict(&fixture["step"]["states"]["3"])).unwrap();
    assert_eq!(restored.count, 3);
    let difference = &restored.differences[0];
    assert_eq!(
        (&difference.argument[..], &difference.found[..], &difference.expected[..]),
        ("StepLR: step_size", "3", "4")
    );
    assert_eq!((restored.differences.len(), restored.rates.len()), (1, 2));
    assert!(restored.rates[0].starts_with("the learning rate of group 0 is 0.010"), "{:?}", restored.rates);
}

#[test]
fn cosines_without_a_length_span_the_training() {
    let cosine = |table: Json, epochs, steps| config(table).unwrap().resolve(epochs, steps).curve;
    assert_eq!(cosine(json!({"name": "cosine"}), 5, 100), Cosine { t_max: 5, eta_min: 0.0 }.into());
    assert_eq!(cosine(json!({"name": "cosine", "per": "step"}), 5, 100), Cosine { t_max: 500, eta_min: 0.0 }.into());
    assert_eq!(cosine(json!({"name": "cosine", "warmup": 2}), 5, 100), Cosine { t_max: 3, eta_min: 0.0 }.into());
}

#[test]
fn burn_gets_a_rate_for_every_step_and_resumes_from_its_record() {
    let config = config(json!({"name": "step", "step_size": 2, "gamma": 0.5})).unwrap();
    assert_eq!(config.per, Per::Epoch);
    let make = || GroupSchedule::new(config.resolve(8, 3), 0.8, config.interval(3), 0);
    let mut whole = make();
    let rates: Vec<f64> = (0..18).map(|_| whole.step()).collect();
    let expected = [0.8, 0.4, 0.2].map(|rate| [rate; 6]).concat();
    assert_eq!(rates, expected);

    let mut first = make();
    assert_eq!((0..7).map(|_| first.step()).collect::<Vec<_>>(), expected[..7]);
    let mut second = make();
    second.load_record(first.to_record());
    assert_eq!((7..18).map(|_| second.step()).collect::<Vec<_>>(), expected[7..]);
}

#[test]
fn tables_with_unknown_or_impossible_settings_are_refused() {
    for (table, message) in [
        (
            json!({"name": "lambda"}),
            "unknown scheduler 'lambda': expected one of constant, step, multi_step, exponential, cosine, linear, polynomial, warm_restarts, one_cycle, plateau",
        ),
        (json!({"name": "step"}), "scheduler 'step' needs the setting 'step_size'"),
        (json!({"name": "step", "step_size": 0}), "scheduler 'step' cannot have step_size = 0: expected 1 or more"),
        (
            json!({"name": "exponential", "gamma": -0.5}),
            "scheduler 'exponential' cannot have gamma = -0.5: expected a number that is 0 or more",
        ),
        (
            json!({"name": "cosine", "gamma": 0.5}),
            "scheduler 'cosine' has no setting 'gamma': it knows t_max, eta_min, per, warmup, warmup_start_factor, monitor",
        ),
        (
            json!({"name": "linear", "start_factor": 0.0}),
            "scheduler 'linear' cannot have start_factor = 0: expected a number from 0 to 1, 0 excluded",
        ),
        (
            json!({"name": "multi_step", "milestones": [3, 3]}),
            "scheduler 'multi_step' cannot have milestones = [3, 3]: expected whole numbers from 1 on, each larger than the one before",
        ),
        (
            json!({"name": "one_cycle", "max_lr": 0.1, "warmup": 2}),
            "scheduler 'one_cycle' rises by itself: leave warmup out",
        ),
        (
            json!({"name": "plateau", "factor": 1.0}),
            "scheduler 'plateau' cannot have factor = 1: expected a number from 0 to 1, 1 excluded",
        ),
        (
            json!({"name": "plateau", "per": "step"}),
            "scheduler 'plateau' follows a metric, which comes once an epoch: leave per out",
        ),
        (
            json!({"name": "plateau", "warmup": 2}),
            "scheduler 'plateau' follows a metric and no warm-up: leave warmup out",
        ),
        (
            json!({"name": "step", "step_size": 1, "monitor": "valid.loss"}),
            "scheduler 'step' follows no metric: leave monitor out",
        ),
        (
            json!({"name": "constant", "warmup_start_factor": 0.5}),
            "a scheduler has warmup_start_factor without warmup: give the number of warm-up steps too",
        ),
    ] {
        assert_eq!(config(table).unwrap_err(), message);
    }
    assert!(config(json!({"name": "step", "step": 3})).unwrap_err().starts_with("unknown field `step`"));
    assert!(config(json!({"name": "step", "step_size": 3, "per": "batch"})).unwrap_err().contains("`batch`"));
}

#[test]
fn tables_survive_writing_and_reading() {
    for (_, case) in entries(&fixture("optim/schedules.json")) {
        let config = config(case["recipe"].clone()).unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<SchedulerConfig>(&text).unwrap(), config, "{text}");
    }
    let open: SchedulerConfig = toml::from_str("name = \"cosine\"\nper = \"step\"\neta_min = 1e-5").unwrap();
    assert!(open.over_training && matches!(open.curve, Curve::Cosine(Cosine { eta_min: 1e-5, .. })));
    assert_eq!(toml::from_str::<SchedulerConfig>(&toml::to_string(&open).unwrap()).unwrap(), open);
}

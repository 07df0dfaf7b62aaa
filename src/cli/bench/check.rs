//! `rekindle bench --check`: every case on every device that opens.

use std::time::Instant;

use serde::Serialize;

use super::super::output::{json, line, say, table};
use super::super::{Answer, Exit};
use super::Args;
use crate::check::{Case, Outcome, cases};
use crate::device::{self, DeviceName, OpenDevice};

/// A case on a device.
#[derive(Serialize)]
struct Row<'a> {
    case: &'a str,
    device: &'a str,
    #[serde(flatten)]
    outcome: Outcome,
    seconds: f64,
}

/// A device that does not open.
#[derive(Serialize)]
struct Absent {
    name: String,
    reason: String,
}

pub fn run(args: &Args) -> Answer {
    let cases = cases()?;
    args.check_names(&cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>())?;
    let wanted: Vec<&Case> = cases.iter().filter(|case| args.wants(&case.name)).collect();
    let (devices, absent) = devices(args.device)?;
    let mut rows = Vec::new();
    for device in &devices {
        say!("checking {} ({}), {} cases", device.name, device.description, wanted.len());
        for case in &wanted {
            let started = Instant::now();
            let outcome = crate::check::run(device, case);
            rows.push(Row {
                case: &case.name,
                device: &device.name,
                outcome,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
    }
    let failed = rows.iter().filter(|row| row.outcome.failed()).count();
    if args.json {
        let ran = rows.iter().filter(|row| !matches!(row.outcome, Outcome::NotRun { .. })).count();
        json(&serde_json::json!({ "failed": failed, "ran": ran, "cases": rows, "not_opened": absent }))?;
    } else {
        show(&wanted, &devices, &rows)?;
        for Absent { name, reason } in &absent {
            line(format!("{name} was not checked: {reason}"))?;
        }
        line(verdict(&rows.iter().map(|row| &row.outcome).collect::<Vec<_>>(), devices.len()))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::No })
}

/// What came of all cases, in a sentence that counts those that ran.
fn verdict(outcomes: &[&Outcome], devices: usize) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).count();
    let left_out = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::NotRun { .. })).count();
    let ran = outcomes.len() - left_out;
    let on = if devices == 1 { "one device".to_string() } else { format!("{devices} devices") };
    let left_out = if left_out > 0 { format!("; {left_out} were not run") } else { String::new() };
    match (failed, ran) {
        (0, 0) => format!("nothing was checked on {on}{left_out}"),
        (0, _) => format!("{ran} results on {on}: everything agrees with PyTorch{left_out}"),
        _ => format!("{failed} of {ran} results on {on} are wrong{left_out}"),
    }
}

/// The device that was asked for, or all that work.
fn devices(asked: Option<DeviceName>) -> anyhow::Result<(Vec<OpenDevice>, Vec<Absent>)> {
    if let Some(name) = asked {
        return Ok((vec![name.open()?], Vec::new()));
    }
    let (mut devices, mut absent) = (Vec::new(), Vec::new());
    for report in device::list() {
        match report.reason {
            Some(reason) => absent.push(Absent { name: report.name, reason }),
            None => devices.push(report.name.parse::<DeviceName>()?.open()?),
        }
    }
    Ok((devices, absent))
}

/// A line for each case, a column for each device, then what went wrong.
fn show(cases: &[&Case], devices: &[OpenDevice], rows: &[Row<'_>]) -> anyhow::Result<()> {
    let cell = |case: &Case, device: &OpenDevice| {
        let row = rows.iter().find(|row| row.case == case.name && row.device == device.name);
        match row.map(|row| &row.outcome) {
            Some(Outcome::Passed { max_error, allowed }) => format!("ok {max_error:.0e} of {allowed:.0e}"),
            Some(Outcome::Failed { .. }) => "WRONG".to_string(),
            Some(Outcome::NotRun { .. }) | None => "not run".to_string(),
        }
    };
    let lines = cases.iter().map(|case| {
        let cells = devices.iter().map(|device| cell(case, device));
        std::iter::once(case.name.clone()).chain(cells).collect()
    });
    let header: Vec<&str> = std::iter::once("case").chain(devices.iter().map(|device| device.name.as_str())).collect();
    table(&header, &lines.collect::<Vec<Vec<String>>>())?;
    for row in rows {
        match &row.outcome {
            Outcome::Failed { reason } => line(format!("{} on {}: WRONG: {reason}", row.case, row.device))?,
            Outcome::NotRun { reason } => line(format!("{} on {}: not run: {reason}", row.case, row.device))?,
            Outcome::Passed { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts_what_ran() {
        let (passed, not_run) =
            (Outcome::Passed { max_error: 0.0, allowed: 1e-3 }, Outcome::NotRun { reason: "software".into() });
        let failed = Outcome::Failed { reason: "off".into() };
        assert_eq!(verdict(&[&passed, &passed], 1), "2 results on one device: everything agrees with PyTorch");
        assert_eq!(
            verdict(&[&passed, &not_run], 1),
            "1 results on one device: everything agrees with PyTorch; 1 were not run"
        );
        assert_eq!(verdict(&[&passed, &failed, &not_run], 2), "1 of 2 results on 2 devices are wrong; 1 were not run");
        assert_eq!(verdict(&[&not_run], 1), "nothing was checked on one device; 1 were not run");
    }
}

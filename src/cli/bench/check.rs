//! `rekindle bench --check`: every case on every device that opens.

use std::time::Instant;

use serde::Serialize;

use super::super::output::{json, line, table};
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
        eprintln!("checking {} ({}), {} cases", device.name, device.description, wanted.len());
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
        json(&serde_json::json!({ "failed": failed, "cases": rows, "not_opened": absent }))?;
    } else {
        show(&wanted, &devices, &rows)?;
        for Absent { name, reason } in &absent {
            line(format!("{name} was not checked: {reason}"))?;
        }
        let (cases, devices) = (wanted.len(), devices.len());
        line(match failed {
            0 => format!(
                "{cases} cases on {}: everything agrees with PyTorch",
                if devices == 1 { "one device".into() } else { format!("{devices} devices") }
            ),
            _ => format!("{failed} of {} results are wrong", rows.len()),
        })?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::No })
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

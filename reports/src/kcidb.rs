//! KCIDB, schema 5 (kernelci/kcidb-io): the target is the build that is tested, the source stands in `misc`.

use crate::brief::{Brief, TestResult};
use crate::record::Record;
use crate::words::end;
use luqual_model::{CellRecord, KernelInfo, PlannedCell};
use serde_json::{Value, json};
use std::io;

/// The record as KCIDB's JSON, with `origin` as the name of the system that submits it.
pub fn kcidb(record: &Record, origin: &str) -> io::Result<String> {
    let run = &record.run;
    let id = |what: &str| {
        format!("{origin}:{}", what.replace(|c: char| !(c.is_ascii_alphanumeric() || "._~+-".contains(c)), "-"))
    };
    let targets = || run.kernels.values().filter(|info| run.planned.iter().any(|it| it.key.target == info.name));
    let checkout = |info: &KernelInfo| id(&format!("{}.{}", info.release, short(info)));
    let build = |info: &KernelInfo| id(&format!("{}.{}", info.release, info.image_sha256));
    let checkouts: Vec<Value> = targets()
        .map(|info| json!({"id": checkout(info), "origin": origin, "comment": info.provenance, "valid": true}))
        .collect();
    let builds: Vec<Value> = targets()
        .map(|info| {
            json!({
                "id": build(info), "checkout_id": checkout(info), "origin": origin, "status": "PASS",
                "architecture": run.host.arch, "comment": info.name,
                "misc": {"sha256": info.image_sha256, "build_id": info.build_id, "abi": info.abi, "patches": info.patches},
            })
        })
        .collect();
    let test = |planned: &PlannedCell, status: &str, more: Value| -> io::Result<Value> {
        let key = &planned.key;
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, format!("the run does not describe {}", key.target));
        let target = run.kernels.get(&key.target).ok_or_else(missing)?;
        let test = json!({
            "id": id(&format!("{}.{}", run.id, key.id())), "build_id": build(target), "origin": origin,
            "path": format!("luqual.{}", key.workload), "status": status, "start_time": run.started,
            "environment": {"comment": format!("QEMU {} with {}, {}", run.host.qemu, run.host.accel, key.profile)},
            "misc": {
                "source": run.kernels.get(&key.source), "prediction": planned.prediction,
                "expectation": planned.expectation, "planted": run.settings.inject,
            },
        });
        let fields = [test, more].into_iter().filter_map(|value| match value {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        Ok(Value::Object(fields.flatten().collect()))
    };
    let mut tests: Vec<Value> = Vec::new();
    for cell in record.cells() {
        let cell = cell?;
        let key = &cell.plan.key;
        let more = json!({
            "comment": format!("{} -> {}: {}", key.source, key.target, end(&cell)),
            "duration": cell.duration_us as f64 / 1e6,
        });
        tests.push(test(&cell.plan, status(&cell), more)?);
    }
    // MISS: planned, and nothing ran it.
    for planned in record.left() {
        tests.push(test(planned, "MISS", json!({}))?);
    }
    let version = json!({"major": 5, "minor": 0});
    let all = json!({"version": version, "checkouts": checkouts, "builds": builds, "tests": tests});
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

/// What tells two kernels of one release apart.
fn short(info: &KernelInfo) -> &str {
    info.image_sha256.get(..12).unwrap_or(&info.image_sha256)
}

fn status(cell: &CellRecord) -> &'static str {
    match Brief::of(cell).standing() {
        TestResult::Passed => "PASS",
        TestResult::Failed => "FAIL",
        TestResult::Error => "ERROR",
        TestResult::Skipped => "SKIP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_as_cells_do() {
        let mut record = crate::samples::record();
        let mut names = ["7.3.4+mine", "7.3.4-mine", "7.3.4~mine"].iter();
        record.run.planned.truncate(0);
        for name in names.by_ref() {
            let info = KernelInfo { name: (*name).into(), ..record.run.kernels["7.3.4"].clone() };
            record.run.kernels.insert((*name).into(), info);
            let mut planned = crate::samples::cells()[0].plan.clone();
            planned.key.target = (*name).into();
            record.run.planned.push(planned);
        }
        let record = crate::samples::planned(record.run);
        let value: Value = serde_json::from_str(&kcidb(&record, "luqual").unwrap()).unwrap();
        let ids: std::collections::BTreeSet<&str> =
            value["tests"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
    }

    #[test]
    fn a_target_that_the_run_does_not_describe_is_an_error() {
        let mut record = crate::samples::record();
        record.run.kernels.remove("7.3.4");
        let error = kcidb(&record, "luqual").unwrap_err().to_string();
        assert_eq!(error, "the run does not describe 7.3.4");
    }

    #[test]
    fn a_planted_fault_is_no_result_of_a_kernel() {
        let mut record = crate::samples::record();
        record.run.settings.inject = Some("flip:64m:3:17".into());
        let value: Value = serde_json::from_str(&kcidb(&record, "luqual").unwrap()).unwrap();
        assert!(value["tests"].as_array().unwrap().iter().all(|it| it["misc"]["planted"] == "flip:64m:3:17"));
    }

    #[test]
    fn failures_errors_misses_and_skips_are_apart() {
        let value: Value = serde_json::from_str(&kcidb(&crate::samples::record(), "luqual").unwrap()).unwrap();
        let count =
            |status: &str| value["tests"].as_array().unwrap().iter().filter(|it| it["status"] == status).count();
        assert_eq!(["PASS", "FAIL", "ERROR", "MISS", "SKIP"].map(count), [1, 5, 1, 1, 1]);
        let lost = &value["tests"][2];
        let build = value["builds"].as_array().unwrap().iter().find(|build| build["id"] == lost["build_id"]).unwrap();
        assert_eq!((&build["comment"], &lost["misc"]["source"]["name"]), (&"7.2.12".into(), &"7.3.4".into()));
    }
}

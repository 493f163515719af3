//! KCIDB, schema 5 (kernelci/kcidb-io): the target is the build that is tested, the source stands in `misc`.

use crate::standing::{Standing, standing};
use crate::terminal::word;
use luqual_model::{CellRecord, KernelInfo, Planned, RunRecord};
use serde_json::{Value, json};

/// The record as KCIDB's JSON, with `origin` as the name of the system that submits it.
pub fn kcidb(record: &RunRecord, origin: &str) -> Result<String, serde_json::Error> {
    let id = |what: &str| format!("{origin}:{}", what.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.'), "-"));
    let targets = || record.kernels.values().filter(|info| record.planned.iter().any(|it| it.key.target == info.name));
    let checkout = |info: &KernelInfo| id(&format!("{}.{}", info.release, short(info)));
    let build = |info: &KernelInfo| id(&format!("{}.{}", info.release, info.image_sha256));
    let checkouts: Vec<Value> = targets()
        .map(|info| json!({"id": checkout(info), "origin": origin, "comment": info.provenance, "valid": true}))
        .collect();
    let builds: Vec<Value> = targets()
        .map(|info| {
            json!({
                "id": build(info), "checkout_id": checkout(info), "origin": origin, "status": "PASS",
                "architecture": record.host.arch, "comment": info.name,
                "misc": {"sha256": info.image_sha256, "build_id": info.build_id, "abi": info.abi},
            })
        })
        .collect();
    let test = |planned: &Planned, status: &str, more: Value| -> Option<Value> {
        let key = &planned.key;
        let target = record.kernels.get(&key.target)?;
        let mut test = json!({
            "id": id(&format!("{}.{}", record.id, key.id())), "build_id": build(target), "origin": origin,
            "path": format!("luqual.{}", key.workload), "status": status, "start_time": record.started,
            "environment": {"comment": format!("QEMU {} with {}, {}", record.host.qemu, record.host.accel, key.profile)},
            "misc": {"source": record.kernels.get(&key.source), "prediction": planned.prediction, "expectation": planned.expectation},
        });
        let (test_fields, more) = (test.as_object_mut()?, more.as_object()?.clone());
        test_fields.extend(more);
        Some(test)
    };
    let ended = record.cells.iter().filter_map(|cell| {
        let more = json!({
            "comment": format!("{} -> {}: {} {}", cell.plan.key.source, cell.plan.key.target, word(cell), cell.title),
            "duration": cell.duration_us as f64 / 1e6,
        });
        test(&cell.plan, status(cell), more)
    });
    // MISS: planned, and nothing ran it.
    let left = record.left().into_iter().filter_map(|planned| test(planned, "MISS", json!({})));
    let tests: Vec<Value> = ended.chain(left).collect();
    let version = json!({"major": 5, "minor": 0});
    serde_json::to_string_pretty(&json!({"version": version, "checkouts": checkouts, "builds": builds, "tests": tests}))
        .map(|text| text + "\n")
}

/// What tells two kernels of one release apart.
fn short(info: &KernelInfo) -> &str {
    info.image_sha256.get(..12).unwrap_or(&info.image_sha256)
}

fn status(cell: &CellRecord) -> &'static str {
    match standing(cell) {
        Standing::Passed => "PASS",
        Standing::Failed => "FAIL",
        Standing::Broken => "ERROR",
        Standing::Skipped => "SKIP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

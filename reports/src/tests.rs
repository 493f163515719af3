//! What all reports have in common.

use luqual_model::{KernelInfo, Patch};

#[test]
fn every_report_has_the_subjects_and_none_takes_them_for_markup() {
    let mut record = crate::samples::record();
    let patch = Patch { subject: "mm: <b>a</b> | *b*".into(), sha256: "ab".into() };
    let patched = KernelInfo { patches: vec![patch], ..record.run.kernels["7.3.4"].clone() };
    record.run.kernels.insert("7.3.4".into(), patched);
    let mut page = Vec::new();
    crate::html(&record, crate::Evidence { read: &|_, _| None, linked: true }, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("<li>mm: &lt;b&gt;a&lt;/b&gt; | *b* <code class=\"off\">sha256 ab</code></li>"), "{page}");
    let line = "7.3.4 carries 1 patch: mm: <b>a</b> | *b*";
    assert!(crate::summary(&record).unwrap().contains(line));
    assert!(crate::markdown(&record).unwrap().contains("7.3.4 carries 1 patch: mm: \\<b\\>a\\</b\\> \\| \\*b\\*"));
    assert!(crate::ktap(&record).unwrap().contains(&format!("# kernel {line}\n")));
    assert!(crate::kcidb(&record, "x").unwrap().contains("\"subject\": \"mm: <b>a</b> | *b*\""));
    let qualification = crate::Qualification::of(&record, &luqual_model::Policy::own()).unwrap();
    assert!(qualification.text(&record.run).contains("carries 1 patch: mm: <b>a</b> | *b*"));
    assert!(qualification.html(&record.run).contains("carries 1 patch: mm: &lt;b&gt;"));
    assert!(crate::junit(&record).unwrap().contains("mm: &lt;b&gt;a"));
}

#[test]
fn what_a_guest_a_kernel_or_a_file_says_is_plain_text_in_every_format() {
    use luqual_model::plain::{HOSTILE, is_unsafe};
    use luqual_model::{Finding, Measure, Outcome, Probe};
    let mut cells = crate::samples::cells();
    for cell in &mut cells {
        cell.title = HOSTILE.into();
        cell.plan.key.source = format!("{HOSTILE}{}", cell.plan.key.source);
        cell.plan.key.workload = "scale.curve-files".into();
        cell.id = cell.plan.key.id();
        cell.tainted = vec![HOSTILE.into(); 2];
        let passed = cell.outcome == Outcome::Survived;
        cell.probes = vec![Probe { name: HOSTILE.into(), expected: HOSTILE.into(), observed: HOSTILE.into(), passed }];
        cell.findings =
            vec![Finding { text: HOSTILE.into(), function: Some(HOSTILE.into()), ..cell.findings[0].clone() }];
        cell.measures =
            vec![Measure { what: "preserve".into(), size: 1, unit: HOSTILE.into(), hop: 0, duration_us: 1 }];
    }
    let mut record = crate::samples::record_of(cells);
    record.name = HOSTILE.into();
    (record.run.id, record.run.command) = (HOSTILE.into(), vec![HOSTILE.into()]);
    (record.run.host.release, record.run.host.accel_reason) = (HOSTILE.into(), HOSTILE.into());
    record.run.settings.inject = Some(HOSTILE.into());
    let mut kernel = crate::samples::record().run.kernels["7.3.4"].clone();
    (kernel.name, kernel.release, kernel.provenance) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
    kernel.patches = vec![Patch { subject: HOSTILE.into(), sha256: "ab".into() }];
    record.run.kernels.insert(HOSTILE.into(), kernel);
    let machine = luqual_model::Profile { qemu: vec![HOSTILE.into()], ..crate::samples::machine(HOSTILE) };
    record.run.machines.insert(HOSTILE.into(), machine);

    let mut page = Vec::new();
    let console = |_: &luqual_model::CellRecord, _: &str| Some(HOSTILE.to_owned());
    crate::html(&record, crate::Evidence { read: &console, linked: true }, &mut page).unwrap();
    let qualification = crate::Qualification::of(&record, &luqual_model::Policy::own()).unwrap();
    let csv = crate::curve_csv(&record).unwrap().unwrap();
    for (format, text) in [
        ("HTML", String::from_utf8(page).unwrap()),
        ("JUnit", crate::junit(&record).unwrap()),
        ("KTAP", crate::ktap(&record).unwrap()),
        ("Markdown", crate::markdown(&record).unwrap()),
        ("suite", crate::suite(std::slice::from_ref(&record)).unwrap()),
        ("curve", crate::curve(&record).unwrap().unwrap()),
        ("CSV", csv.replace("\r\n", "\n")),
        ("diff", crate::diff(&crate::samples::record(), &record).unwrap()),
        ("summary", crate::summary(&record).unwrap()),
        ("grid", crate::grid(&record, Some(80))),
        ("qualification", qualification.text(&record.run)),
        ("qualification page", qualification.html(&record.run)),
    ] {
        let found = text.chars().find(|c| is_unsafe(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(found, None, "{format}: {text:?}");
        assert!(text.contains("1+1"), "{format} has nothing of it: {text}");
    }
    assert!(csv.lines().skip(1).all(|line| line.starts_with("\"'=1+1")), "{csv}");
}

#[test]
fn of_many_lines_that_taint_a_cell_some_are_shown_and_the_others_counted() {
    let mut cell = crate::samples::cell("a", "b", luqual_model::Outcome::Lost, "x");
    cell.tainted = (0..1000).map(|number| format!("source: WARNING {number}")).collect();
    let record = crate::samples::record_of(vec![cell]);
    for text in [crate::summary(&record).unwrap(), crate::markdown(&record).unwrap()] {
        assert!(text.contains("WARNING 19") && !text.contains("WARNING 20"), "{text}");
        assert!(text.contains("and 980 more lines that taint it"), "{text}");
    }
}

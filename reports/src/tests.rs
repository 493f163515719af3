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
    let qualification = crate::Qualification::of(&record).unwrap();
    assert!(qualification.text(&record.run).contains("carries 1 patch: mm: <b>a</b> | *b*"));
    assert!(qualification.html(&record.run).contains("carries 1 patch: mm: &lt;b&gt;"));
    assert!(crate::junit(&record).unwrap().contains("mm: &lt;b&gt;a"));
}

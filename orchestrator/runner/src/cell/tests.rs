use super::*;
use luqual_model::FindingKind;

#[test]
fn what_the_console_lost_comes_from_the_kernels_log_once() {
    let line = "KHO: disabling KHO revival".to_owned();
    let mut findings = Vec::new();
    add_lost_lines(&mut findings, &[line.clone(), "nothing".to_owned()], 7);
    add_lost_lines(&mut findings, &[line], 8);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].kind, findings[0].side, findings[0].line), (FindingKind::HandoverRefused, Side::Target, 0));
}

use super::*;
use luqual_model::Accel;
use luqual_protocol::VERSION;

fn kernel() -> KernelInfo {
    KernelInfo {
        name: "7.3.4".into(),
        release: "7.3.4".into(),
        build_id: Some("ab".into()),
        command_line: "console=ttyS0".into(),
        ..KernelInfo::default()
    }
}

fn hello(nonce: &str) -> Hello {
    Hello {
        protocol: VERSION,
        agent: String::new(),
        release: "7.3.4".into(),
        build_id: "ab".into(),
        nonce: nonce.into(),
        boot_id: String::new(),
        tick_page: 0,
        taint: 0,
        liveupdate: true,
    }
}

#[test]
fn a_kernel_is_recognised_by_all_three_of_nonce_release_and_build_id() {
    let kernel = kernel();
    let identity = Identity::new(&kernel, String::new(), 7);
    let right = hello(&identity.nonce);
    assert_eq!(identity.check(&right), Ok(()));
    for wrong in [
        hello("another"),
        Hello { release: "7.2.12".into(), ..right.clone() },
        Hello { build_id: "cd".into(), ..right.clone() },
    ] {
        assert!(identity.check(&wrong).is_err(), "{wrong:?}");
    }
    let unknown = KernelInfo { build_id: None, ..kernel.clone() };
    let identity = Identity { kernel: &unknown, options: String::new(), nonce: identity.nonce };
    assert_eq!(identity.check(&Hello { build_id: "cd".into(), ..right }), Ok(()));
}

#[test]
fn every_boot_has_a_nonce_of_its_own_on_its_command_line() {
    let kernel = kernel();
    let [first, second] = [1, 2].map(|nonce| Identity::new(&kernel, String::new(), nonce));
    assert_ne!(first.nonce, second.nonce);
    assert!(first.command_line(Mode::plain(Accel::Tcg)).ends_with(&format!(" luqual.nonce={}", first.nonce)));
}

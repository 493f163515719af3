#![no_main]

#[path = "../cases.rs"]
#[expect(dead_code, reason = "each target is one of the functions")]
mod cases;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cases::ktap(data));

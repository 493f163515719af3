//! The identity of one boot of a kernel, and the proof that a guest has it.

use luqual_model::KernelInfo;
use luqual_protocol::{Hello, NONCE_OPTION};
use luqual_vm::{Mode, kernel_options};

/// One boot of a kernel.
pub(crate) struct Identity<'a> {
    pub(crate) kernel: &'a KernelInfo,
    /// Options that are added to its command line.
    options: String,
    nonce: String,
}

impl Identity<'_> {
    /// The identity of a boot of `kernel`; `nonce` has to differ for each boot.
    pub(crate) fn new<'a>(kernel: &'a KernelInfo, options: String, nonce: u64) -> Identity<'a> {
        Identity { kernel, options, nonce: format!("{nonce:016x}") }
    }

    /// Whether `hello` has the nonce of this boot, whatever else it has.
    pub(crate) fn has_nonce_of(&self, hello: &Hello) -> bool {
        hello.nonce == self.nonce
    }

    /// The kernel's whole command line.
    pub(crate) fn command_line(&self, mode: Mode) -> String {
        let words = [&self.kernel.command_line, &self.options, &kernel_options(mode)];
        let mut line =
            words.into_iter().filter(|words| !words.is_empty()).map(String::as_str).collect::<Vec<&str>>().join(" ");
        line.push_str(&format!(" {NONCE_OPTION}{}", self.nonce));
        line
    }

    /// Checks that `hello` is from this boot: its nonce, and the release and build id of the image. An error says
    /// what differs.
    pub(crate) fn check(&self, hello: &Hello) -> Result<(), String> {
        let differ = |what: &str, expected: &str, observed: &str| {
            Err(format!("the kernel that answered has {what} {observed}, {} has {expected}", self.kernel.name))
        };
        if hello.nonce != self.nonce {
            return differ("nonce", &self.nonce, &hello.nonce);
        }
        if hello.release != self.kernel.release {
            return differ("release", &self.kernel.release, &hello.release);
        }
        match &self.kernel.build_id {
            Some(build_id) if *build_id != hello.build_id => differ("build id", build_id, &hello.build_id),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

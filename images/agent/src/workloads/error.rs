//! Why a step of a workload was not done.

use crate::errno::errno_name;
use crate::kexec::LoadError;
use luqual_protocol::NotDone;
use rustix::io::Errno;

/// Why a step was not done.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The kernel refused a call.
    Refused { call: &'static str, errno: Errno, about: String },
    /// A program refused something; `how` says how.
    Declined { call: String, how: String, about: String },
    /// The agent failed. That says nothing about the kernel.
    Agent(String),
    /// The case does not hold something. In a target, that is what the kernel did not give back, for which a probe has
    /// failed; in the first source, the agent failed.
    NotHeld(String),
    /// The machine or the kernel lacks what the case needs.
    Missing(String),
}

impl StepError {
    /// For `map_err` on a call that the kernel can refuse.
    pub(crate) fn refused(call: &'static str, about: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let about = about.into();
        move |errno| Self::Refused { call, errno, about }
    }

    /// For `map_err` on anything else.
    pub(crate) fn agent<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Agent(format!("{what}: {error}"))
    }

    /// A case ends where the kernel did not give back what it needs: a probe says so already.
    pub(crate) fn unless_lost(ended: Result<(), Self>) -> Result<(), Self> {
        match ended {
            Err(Self::NotHeld(_)) => Ok(()),
            ended => ended,
        }
    }
}

impl From<LoadError> for StepError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Agent(message) => Self::Agent(message),
            LoadError::Kernel(errno) => Self::refused("kexec_file_load", "the target kernel")(errno),
        }
    }
}

impl From<StepError> for NotDone {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Refused { call, errno, about } => {
                Self::Refused { call: call.to_owned(), errno: errno_name(errno), about }
            }
            StepError::Declined { call, how, about } => Self::Refused { call, errno: how, about },
            StepError::Agent(message) => Self::Failed { message },
            StepError::NotHeld(what) => Self::Failed { message: format!("{what} is not held") },
            StepError::Missing(what) => Self::Missing { what },
        }
    }
}

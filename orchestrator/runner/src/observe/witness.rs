//! What a witness says: what it heard, or why it could hear nothing. "None heard" can only be said by a witness that
//! has proved, in the same boot and of the same device or page, that it hears.

use std::fmt;

/// What a witness heard, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard<T>(Vec<T>);

impl<T> Heard<T> {
    /// All of it; empty if nothing happened.
    pub(crate) fn all(&self) -> &[T] {
        &self.0
    }
}

/// A witness that hears. It is only made by [`Hears::by`], and [`Heard`] only by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hears(());

impl Hears {
    /// A witness proves itself by something that it had to hear or see. `deaf` says what that was.
    pub(crate) fn by(is_heard: bool, deaf: impl FnOnce() -> Deaf) -> Result<Self, Deaf> {
        if is_heard { Ok(Self(())) } else { Err(deaf()) }
    }

    /// What the witness heard.
    pub(crate) fn heard<T>(self, heard: impl IntoIterator<Item = T>) -> Heard<T> {
        Heard(heard.into_iter().collect())
    }
}

/// Why a witness says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deaf {
    /// The witness.
    pub(crate) witness: &'static str,
    /// What it should have heard, and did not.
    pub(crate) why: String,
    /// What the user can do.
    pub(crate) remedy: &'static str,
}

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { witness, why, remedy } = self;
        write!(f, "{witness} cannot be believed: {why}; {remedy}")
    }
}

/// What to do about a witness that is luqual's own.
pub(crate) const REPORT_IT: &str = "please report this with the cell's evidence folder";

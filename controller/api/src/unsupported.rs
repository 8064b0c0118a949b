//! Options of the API that this release does not carry: they are refused, never taken and forgotten.

use crate::fault::Fault;

/// Options somebody asked for that cannot be had; the first is told. Kept until the whole body is read, because a
/// body that is wrong is refused with 400 whatever else it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsupported(Option<String>);

impl Unsupported {
    /// Notes a sentence, without its full stop, on what cannot be had.
    pub(crate) fn note(&mut self, sentence: impl Into<String>) {
        if self.0.is_none() {
            self.0 = Some(sentence.into());
        }
    }

    /// Notes that `what` cannot be had, if it was asked for.
    pub(crate) fn note_if(&mut self, asked: bool, what: &str) {
        if asked {
            self.note(format!("{what} cannot be had in this release"));
        }
    }

    /// Refuses with 501 if anything was noted.
    pub(crate) fn refuse(self) -> Result<(), Fault> {
        match self.0 {
            None => Ok(()),
            Some(sentence) => Err(Fault::unsupported_option(&format!("{sentence}."))),
        }
    }
}

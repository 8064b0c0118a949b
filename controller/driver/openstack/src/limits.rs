//! The bounds of everything here (I12), each with its reason; what a deployment may choose is in `settings`.

use std::time::Duration;

/// An answer of the identity service: a token without its catalog is hundreds of bytes, with many roles a few
/// thousand.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The longest token that is asked about: those in use have a few hundred characters, signed ones a few thousand.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Questions about tokens on their way at once: more would only queue at the identity service.
pub(crate) const QUESTIONS_MAX: usize = 32;
/// Questions to the key manager on their way at once: more would only queue there.
pub(crate) const SECRET_QUESTIONS_MAX: usize = 16;
/// Tokens that were refused and are remembered, apart from the good ones so that nobody can push those out.
pub(crate) const REFUSED_MAX: usize = 4_096;
/// Idle connections kept for the next question.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 8;
/// How long they are kept: less than servers usually do.
pub(crate) const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a connection may take to be made, at most the time a whole answer may take.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// After an identity service could not be reached nobody asks for this long: every request would wait for nothing.
pub(crate) const OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// After it refused our own login nobody tries again for this long: it may lock the account out.
pub(crate) const LOGIN_PAUSE: Duration = Duration::from_secs(10);
/// Our own token is renewed this long before it ends, so that it does not end on the way.
pub(crate) const RENEWAL_MARGIN: Duration = Duration::from_secs(60);

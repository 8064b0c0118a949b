//! The authenticator of an identity service against one that only pretends and fails in every way.

#[cfg(test)]
mod barbican;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod tests;

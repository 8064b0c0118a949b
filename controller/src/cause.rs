//! Errors with what caused them, for logs and for people.

/// An error with its causes, as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Unread(#[source] io::Error);

    #[test]
    fn causes_follow_each_other() {
        assert_eq!(
            chain(&Unread(io::Error::other("the disk broke"))),
            "cannot read the file: the disk broke"
        );
    }
}

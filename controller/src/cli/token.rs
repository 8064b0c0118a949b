//! `krater token …`: tokens for the file of tokens.

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use krater_driver_local::TokenFile;

use super::{TokenVerb, fail, say};
use crate::chance;

pub(super) fn run(verb: &TokenVerb) -> ExitCode {
    let text = match verb {
        TokenVerb::New => Ok(new()),
        TokenVerb::Hash => read().and_then(|text| hash(&text)),
    };
    match text {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn new() -> String {
    // Two ids have 244 random bits.
    let token = format!(
        "{}{}",
        chance::random_uuid().simple(),
        chance::random_uuid().simple()
    );
    let hash = TokenFile::hash(&token);
    format!("token  = \"{token}\"\nsha256 = \"{hash}\"\n")
}

fn read() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("the token cannot be read from the standard input")?;
    Ok(text)
}

fn hash(text: &str) -> anyhow::Result<String> {
    let token = text.trim_end_matches(['\r', '\n']);
    if token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        bail!("a token has neither spaces nor characters that a header cannot carry");
    }
    if token.len() < TOKEN_CHARACTERS_MIN {
        bail!(
            "a token needs at least {TOKEN_CHARACTERS_MIN} characters, or its hash gives it away; krater token new makes one"
        );
    }
    Ok(format!("sha256 = \"{}\"\n", TokenFile::hash(token)))
}

/// What nobody finds by trying, if it is at all random.
const TOKEN_CHARACTERS_MIN: usize = 24;
const INPUT_BYTES_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_long_its_own_and_comes_with_its_hash() {
        let (one, two) = (new(), new());
        assert_ne!(one, two);
        let mut values = one.split('"').skip(1).step_by(2);
        let (token, hash) = (values.next().unwrap(), values.next().unwrap());
        assert_eq!((token.len(), TokenFile::hash(token).as_str()), (64, hash));
        assert_eq!(
            super::hash(token).unwrap(),
            format!("sha256 = \"{hash}\"\n")
        );
    }

    #[test]
    fn what_is_no_good_token_gets_no_hash() {
        for wrong in [
            "",
            "short",
            "with a space in the middle of it",
            "umläute-sind-nicht-erlaubt",
        ] {
            assert!(hash(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            hash(&"x".repeat(24)).unwrap(),
            hash(&format!("{}\r\n", "x".repeat(24))).unwrap()
        );
    }
}

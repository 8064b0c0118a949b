//! Where the database is, who we are there, and how much of it we use.

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

use crate::StoreError;

/// How to use a database on a server.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `postgres://user@host:port/database?sslmode=verify-full`, or `postgres://user@localhost/database?host=/run/postgresql`,
    /// without a password.
    pub url: String,
    /// The password, if one is needed.
    pub password: Option<Zeroizing<String>>,
    /// The most connections of this process; at least two.
    pub connections_max: u32,
    /// How long a statement may take, or wait for a row that others hold.
    pub statement_timeout: Duration,
}

impl ServerSettings {
    /// Reads a URL as far as it has to be understood here; the error is a sentence.
    ///
    /// # Errors
    /// When it is none, or holds a password.
    pub fn check_url(url: &str) -> Result<(), String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| {
                "is not a URL like postgres://krater@db.example.test/krater".to_owned()
            })?;
        let (authority, query) = split(rest);
        let user = authority.split('/').next().unwrap_or_default();
        let user = user.rsplit_once('@').map_or("", |(user, _)| user);
        let asks_for = |name: &str| query.split('&').any(|pair| pair.starts_with(name));
        if user.contains(':') || asks_for("password=") {
            return Err(
                "must not hold the password: use store.password_file or KRATER_STORE_PASSWORD"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// What people call the database: never more than the URL, which holds no secret.
    #[must_use]
    pub fn name(&self) -> String {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, query) = split(rest);
        let place = authority
            .split_once('@')
            .map_or(authority, |(_, place)| place);
        let socket = query.split('&').find_map(|pair| pair.strip_prefix("host="));
        match (socket, place.split_once('/')) {
            (Some(folder), Some((_, database))) => format!("{folder}/{database}"),
            _ => place.to_owned(),
        }
    }

    /// The URL with the password, for the connection alone.
    pub(super) fn full_url(&self) -> Result<Zeroizing<String>, StoreError> {
        use fmt::Write as _;

        Self::check_url(&self.url)
            .map_err(|reason| StoreError::Defect(format!("store.url {reason}")))?;
        let mut url = Zeroizing::new(self.url.clone());
        let mut add = |name: &str, value: &str| {
            let sign = if url.contains('?') { '&' } else { '?' };
            let _ = write!(url, "{sign}{name}=");
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() {
                    url.push(char::from(byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(url, "%{byte:02X}");
                }
            }
        };
        if let Some(password) = &self.password {
            add("password", password);
        }
        if !self.url.contains("application_name=") {
            add("application_name", "krater");
        }
        Ok(url)
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("url", &self.url)
            .field("connections_max", &self.connections_max)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

fn split(rest: &str) -> (&str, &str) {
    rest.split_once('?').unwrap_or((rest, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, password: Option<&str>) -> ServerSettings {
        ServerSettings {
            url: url.to_owned(),
            password: password.map(|text| Zeroizing::new(text.to_owned())),
            connections_max: 2,
            statement_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_password_is_in_the_full_url_only() {
        let settings = settings(
            "postgres://krater@db:5432/lb?sslmode=require",
            Some("p@ss/ä&"),
        );
        assert_eq!(
            settings.full_url().unwrap().as_str(),
            "postgres://krater@db:5432/lb?sslmode=require&password=p%40ss%2F%C3%A4%26&application_name=krater"
        );
        assert_eq!(settings.name(), "db:5432/lb");
        assert!(!format!("{settings:?}").contains("p@ss"));
    }

    #[test]
    fn a_socket_names_the_folder() {
        let settings = settings("postgres://krater@localhost/lb?host=/run/postgresql", None);
        assert_eq!(settings.name(), "/run/postgresql/lb");
    }

    #[test]
    fn urls_that_are_none_or_tell_too_much_are_refused() {
        for url in [
            "mysql://x/y",
            "db",
            "postgres://a:b@c/d",
            "postgres://c/d?password=b",
        ] {
            assert!(ServerSettings::check_url(url).is_err(), "{url}");
        }
        ServerSettings::check_url("postgresql://a@[::1]:5432/d").unwrap();
    }
}

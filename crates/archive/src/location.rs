//! Where an archive is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Schemes of stores that are not folders.
const SCHEMES: [&str; 6] = ["s3://", "az://", "abfss://", "gs://", "http://", "https://"];

/// Where an archive is: a folder, or a bucket's URL with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder of this host.
    Directory(PathBuf),
    /// `s3://BUCKET[/PREFIX]`, `az://CONTAINER[/PREFIX]`, `gs://BUCKET[/PREFIX]`, or a provider's
    /// own https URL.
    Url(String),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        if text.is_empty() {
            return Err("an archive's place is empty; write a folder or s3://BUCKET/PREFIX".into());
        }
        if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            // A place is shown in messages. Azure's `abfss://CONTAINER@ACCOUNT…` is no secret.
            let authority = text.split("://").nth(1).and_then(|rest| rest.split('/').next());
            let has_password = authority
                .and_then(|authority| authority.rsplit_once('@'))
                .is_some_and(|(user, _)| user.contains(':'));
            if has_password || text.contains('?') {
                return Err(
                    "an archive's URL holds no credentials and no options; set them in the \
                     environment, or in a file for --store-config"
                        .into(),
                );
            }
            return Ok(Location::Url(text.into()));
        }
        match text.strip_prefix("file://") {
            Some(path) => Ok(Location::Directory(path.into())),
            None if text.contains("://") => Err(format!(
                "`{text}` is no archive's place; write a folder, s3://, az:// or gs://BUCKET/PREFIX"
            )),
            None => Ok(Location::Directory(text.into())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => path.display().fmt(f),
            Location::Url(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_urls_are_told_apart() {
        assert_eq!("/a b".parse(), Ok(Location::Directory("/a b".into())));
        assert_eq!("file:///a".parse(), Ok(Location::Directory("/a".into())));
        assert_eq!("s3://b/p".parse(), Ok(Location::Url("s3://b/p".into())));
        assert!("".parse::<Location>().is_err());
        for secret in ["https://u:hush@h/b", "https://h/b?sig=hush"] {
            let error = secret.parse::<Location>().unwrap_err();
            assert!(error.contains("--store-config") && !error.contains("hush"), "{error}");
        }
        assert!("ftp://b".parse::<Location>().unwrap_err().contains("s3://"));
    }
}

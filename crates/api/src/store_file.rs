//! The file of `--store-config`: how an archive's store is reached.
//!
//! ```toml
//! endpoint = "https://s3.example.org"         # of S3 or a compatible server; default: Amazon's
//! region = "eu-west-1"
//! path_style = true                           # the bucket in the path, not in the host's name
//! allow_http = false                          # without TLS
//! access_key_id = "…"
//! secret_access_key = "…"
//! session_token = "…"
//! credentials_file = "aws-credentials"        # with `profile`; of GCS: a service account's JSON
//! profile = "default"
//! sse = "AES256"                              # or "aws:kms"
//! sse_kms_key_id = "…"
//! object_lock = { mode = "GOVERNANCE", days = 30 }   # or COMPLIANCE
//! legal_hold = false
//! account = "…"                               # of Azure, with account_key or sas_token
//! account_key = "…"
//! sas_token = "…"
//! bandwidth = "10MB"                          # sent in a second at most
//! request_timeout = "30s"                     # beside the time for a request's bytes
//! ```
//!
//! Any key may be left out. Paths are relative to the file's folder. A mistake is shown without the
//! values of its line, as they may be secret.

use crate::file::{self, Fault, Node, Value, number};
use crate::keys::Keys;
use crate::{FileError, parse_duration, parse_size};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that the file may have.
const BYTES_MAX: u64 = 1 << 20;

/// Days that an object may be locked: a century.
const DAYS_MAX: u32 = 36_500;

const KEYS: [&str; 18] = [
    "endpoint",
    "region",
    "path_style",
    "allow_http",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "credentials_file",
    "profile",
    "sse",
    "sse_kms_key_id",
    "object_lock",
    "legal_hold",
    "account",
    "account_key",
    "sas_token",
    "bandwidth",
    "request_timeout",
];

/// How an archive's store is reached. `Debug` shows no secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreFile {
    /// URL of an S3 server.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Whether the bucket stands in the path, not in the host's name.
    pub path_style: Option<bool>,
    /// Whether the endpoint may be reached without TLS.
    pub allow_http: Option<bool>,
    /// Access key of S3.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<String>,
    /// Token of credentials that end.
    pub session_token: Option<String>,
    /// A file with credentials: Amazon's of several profiles, or a service account of GCS.
    pub credentials_file: Option<PathBuf>,
    /// The profile in it.
    pub profile: Option<String>,
    /// Encryption by the server.
    pub sse: Option<ServerEncryption>,
    /// The key of `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// How long an object can neither be removed nor replaced.
    pub object_lock: Option<ObjectLock>,
    /// Whether each object is put under a legal hold of the store's.
    pub legal_hold: bool,
    /// Storage account of Azure.
    pub account: Option<String>,
    /// Its key.
    pub account_key: Option<String>,
    /// Or a token of it.
    pub sas_token: Option<String>,
    /// Bytes sent in a second at most.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// The longest that a request may take, beside the time for its bytes.
    pub request_timeout: Option<Duration>,
}

/// Who keeps the key that objects are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEncryption {
    /// The store itself.
    Aes256,
    /// Its key service.
    Kms,
}

/// How long an object can neither be removed nor replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLock {
    /// Whether nobody at all may lift it; else those with the right to.
    pub is_compliance: bool,
    /// Days from when the object is stored.
    pub days: u32,
}

impl StoreFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or its first mistake.
    pub fn read(path: &Path) -> Result<StoreFile, FileError> {
        let content = file::read(path, BYTES_MAX, "a store's settings are a few lines")?;
        StoreFile::parse(path, &content)
    }

    /// Reads a file's content; `path` is what messages call it.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(path: &Path, content: &[u8]) -> Result<StoreFile, FileError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let parsed = file::text(content, "write a store's settings as TOML")
            .and_then(|text| parse(&file::from_toml(text)?, folder));
        parsed.map_err(|fault| {
            let mut error = fault.of(&path.display().to_string(), content);
            error.line = match error.line.split_once('=') {
                Some((key, _)) => format!("{key}= …"),
                None => String::new(),
            };
            error
        })
    }
}

impl fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFile")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("sse", &self.sse)
            .field("object_lock", &self.object_lock)
            .field("legal_hold", &self.legal_hold)
            .finish_non_exhaustive()
    }
}

fn parse(node: &Node, folder: &Path) -> Result<StoreFile, Fault> {
    let keys = Keys::new(node, "store", &KEYS, folder)?;
    let file = StoreFile {
        endpoint: keys.text("endpoint")?,
        region: keys.text("region")?,
        path_style: optional_flag(&keys, "path_style")?,
        allow_http: optional_flag(&keys, "allow_http")?,
        access_key_id: keys.text("access_key_id")?,
        secret_access_key: keys.text("secret_access_key")?,
        session_token: keys.text("session_token")?,
        credentials_file: keys.text("credentials_file")?.map(|path| keys.beside(path)),
        profile: keys.text("profile")?,
        sse: keys.word(
            "sse",
            &[("AES256", ServerEncryption::Aes256), ("aws:kms", ServerEncryption::Kms)],
        )?,
        sse_kms_key_id: keys.text("sse_kms_key_id")?,
        object_lock: keys.get("object_lock").map(|node| object_lock(node, folder)).transpose()?,
        legal_hold: keys.flag("legal_hold", false)?,
        account: keys.text("account")?,
        account_key: keys.text("account_key")?,
        sas_token: keys.text("sas_token")?,
        bandwidth_bytes_per_s: quantity(&keys, "bandwidth", "\"10MB\"", parse_size)?,
        request_timeout: quantity(&keys, "request_timeout", "\"30s\"", parse_duration)?,
    };
    let pair =
        [("access_key_id", &file.access_key_id), ("secret_access_key", &file.secret_access_key)];
    if let [(there, Some(_)), (missing, None)] | [(missing, None), (there, Some(_))] = pair {
        return Err(Fault::new(
            keys.place_of(there),
            format!("{there} stands here without {missing}"),
        ));
    }
    if file.profile.is_some() && file.credentials_file.is_none() {
        let reason = "profile stands here without credentials_file";
        return Err(Fault::new(keys.place_of("profile"), reason));
    }
    if file.sse_kms_key_id.is_some() && file.sse != Some(ServerEncryption::Kms) {
        let reason = "sse_kms_key_id stands here without sse = \"aws:kms\"";
        return Err(Fault::new(keys.place_of("sse_kms_key_id"), reason));
    }
    if file.bandwidth_bytes_per_s == Some(0) {
        return Err(Fault::new(keys.place_of("bandwidth"), "bandwidth is 0; leave it out"));
    }
    Ok(file)
}

fn object_lock(node: &Node, folder: &Path) -> Result<ObjectLock, Fault> {
    let keys = Keys::new(node, "lock", &["mode", "days"], folder)?;
    let mode = keys.word("mode", &[("GOVERNANCE", false), ("COMPLIANCE", true)])?;
    let (Some(is_compliance), Some(days)) = (mode, keys.get("days")) else {
        return Err(Fault::new(node.at, "a lock has a mode and days; write both"));
    };
    match number(days, "days", DAYS_MAX)? {
        count if count == 0 || count > DAYS_MAX => {
            Err(Fault::new(days.at, format!("days {count} is not from 1 to {DAYS_MAX}")))
        }
        count => Ok(ObjectLock { is_compliance, days: count }),
    }
}

fn optional_flag(keys: &Keys<'_>, name: &str) -> Result<Option<bool>, Fault> {
    keys.get(name).map(|_| keys.flag(name, false)).transpose()
}

fn quantity<T>(
    keys: &Keys<'_>,
    name: &str,
    example: &str,
    read: fn(&str) -> Result<T, crate::Error>,
) -> Result<Option<T>, Fault> {
    let Some(node) = keys.get(name) else { return Ok(None) };
    let Value::Text(text) = &node.value else {
        let kind = node.value.kind();
        return Err(Fault::new(
            node.at,
            format!("{name} is {kind}; write it in quotes, {example}"),
        ));
    };
    match read(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Fault::new(node.at, format!("{name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreFile, FileError> {
        StoreFile::parse(Path::new("dir/store.toml"), text.as_bytes())
    }

    #[test]
    fn everything_is_read() {
        let file = parse(
            r#"
            endpoint = "http://127.0.0.1:9000"
            region = "eu-west-1"
            path_style = true
            allow_http = true
            access_key_id = "id"
            secret_access_key = "hush"
            credentials_file = "keys"
            profile = "p"
            sse = "aws:kms"
            sse_kms_key_id = "k"
            object_lock = { mode = "COMPLIANCE", days = 30 }
            legal_hold = true
            bandwidth = "10MB"
            request_timeout = "5s"
            "#,
        )
        .unwrap();
        assert_eq!(file.credentials_file, Some("dir/keys".into()));
        assert_eq!(file.object_lock, Some(ObjectLock { is_compliance: true, days: 30 }));
        assert_eq!(file.bandwidth_bytes_per_s, Some(10_000_000));
        assert_eq!(file.request_timeout, Some(Duration::from_secs(5)));
        assert!(file.legal_hold && file.sse == Some(ServerEncryption::Kms));
        assert!(!format!("{file:?}").contains("hush"));
        assert_eq!(parse("").unwrap(), StoreFile::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_without_secrets() {
        for (text, said) in [
            ("secret_acess_key = \"hush\"", "did you mean `secret_access_key`?"),
            ("secret_access_key = \"hush", "not TOML"),
            ("session_token = [\"hush\"]", "session_token is an array"),
            ("access_key_id = \"hush\"", "without secret_access_key"),
            ("secret_access_key = \"hush\"", "without access_key_id"),
            ("object_lock = { days = 3 }", "a lock has a mode and days"),
            ("object_lock = { mode = \"GOVERNANCE\", days = 0 }", "days 0 is not from 1"),
            ("object_lock = { mode = \"none\", days = 1 }", "write \"GOVERNANCE\" or"),
            ("sse = \"rot13\"", "write \"AES256\" or \"aws:kms\""),
            ("sse_kms_key_id = \"k\"", "without sse"),
            ("profile = \"p\"", "without credentials_file"),
            ("bandwidth = 10", "bandwidth is a number"),
            ("bandwidth = \"0MB\"", "bandwidth is 0; leave it out"),
            ("request_timeout = \"0s\"", "longer than zero"),
            ("path_style = \"yes\"", "true or false"),
        ] {
            let error = parse(text).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(said), "{text}: {shown}");
            assert!(!shown.contains("hush") && error.place.is_some(), "{shown}");
        }
    }
}

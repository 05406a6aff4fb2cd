//! How a store is reached.

use super::credentials;
use api::{ObjectLock, ServerEncryption, StoreFile};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Beginnings of the environment's variables that are taken up.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// How a store is reached. `Debug` shows no values of settings, as there are secrets among them.
#[derive(Clone)]
pub struct StoreOptions {
    /// Settings of object_store by their names in lower case: `aws_access_key_id`, `aws_endpoint`,
    /// `azure_storage_account_name`, `google_service_account` and so on. A folder needs none.
    pub settings: BTreeMap<String, String>,
    /// Bytes sent in a second at most, over all objects; `None` is no bound.
    pub bytes_per_s_max: Option<u64>,
    /// The longest that a request may take, beside the time for its bytes.
    pub request_time_max: Duration,
    /// What a request's bytes take at most is reckoned with this rate, in bytes per second: a link
    /// that is slower than this does not serve.
    pub bytes_per_s_min: u64,
    /// What keeps objects of S3 from being removed.
    pub retention: Option<Retention>,
}

/// What keeps an object of S3 from being removed, from when it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For so long.
    pub lock: Option<ObjectLock>,
    /// Until the hold is lifted, at the store.
    pub legal_hold: bool,
}

impl Default for StoreOptions {
    /// No settings, no bound on the bandwidth, 30 s and 64 KiB/s.
    fn default() -> StoreOptions {
        StoreOptions {
            settings: BTreeMap::new(),
            bytes_per_s_max: None,
            request_time_max: Duration::from_secs(30),
            bytes_per_s_min: 64 << 10,
            retention: None,
        }
    }
}

impl StoreOptions {
    /// The defaults, with the settings of the environment: variables that begin with `AWS_`,
    /// `AZURE_` or `GOOGLE_`. Where they give no access to S3, it is the profile `AWS_PROFILE` (else
    /// `default`) of `AWS_SHARED_CREDENTIALS_FILE` (else `~/.aws/credentials`), if there is one.
    pub fn from_environment() -> StoreOptions {
        let mut options = StoreOptions::default();
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                options.settings.insert(name.to_ascii_lowercase(), value.into());
            }
        }
        credentials::add_from_home(&mut options.settings);
        options
    }

    /// Those of the environment, and of the file of `--store-config`, if there is one.
    ///
    /// # Errors
    /// What is wrong with the file, or with one that it names.
    pub fn load(file: Option<&Path>) -> Result<StoreOptions, String> {
        let options = StoreOptions::from_environment();
        match file {
            Some(path) => {
                let file = StoreFile::read(path).map_err(|error| error.to_string())?;
                options.with_file(&file)
            }
            None => Ok(options),
        }
    }

    /// The same with what a file says, which goes before the environment.
    ///
    /// # Errors
    /// If the file with credentials that it names cannot be read, or does not have the profile.
    pub fn with_file(mut self, file: &StoreFile) -> Result<StoreOptions, String> {
        let sse = file.sse.map(|sse| match sse {
            ServerEncryption::Aes256 => "AES256".to_owned(),
            ServerEncryption::Kms => "sse:kms".to_owned(),
        });
        let flag = |flag: bool| flag.to_string();
        let own = [
            ("aws_endpoint", file.endpoint.clone()),
            ("azure_storage_endpoint", file.endpoint.clone()),
            ("aws_region", file.region.clone()),
            ("aws_virtual_hosted_style_request", file.path_style.map(|style| flag(!style))),
            ("aws_allow_http", file.allow_http.map(flag)),
            ("azure_allow_http", file.allow_http.map(flag)),
            ("aws_access_key_id", file.access_key_id.clone()),
            ("aws_secret_access_key", file.secret_access_key.clone()),
            ("aws_session_token", file.session_token.clone()),
            ("aws_server_side_encryption", sse),
            ("aws_sse_kms_key_id", file.sse_kms_key_id.clone()),
            ("azure_storage_account_name", file.account.clone()),
            ("azure_storage_account_key", file.account_key.clone()),
            ("azure_storage_sas_key", file.sas_token.clone()),
        ];
        if let Some(path) = &file.credentials_file {
            let profile = file.profile.as_deref().unwrap_or("default");
            self.settings.extend(credentials::read(path, profile)?);
        }
        if file.access_key_id.is_some() {
            // A token belongs to its key.
            self.settings.retain(|name, _| !matches!(&**name, "aws_session_token" | "aws_token"));
        }
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.settings.extend(own);
        if file.object_lock.is_some() || file.legal_hold {
            self.retention =
                Some(Retention { lock: file.object_lock, legal_hold: file.legal_hold });
        }
        self.bytes_per_s_max = file.bandwidth_bytes_per_s.or(self.bytes_per_s_max);
        self.request_time_max = file.request_timeout.unwrap_or(self.request_time_max);
        Ok(self)
    }

    /// The same with one setting more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> StoreOptions {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// The longest that a request with so many bytes may take.
    pub(super) fn time_max(&self, bytes: u64) -> Duration {
        self.request_time_max + Duration::from_secs(bytes / self.bytes_per_s_min.max(1))
    }

    /// Values that stand in no message.
    pub(super) fn secrets(&self) -> Vec<String> {
        const PUBLIC: [&str; 6] = ["endpoint", "region", "bucket", "path", "url", "account_name"];
        let hidden = |name: &str| {
            ["key", "secret", "token", "sas", "credential", "account", "password", "authority"]
                .iter()
                .any(|word| name.contains(word))
                && !PUBLIC.iter().any(|word| name.ends_with(word))
        };
        // A value such as "true" is no secret, and its letters may stand anywhere.
        let entries = self.settings.iter().filter(|(name, value)| hidden(name) && value.len() > 5);
        entries.map(|(_, value)| value.clone()).collect()
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("settings", &self.settings.keys())
            .field("bytes_per_s_max", &self.bytes_per_s_max)
            .field("request_time_max", &self.request_time_max)
            .field("bytes_per_s_min", &self.bytes_per_s_min)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_and_not_shown() {
        let options = StoreOptions::default()
            .with("aws_secret_access_key", "hush-hush")
            .with("aws_endpoint", "http://127.0.0.1")
            .with("aws_session_token", "tok-tok");
        assert_eq!(options.secrets(), ["hush-hush", "tok-tok"]);
        assert!(!format!("{options:?}").contains("hush"));
        assert_eq!(options.time_max(1 << 20), Duration::from_secs(30 + 16));
    }
}

//! How a store is reached.

use std::collections::BTreeMap;
use std::fmt;
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
}

impl Default for StoreOptions {
    /// No settings, no bound on the bandwidth, 30 s and 64 KiB/s.
    fn default() -> StoreOptions {
        StoreOptions {
            settings: BTreeMap::new(),
            bytes_per_s_max: None,
            request_time_max: Duration::from_secs(30),
            bytes_per_s_min: 64 << 10,
        }
    }
}

impl StoreOptions {
    /// The defaults, with the settings of the environment: variables that begin with `AWS_`,
    /// `AZURE_` or `GOOGLE_`.
    pub fn from_environment() -> StoreOptions {
        let mut options = StoreOptions::default();
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                options.settings.insert(name.to_ascii_lowercase(), value.into());
            }
        }
        options
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

//! From a URL and settings to a client of S3, Azure or GCS.

use super::StoreOptions;
use super::error::{StoreFault, Told, tell};
use super::s3::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as StorePath;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A client, the prefix that the URL names, and what stands beside a client of S3.
pub(super) struct Connected {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: StorePath,
    pub(super) s3: Option<(S3, AmazonS3)>,
}

pub(super) fn connect(url: &str, options: &StoreOptions) -> Result<Connected, Told> {
    let setup = |reason: String, mend| Told { fault: StoreFault::Setup, reason, mend };
    let parsed: url::Url = url.parse().map_err(|e| setup(format!("no URL: {e}"), ""))?;
    let (scheme, prefix) =
        ObjectStoreScheme::parse(&parsed).map_err(|e| setup(e.to_string(), ""))?;
    let mut beside = None;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = settings(options, |builder: AmazonS3Builder, key, value| {
                builder.with_config(key, value)
            });
            let s3 = S3::new(options.retention);
            let builder = builder
                .with_url(url)
                .with_checksum_algorithm(Checksum::SHA256)
                .with_retry(retry())
                .with_http_connector(s3.clone());
            let store = builder.build().map_err(|e| tell(&e))?;
            s3.belongs_to(&store);
            beside = Some((s3, store.clone()));
            Arc::new(store)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = settings(options, |builder: MicrosoftAzureBuilder, key, value| {
                builder.with_config(key, value)
            });
            let builder = builder.with_url(url).with_retry(retry());
            Arc::new(builder.build().map_err(|e| tell(&e))?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = settings(options, |builder: GoogleCloudStorageBuilder, key, value| {
                builder.with_config(key, value)
            });
            let builder = builder.with_url(url).with_retry(retry());
            Arc::new(builder.build().map_err(|e| tell(&e))?)
        }
        _ => {
            let mend = "; write s3://BUCKET/PREFIX, az:// or gs://, and set the endpoint apart \
                 (AWS_ENDPOINT_URL, or endpoint in --store-config)";
            return Err(setup("no store that is known".into(), mend));
        }
    };
    if options.retention.is_some() && beside.is_none() {
        let mend = "; set a retention policy on the bucket or container itself, and leave \
             object_lock and legal_hold out";
        return Err(setup("object locks are put on objects of S3 only".into(), mend));
    }
    Ok(Connected { store, prefix, s3: beside })
}

/// A builder with all settings that it knows; those for other providers are passed over.
fn settings<B: Default, K: FromStr>(options: &StoreOptions, with: impl Fn(B, K, String) -> B) -> B {
    let mut builder = B::default();
    for (name, value) in defaults().chain(options.settings.clone()) {
        if let Ok(key) = name.parse() {
            builder = with(builder, key, value);
        }
    }
    builder
}

/// Settings that others may replace. Requests have no bound of the client's own: ours goes by their
/// bytes.
fn defaults() -> impl Iterator<Item = (String, String)> {
    let connect = format!("{} seconds", CONNECT_TIME_MAX.as_secs());
    [("connect_timeout".into(), connect), ("timeout".into(), "1 day".into())].into_iter()
}

/// Few and quick tries again: who calls us has time, and may want to stop.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}

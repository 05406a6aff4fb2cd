//! What object_store does not say to S3: it stands between object_store and the network, and signs
//! anew what it changes.
//!
//! - Objects are put with a lock or a legal hold, if that is wanted: headers of the requests that
//!   make an object.
//! - A look-up asks for the SHA-256 that the store keeps: it is handed on as metadata of the object.
//! - Uploads that did not end are listed and taken back, and objects are listed by keys that
//!   object_store has no name for.

use super::error::{Told, deepest, tell_status};
use super::xml::{self, Listing, Upload};
use super::{Object, Retention};
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Request};
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path as StorePath;
use object_store::signer::Signer;
use object_store::{Attribute, Attributes, ClientOptions, CredentialProvider};
use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

const SHA256: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-s3session-token");
const LOCK_MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const LOCK_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
const LEGAL_HOLD: HeaderName = HeaderName::from_static("x-amz-object-lock-legal-hold");

/// The name of the metadata that a store's SHA-256 is handed on as, and its header.
const HANDED_ON: &str = "tapline-sha256";
const HANDED_ON_HEADER: HeaderName = HeaderName::from_static("x-amz-meta-tapline-sha256");

/// Gives what to sign with. It belongs to object_store's client, which has one of us.
type Credentials = Weak<dyn CredentialProvider<Credential = AwsCredential>>;

/// S3, beside object_store. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct S3 {
    retention: Option<Retention>,
    credentials: Arc<OnceLock<Credentials>>,
    /// The newest connection of object_store's.
    client: Arc<Mutex<Option<HttpClient>>>,
}

/// A bucket's URL, and its region.
pub(super) struct Bucket {
    pub(super) url: String,
    pub(super) region: String,
}

impl S3 {
    pub(super) fn new(retention: Option<Retention>) -> S3 {
        S3 { retention, credentials: Arc::default(), client: Arc::default() }
    }

    /// Tells what to sign with, as soon as there is a client.
    pub(super) fn belongs_to(&self, store: &AmazonS3) {
        // It is told once.
        let _ = self.credentials.set(Arc::downgrade(store.credentials()));
    }

    /// Asks a client of which bucket it is.
    pub(super) async fn bucket(store: &AmazonS3) -> object_store::Result<Bucket> {
        let name = StorePath::from("x");
        let signed = store.signed_url(Method::GET, &name, Duration::from_secs(60)).await?;
        let scope = signed.query_pairs().find(|(name, _)| name == "X-Amz-Credential");
        let region = scope.and_then(|(_, scope)| region_of(&scope).map(str::to_owned));
        let url = signed[..url::Position::AfterPath].strip_suffix("/x").unwrap_or_default();
        Ok(Bucket { url: url.into(), region: region.unwrap_or_default() })
    }

    /// The SHA-256 that the store gives for an object, in base64; with `-` and the number of parts, it
    /// is that of the parts' hashes.
    pub(super) fn checksum(attributes: &Attributes) -> Option<&str> {
        attributes.get(&Attribute::Metadata(HANDED_ON.into())).map(|value| &**value)
    }

    /// Changes a request that object_store has made, and signs it again.
    async fn change(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let headers = request.headers();
        let signed = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scope = signed.and_then(|text| {
            let text = text.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
            text.split(',').next()
        });
        // What is not signed may be for another server, one that gives credentials.
        let Some(region) = scope.and_then(region_of).map(str::to_owned) else { return Ok(()) };
        if headers.contains_key(SESSION_TOKEN) {
            return Ok(());
        }
        let query = request.uri().query().unwrap_or_default();
        let makes_object = match *request.method() {
            Method::PUT => !query.contains("partNumber="),
            Method::POST => query.starts_with("uploads"),
            _ => false,
        };
        let headers = request.headers_mut();
        if let Some(retention) = self.retention.filter(|_| makes_object) {
            for (name, value) in lock_headers(&retention, Timestamp::now()) {
                headers.insert(name, value);
            }
        } else if *request.method() == Method::HEAD {
            request.headers_mut().insert(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        } else {
            return Ok(());
        }
        self.sign(&region, request).await
    }

    async fn sign(&self, region: &str, request: &mut HttpRequest) -> Result<(), HttpError> {
        let failed = |e| HttpError::new(HttpErrorKind::Unknown, e);
        let Some(credentials) = self.credentials.get().and_then(Weak::upgrade) else {
            return Err(failed(object_store::Error::NotImplemented {
                operation: "sign".into(),
                implementer: "a client that is gone".into(),
            }));
        };
        let credential = credentials.get_credential().await.map_err(failed)?;
        let headers = request.headers_mut();
        headers.remove(AUTHORIZATION);
        let digest = headers.remove(CONTENT_SHA256);
        let digest = digest.as_ref().and_then(|value| value.to_str().ok());
        let bytes = digest.and_then(from_hex);
        let is_unsigned = digest.is_some() && bytes.is_none();
        AwsAuthorizer::new(&credential, "s3", region)
            .with_sign_payload(!is_unsigned)
            .authorize(request, bytes.as_deref());
        Ok(())
    }

    /// Asks with a query of its own, which object_store has no function for.
    async fn ask(&self, method: Method, region: &str, url: &str) -> Result<String, Told> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client else {
            return Err(Told::unavailable("it is not connected".into()));
        };
        let failed = |error: &dyn Error| Told::unavailable(deepest(error));
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .body(HttpRequestBody::empty())
            .map_err(|e| failed(&e))?;
        self.sign(region, &mut request).await.map_err(|e| failed(&e))?;
        let response = client.execute(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(|e| failed(&e))?;
        let body = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(body),
            false => Err(tell_status(status.as_u16(), &body)),
        }
    }

    /// A page of the objects of a bucket whose keys begin so, and the token of the next page.
    pub(super) async fn list(
        &self,
        bucket: &Bucket,
        prefix: &str,
        delimiter: &str,
        token: Option<&str>,
    ) -> Result<Listing<Object>, Told> {
        let mut query = format!("list-type=2&encoding-type=url&prefix={}", xml::encoded(prefix));
        if !delimiter.is_empty() {
            query += &format!("&delimiter={}", xml::encoded(delimiter));
        }
        if let Some(token) = token {
            query += &format!("&continuation-token={}", xml::encoded(token));
        }
        let body =
            self.ask(Method::GET, &bucket.region, &format!("{}?{query}", bucket.url)).await?;
        Ok(xml::objects(&body))
    }

    /// Takes back uploads below a prefix that began before this and did not end. Gives their number.
    pub(super) async fn abort_uploads(
        &self,
        bucket: &Bucket,
        prefix: &str,
        before: SystemTime,
    ) -> Result<u64, Told> {
        let Bucket { url: bucket_url, region } = bucket;
        let mut marker: Option<Upload> = None;
        let mut aborted = 0;
        loop {
            let mut url =
                format!("{bucket_url}?uploads&encoding-type=url&prefix={}", xml::encoded(prefix));
            if let Some(Upload { key, id, .. }) = &marker {
                let (key, id) = (xml::encoded(key), xml::encoded(id));
                url += &format!("&key-marker={key}&upload-id-marker={id}");
            }
            let page = xml::uploads(&self.ask(Method::GET, region, &url).await?);
            let old = page.found.iter().filter(|upload| {
                // One whose time is not understood stays.
                upload.begun.is_some_and(|begun| SystemTime::from(begun) <= before)
            });
            for Upload { key, id, .. } in old {
                let url = format!("{bucket_url}/{}?uploadId={}", xml::path(key), xml::encoded(id));
                match self.ask(Method::DELETE, region, &url).await {
                    Err(told) if told.fault != super::StoreFault::NotFound => return Err(told),
                    // One that is gone was ended by another.
                    _ => aborted += 1,
                }
            }
            let last = page.found.into_iter().next_back();
            match (page.next, last) {
                (Some(_), Some(last)) if marker.as_ref() != Some(&last) => marker = Some(last),
                _ => return Ok(aborted),
            }
        }
    }
}

/// The region in a signature's scope: `key/date/region/service/aws4_request`.
fn region_of(scope: &str) -> Option<&str> {
    scope.rsplit('/').nth(2)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect()
}

fn lock_headers(retention: &Retention, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if let Some(lock) = retention.lock {
        let mode = if lock.is_compliance { "COMPLIANCE" } else { "GOVERNANCE" };
        let days = Duration::from_secs(u64::from(lock.days) * 86_400);
        let until = now.checked_add(days).unwrap_or(Timestamp::MAX);
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        headers.push((LOCK_MODE, HeaderValue::from_static(mode)));
        if let Ok(until) = HeaderValue::from_str(&until) {
            headers.push((LOCK_UNTIL, until));
        }
    }
    if retention.legal_hold {
        headers.push((LEGAL_HOLD, HeaderValue::from_static("ON")));
    }
    headers
}

impl HttpConnector for S3 {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(inner.clone());
        Ok(HttpClient::new(Between { s3: self.clone(), inner }))
    }
}

#[derive(Debug)]
struct Between {
    s3: S3,
    inner: HttpClient,
}

impl HttpService for Between {
    fn call<'a, 'b>(
        &'a self,
        mut request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            self.s3.change(&mut request).await?;
            let is_look_up = request.method() == Method::HEAD;
            let mut response = self.inner.execute(request).await?;
            // Only the store's own word counts as a checksum.
            let checksum = response.headers().get(SHA256).cloned();
            let headers = response.headers_mut();
            headers.remove(HANDED_ON_HEADER);
            if let Some(checksum) = checksum.filter(|_| is_look_up) {
                headers.insert(HANDED_ON_HEADER, checksum);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ObjectLock;

    #[test]
    fn a_lock_ends_days_later() {
        let lock = Some(ObjectLock { is_compliance: true, days: 2 });
        let retention = Retention { lock, legal_hold: true };
        let now: Timestamp = "2026-02-27T10:00:00.5Z".parse().unwrap();
        let headers = lock_headers(&retention, now);
        let shown: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            shown,
            [
                ("x-amz-object-lock-mode", "COMPLIANCE"),
                ("x-amz-object-lock-retain-until-date", "2026-03-01T10:00:00Z"),
                ("x-amz-object-lock-legal-hold", "ON"),
            ]
        );
    }

    #[test]
    fn hexadecimal_digits_are_read() {
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!(from_hex("UNSIGNED-PAYLOAD"), None);
        assert_eq!(region_of("key/with/20261127/eu-west-1/s3/aws4_request"), Some("eu-west-1"));
    }
}

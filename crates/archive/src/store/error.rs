//! What a store refused, in words that hold no credentials.

use super::xml::element;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error;
use std::path::Path;

/// Characters of a store's own words that are repeated.
const WORDS_MAX: usize = 300;

/// What a store refused, or could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {what}: {reason}{mend}")]
pub struct StoreError {
    /// The archive, without credentials.
    pub place: String,
    /// What was tried, on which key.
    pub what: String,
    /// Which kind of trouble it is.
    pub fault: StoreFault,
    /// The store's answer, without credentials.
    pub reason: String,
    /// "; " and the mend, or empty.
    pub mend: &'static str,
}

/// Kinds of trouble with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// There is no such object.
    NotFound,
    /// It refuses: credentials, rights, region, or there is no such bucket. Somebody has to mend it,
    /// there or here.
    Refused,
    /// It cannot be reached, is too slow, wants fewer requests, or is in trouble of its own.
    Unavailable,
    /// It has no room.
    Full,
    /// It said yes, but what it holds is not what was sent.
    Unconfirmed,
    /// The local file cannot be read, or is not what its hash says.
    Local,
    /// The location or an option makes no sense.
    Setup,
}

impl StoreError {
    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.fault == StoreFault::NotFound
    }

    /// Whether the same may go well later, with nothing changed on this host. A refusal counts:
    /// rights, keys and buckets are mended on the store's side.
    pub fn is_passing(&self) -> bool {
        match self.fault {
            StoreFault::Refused
            | StoreFault::Unavailable
            | StoreFault::Full
            | StoreFault::Unconfirmed => true,
            StoreFault::NotFound | StoreFault::Local | StoreFault::Setup => false,
        }
    }
}

/// A fault, the words for it, and its mend.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) fault: StoreFault,
    pub(super) reason: String,
    pub(super) mend: &'static str,
}

impl Told {
    /// A local file cannot be read.
    pub(super) fn local(path: &Path, error: &std::io::Error) -> Told {
        let reason = format!("read {}: {error}", path.display());
        Told { fault: StoreFault::Local, reason, mend: "" }
    }

    /// A local file is not what its hash says.
    pub(super) fn altered(path: &Path) -> Told {
        let reason = format!("{} has another SHA-256 than it had", path.display());
        Told { fault: StoreFault::Local, reason, mend: "; it was altered since it was sealed" }
    }

    pub(super) fn unavailable(reason: String) -> Told {
        Told { fault: StoreFault::Unavailable, reason, mend: "" }
    }

    /// What holds the object does not hold what was sent.
    pub(super) fn unconfirmed() -> Told {
        Told {
            fault: StoreFault::Unconfirmed,
            reason: "it took the object, but does not hold what was sent".into(),
            mend: "; does something between here and the store answer in its place?",
        }
    }
}

const MEND_KEYS: &str = "; check the access key, its secret and their rights";
const MEND_REGION: &str = "; set the bucket's region (AWS_REGION, or region in --store-config)";
const MEND_BUCKET: &str = "; make the bucket, or correct its name";
const MEND_CLOCK: &str = "; set this host's clock";
const MEND_ROOM: &str = "; make room in the store";
const MEND_ENDPOINT: &str =
    "; check the endpoint (AWS_ENDPOINT_URL, or endpoint in --store-config) and the network";
const MEND_ROLE: &str = "; set credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
     --store-config), or run on an instance that has a role";
const MEND_HTTP: &str = "; set AWS_ALLOW_HTTP=true, or allow_http in --store-config";

/// Tells what an HTTP status and the body's code mean.
pub(super) fn tell_status(status: u16, body: &str) -> Told {
    let code = element(body, "Code").unwrap_or_default();
    let is_xml = body.trim_start().starts_with('<');
    let message = element(body, "Message").unwrap_or(if is_xml { "" } else { body.trim() });
    let (fault, mend) = match (status, code) {
        (_, "NoSuchBucket" | "ContainerNotFound") => (StoreFault::Refused, MEND_BUCKET),
        (404, _) if message.contains("bucket does not exist") => (StoreFault::Refused, MEND_BUCKET),
        (404, _) => (StoreFault::NotFound, ""),
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect")
        | (_, "IllegalLocationConstraintException")
        | (301 | 307, _) => (StoreFault::Refused, MEND_REGION),
        (_, "RequestTimeTooSkewed") => (StoreFault::Refused, MEND_CLOCK),
        (401 | 403, _) => (StoreFault::Refused, MEND_KEYS),
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull") => (StoreFault::Full, MEND_ROOM),
        // What it does not know how to do, it does not learn.
        (501, _) => (StoreFault::Setup, ""),
        (408 | 425 | 429 | 500.., _) | (200..=299, _) => (StoreFault::Unavailable, ""),
        (409, _) => (StoreFault::Unavailable, ""),
        _ => (StoreFault::Refused, ""),
    };
    let words = match (code, message) {
        ("", "") => String::new(),
        ("", message) => format!(" ({message})"),
        (code, "") => format!(" ({code})"),
        (code, message) => format!(" ({code}: {message})"),
    };
    Told { fault, reason: format!("it answers {status}{words}"), mend }
}

/// The words of an error's deepest cause.
pub(super) fn deepest(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Tells what object_store's error means. It shows its URLs and bodies as they are: take
/// credentials out of the words.
pub(super) fn tell(error: &object_store::Error) -> Told {
    let mut chain = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        chain.push(error);
        next = error.source();
    }
    let texts: Vec<String> = chain.iter().map(ToString::to_string).collect();
    let deepest = texts.last().cloned().unwrap_or_default();
    let is_role = texts.iter().any(|text| {
        ["169.254.169.254", "/latest/api/token", "/latest/meta-data/"]
            .iter()
            .any(|part| text.contains(part))
    });
    // A body of 200 may still hold an error, of a multipart's completion.
    for text in &texts {
        if let Some(rest) = text.strip_prefix("Server returned non-2xx status code: ") {
            let (status, body) = rest.split_once(": ").unwrap_or((rest, ""));
            let status = status.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(500);
            let told = tell_status(status, body);
            if is_role {
                return Told { fault: StoreFault::Refused, mend: MEND_ROLE, ..told };
            }
            return told;
        }
        if let Some(body) = text.strip_prefix("Server returned error response: ") {
            return tell_status(200, body);
        }
    }
    if is_role {
        let reason = format!("no credentials: {deepest}");
        return Told { fault: StoreFault::Refused, reason, mend: MEND_ROLE };
    }
    if texts.iter().any(|text| text.starts_with("Received redirect without LOCATION")) {
        let reason = "it redirects elsewhere, as for a bucket of another region".into();
        return Told { fault: StoreFault::Refused, reason, mend: MEND_REGION };
    }
    if texts.iter().any(|text| text.contains("URL scheme is not allowed")) {
        let reason = "the endpoint is http, which shows all packets to the network".into();
        return Told { fault: StoreFault::Setup, reason, mend: MEND_HTTP };
    }
    let http = chain.iter().find_map(|error| error.downcast_ref::<HttpError>());
    if let Some(http) = http {
        let mend = if http.kind() == HttpErrorKind::Connect { MEND_ENDPOINT } else { "" };
        let reason = format!("cannot be asked: {deepest}");
        return Told { fault: StoreFault::Unavailable, reason, mend };
    }
    let fault = match error {
        object_store::Error::NotFound { .. } => StoreFault::NotFound,
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => StoreFault::Refused,
        object_store::Error::InvalidPath { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => StoreFault::Setup,
        _ => StoreFault::Unavailable,
    };
    Told { fault, reason: deepest, mend: "" }
}

/// Of an archive in a folder.
impl From<std::io::Error> for Told {
    fn from(error: std::io::Error) -> Told {
        use std::io::ErrorKind;
        let (fault, mend) = match error.kind() {
            ErrorKind::NotFound => (StoreFault::NotFound, ""),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                (StoreFault::Full, "; make room on its disk")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                (StoreFault::Refused, "; make it a folder that tapline may write to")
            }
            ErrorKind::InvalidData => return Told::unconfirmed(),
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => (StoreFault::Setup, ""),
            _ => (StoreFault::Unavailable, ""),
        };
        Told { fault, reason: error.to_string(), mend }
    }
}

/// Makes words fit for a line of an error: short, in one line, without these secrets.
pub(super) fn plain(words: &str, secrets: &[String]) -> String {
    let mut words = words.to_owned();
    for secret in secrets {
        words = words.replace(secret.as_str(), "***");
    }
    let mut plain: String =
        words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    if plain.len() < words.len() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let body = "<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        let told = tell_status(404, body);
        assert_eq!((told.fault, told.mend), (StoreFault::Refused, MEND_BUCKET));
        assert_eq!(told.reason, "it answers 404 (NoSuchBucket: gone)");
        for (status, fault) in [
            (404, StoreFault::NotFound),
            (403, StoreFault::Refused),
            (429, StoreFault::Unavailable),
            (500, StoreFault::Unavailable),
            (503, StoreFault::Unavailable),
            (507, StoreFault::Full),
            (200, StoreFault::Unavailable),
        ] {
            assert_eq!(tell_status(status, "").fault, fault, "{status}");
        }
        let malformed = "<Code>AuthorizationHeaderMalformed</Code>";
        assert_eq!(tell_status(400, malformed).mend, MEND_REGION);
    }

    #[test]
    fn words_are_short_and_hold_no_secret() {
        let secrets = ["hush".to_owned()];
        assert_eq!(plain("a\nhush b", &secrets), "a *** b");
        assert_eq!(plain(&"é".repeat(400), &[]).chars().count(), WORDS_MAX + 1);
    }
}

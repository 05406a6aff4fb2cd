//! Lists that S3 gives in XML: of objects, and of uploads.
//!
//! Keys are asked for in percent-encoding, as XML has no way to write some characters; what a server
//! does not encode is read as it is. Elements that are not understood are passed over.

use super::Object;
use jiff::Timestamp;

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing<T> {
    pub(super) found: Vec<T>,
    /// Beginnings of keys up to a delimiter, where one was asked for.
    pub(super) prefixes: Vec<String>,
    /// What to ask for the next page with, if there is one.
    pub(super) next: Option<String>,
}

/// An upload that did not end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: Option<Timestamp>,
}

/// Reads the answer to ListObjectsV2.
pub(super) fn objects(xml: &str) -> Listing<Object> {
    let is_encoded = element(xml, "EncodingType").is_some();
    let found = elements(xml, "Contents").filter_map(|contents| {
        let key = key(element(contents, "Key")?, is_encoded);
        Some(Object { key, bytes: element(contents, "Size")?.trim().parse().ok()? })
    });
    let found = found.collect();
    let prefixes = elements(xml, "CommonPrefixes")
        .filter_map(|common| element(common, "Prefix").map(|text| key(text, is_encoded)))
        .collect();
    let next = element(xml, "NextContinuationToken").map(unescaped);
    Listing { found, prefixes, next: next.filter(|token| !token.is_empty()) }
}

/// Reads the answer to ListMultipartUploads.
pub(super) fn uploads(xml: &str) -> Listing<Upload> {
    let is_encoded = element(xml, "EncodingType").is_some();
    let found = elements(xml, "Upload").filter_map(|upload| {
        Some(Upload {
            key: key(element(upload, "Key")?, is_encoded),
            id: unescaped(element(upload, "UploadId")?),
            begun: element(upload, "Initiated").and_then(|time| time.trim().parse().ok()),
        })
    });
    let found = found.collect();
    let is_cut = element(xml, "IsTruncated").is_some_and(|text| text.trim() == "true");
    Listing { found, prefixes: Vec::new(), next: is_cut.then(String::new) }
}

/// The text of the first element of this name.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    elements(xml, name).next()
}

/// The texts of the elements of this name, of which none stands in another.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&open)?;
        let (text, behind) = behind.split_once(&close)?;
        rest = behind;
        Some(text)
    })
}

fn key(text: &str, is_encoded: bool) -> String {
    let text = unescaped(text);
    if !is_encoded {
        return text;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, decoded) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = behind;
            }
            _ => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    // Some servers say that they encode, and do not.
    String::from_utf8(bytes).unwrap_or(text)
}

/// Replaces XML's references to characters.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        plain += before;
        let reference = behind.split_once(';').and_then(|(name, behind)| {
            let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            });
            let character = match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => char::from_u32(number?)?,
            };
            Some((character, behind))
        });
        match reference {
            Some((character, behind)) => {
                plain.push(character);
                rest = behind;
            }
            None => {
                plain.push('&');
                rest = behind;
            }
        }
    }
    plain + rest
}

/// A value of a query, in percent-encoding.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encoded = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// A key as a URL's path.
pub(super) fn path(key: &str) -> String {
    key.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_and_the_next_page_are_read() {
        let xml = "<ListBucketResult><EncodingType>url</EncodingType>\
             <Contents><Key>a/b%2Fc+d%25</Key><Size>3</Size></Contents>\
             <Contents><Key>a//%C3%A9</Key><Size> 4</Size></Contents>\
             <Contents><Key>no size</Key></Contents>\
             <CommonPrefixes><Prefix>a/%20/</Prefix></CommonPrefixes>\
             <NextContinuationToken>t&amp;1&#x41;&none;</NextContinuationToken></ListBucketResult>";
        let page = objects(xml);
        let object = |key: &str, bytes| Object { key: key.into(), bytes };
        assert_eq!(page.found, [object("a/b/c d%", 3), object("a//é", 4)]);
        assert_eq!(page.prefixes, ["a/ /"]);
        assert_eq!(page.next.unwrap(), "t&1A&none;");
        let plain = objects("<Contents><Key>a+%41&lt;</Key><Size>0</Size></Contents>");
        assert_eq!(plain.found, [object("a+%41<", 0)]);
        assert_eq!(plain.next, None);
        assert_eq!(key("per%cent", true), "per%cent");
    }

    #[test]
    fn uploads_are_read() {
        let xml = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>\
             <Upload><Key>k</Key><UploadId>u1</UploadId>\
             <Initiated>2026-11-27T10:00:00.000Z</Initiated></Upload>\
             <Upload><Key>l</Key><UploadId>u2</UploadId><Initiated>x</Initiated></Upload>\
             </ListMultipartUploadsResult>";
        let page = uploads(xml);
        assert_eq!(page.found.len(), 2);
        assert_eq!(page.found[0].begun, Some("2026-11-27T10:00:00Z".parse().unwrap()));
        assert_eq!((&*page.found[1].id, page.found[1].begun), ("u2", None));
        assert!(page.next.is_some());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read(text in any::<String>()) {
            prop_assert_eq!(key(&encoded(&text), true), text);
        }

        #[test]
        fn nothing_panics(text in "[<>/&;#%+a-zKeySizContents]{0,80}") {
            objects(&text);
            uploads(&text);
        }
    }
}

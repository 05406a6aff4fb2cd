//! Files with credentials: those of Amazon's tools, and a service account's of GCS.
//!
//! ```text
//! [default]
//! aws_access_key_id = …
//! aws_secret_access_key = …
//! aws_session_token = …            of credentials that end
//! ```
//! One that is JSON is a service account's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NAMES: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// Settings that give access to S3 by other ways than a file.
const OTHER_WAYS: [&str; 5] = [
    "aws_access_key_id",
    "aws_web_identity_token_file",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_skip_signature",
];

/// Settings of a file's profile.
pub(super) fn read(path: &Path, profile: &str) -> Result<BTreeMap<String, String>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("{shown}: {e}; name a file with credentials that can be read"))?;
    if text.trim_start().starts_with('{') {
        let name = path.to_str().ok_or_else(|| format!("{shown}: its name is not UTF-8"))?;
        return Ok([("google_service_account".to_owned(), name.to_owned())].into());
    }
    let settings = parse(&text, profile);
    match settings.contains_key(NAMES[0]) && settings.contains_key(NAMES[1]) {
        true => Ok(settings),
        false => Err(format!(
            "{shown} has no {} and {} in [{profile}]; write them there, or name another profile",
            NAMES[0], NAMES[1]
        )),
    }
}

fn parse(text: &str, profile: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours)
            && NAMES.contains(&name.trim())
        {
            settings.insert(name.trim().into(), value.trim().into());
        }
    }
    settings
}

/// Adds those of Amazon's own file, if nothing else gives access.
pub(super) fn add_from_home(settings: &mut BTreeMap<String, String>) {
    if OTHER_WAYS.iter().any(|name| settings.contains_key(*name)) {
        return;
    }
    let named = settings.get("aws_shared_credentials_file").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws/credentials"));
    let profile = settings.get("aws_profile").map_or("default", String::as_str);
    // One that is not there, or has no such profile, leaves the instance's role.
    if let Some(found) = named.or_else(home).and_then(|path| read(&path, profile).ok()) {
        settings.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rig::Scratch;

    #[test]
    fn a_profile_is_read() {
        let scratch = Scratch::new("credentials");
        let path = scratch.path("credentials");
        std::fs::write(
            &path,
            "# keys\n[default]\naws_access_key_id = a\naws_secret_access_key=b=\nregion = x\n\
             [ other ]\naws_access_key_id = c\n",
        )
        .unwrap();
        let settings = read(&path, "default").unwrap();
        assert_eq!(settings.len(), 2);
        assert_eq!(settings["aws_secret_access_key"], "b=");
        let error = read(&path, "other").unwrap_err();
        assert!(error.contains("aws_secret_access_key in [other]"), "{error}");
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path, "default").unwrap().contains_key("google_service_account"));
        assert!(read(&scratch.path("none"), "default").unwrap_err().contains("can be read"));
        let name = path.to_str().unwrap().to_owned();
        let mut settings = BTreeMap::from([("aws_shared_credentials_file".to_owned(), name)]);
        std::fs::write(&path, "[default]\naws_access_key_id=a\naws_secret_access_key=b").unwrap();
        add_from_home(&mut settings);
        assert_eq!(settings["aws_access_key_id"], "a");
    }
}

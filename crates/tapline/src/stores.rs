//! How the store of an archive is reached: what the environment says, and a file before that.

use crate::failure::Failure;
use api::StoreFile;
use archive::store::StoreOptions;
use std::path::Path;

/// The options that the environment and `--store-config` give.
pub fn options(file: Option<&Path>) -> Result<StoreOptions, Failure> {
    let options = StoreOptions::from_environment();
    let Some(path) = file else { return Ok(options) };
    let file = StoreFile::read(path)?;
    let options = options.with_file(&file);
    options.map_err(|error| Failure::CouldNot(format!("{}: {error}", path.display())))
}

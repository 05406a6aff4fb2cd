//! The network namespace that a tapped interface is in.

use crate::failure::Failure;
use api::TapConfig;
use io::netns::Netns;
use std::sync::Arc;

/// Opens a tap's namespace; `None`: the process's own.
pub fn netns_of(config: &TapConfig) -> Result<Option<Arc<Netns>>, Failure> {
    let Some(text) = &config.netns else { return Ok(None) };
    let netns = Netns::find(text)?;
    let is_ours = netns.is(&Netns::current()?);
    Ok((!is_ours).then(|| Arc::new(netns)))
}

/// Calls a function where the interface is.
pub fn inside<R: Send>(
    netns: Option<&Netns>,
    function: impl FnOnce() -> R + Send,
) -> Result<R, Failure> {
    match netns {
        Some(netns) => Ok(netns.run(function)?),
        None => Ok(function()),
    }
}

//! Which tunnel packets a listener takes, and how it reads them.

use api::{DropReason, TunnelEndpoint};
use wire::Error;
use wire::decap::{Content, Found, Rules};
use wire::tunnel::L2tpFormat;

/// The listening endpoints of one socket or ring.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// One for each format of L2TPv3: packets do not show theirs.
    readers: Vec<Reader>,
}

#[derive(Debug, Clone)]
struct Reader {
    format: L2tpFormat,
    rules: Rules,
    endpoints: Vec<TunnelEndpoint>,
}

impl Wanted {
    /// Takes what any of these endpoints takes; `rules` say at which ports which tunnels are.
    pub fn new(endpoints: &[TunnelEndpoint], rules: &Rules) -> Wanted {
        let mut readers: Vec<Reader> = Vec::new();
        for endpoint in endpoints {
            let format = endpoint.l2tp;
            match readers.iter_mut().find(|reader| reader.format == format) {
                Some(reader) => reader.endpoints.push(endpoint.clone()),
                None => readers.push(Reader {
                    format,
                    rules: rules.clone().with_l2tp(format),
                    endpoints: vec![endpoint.clone()],
                }),
            }
        }
        Wanted { readers }
    }

    /// Reads a packet, as `read` does by some rules; `None` if it is no tunnel's. Messages between the
    /// endpoints are taken whoever sends them.
    ///
    /// # Errors
    /// [`DropReason::ForeignId`] if it is of a tunnel that nobody listens for; and
    /// [`DropReason::TooShort`], [`DropReason::Malformed`].
    #[inline]
    pub fn read(
        &self,
        read: impl Fn(&Rules) -> Result<Option<Found>, Error>,
    ) -> Result<Option<Found>, DropReason> {
        let mut lost = None;
        for reader in &self.readers {
            match read(&reader.rules) {
                Ok(None) => return Ok(None),
                Ok(Some(found)) if reader.takes(&found) => return Ok(Some(found)),
                Ok(Some(_)) => lost = Some(DropReason::ForeignId),
                // Another format may fit; if none does, the first one's complaint counts.
                Err(error) => lost = lost.or(Some(reason(&error))),
            }
        }
        Err(lost.unwrap_or(DropReason::ForeignId))
    }
}

impl Reader {
    #[inline]
    fn takes(&self, found: &Found) -> bool {
        matches!(found.content, Content::Control)
            || self.endpoints.iter().any(|endpoint| endpoint.takes(found.tunnel))
    }
}

fn reason(error: &Error) -> DropReason {
    match error {
        Error::Truncated { .. } => DropReason::TooShort,
        Error::Malformed { .. } => DropReason::Malformed,
    }
}

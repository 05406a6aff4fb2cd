//! A capture filter in the form that the kernel runs.

use super::{CaptureFilter, Language, Programs};
use ::filter::ebpf::{Decides, SocketFilterOptions, Verdicts, socket_filter};
use ::filter::{Program, prefilter};
use api::DirectionChoice;
use io::ring::KernelFilter;
use wire::LinkType;

impl CaptureFilter {
    /// The filter as an eBPF program for frames of one link type, which counts for itself.
    ///
    /// # Errors
    /// Why it must run in user space.
    pub fn for_kernel(&self, link_type: LinkType) -> Result<KernelFilter, String> {
        let (received, sent) = self.programs(link_type)?;
        let options = SocketFilterOptions {
            link_type,
            received: &received,
            sent: &sent,
            verdicts: self.verdicts(),
            scope: self
                .verdicts()
                .decides(&received, &sent, link_type)
                .scope()
                .map_err(|e| e.to_string())?,
        };
        let filter = socket_filter(&options).map_err(|error| error.to_string())?;
        Ok(KernelFilter::Counting(Box::new(filter)))
    }

    /// The filter as a classic program for frames of one link type, which hides what it rejects. What
    /// it lets through is to be filtered again.
    ///
    /// # Errors
    /// Why it must run in user space.
    pub fn as_prefilter(&self, link_type: LinkType) -> Result<KernelFilter, String> {
        let (received, sent) = self.programs(link_type)?;
        match self.verdicts().decides(&received, &sent, link_type) {
            Decides::Everything => {}
            Decides::WholeFrames => {
                return Err(
                    "its verdict on a super-packet is not that on each of its segments, and \
                            a classic filter cannot tell them apart"
                        .into(),
                );
            }
            Decides::Nothing(obstacle) => return Err(obstacle.to_string()),
        }
        let program = prefilter(&received, &sent, self.verdicts());
        program.map(KernelFilter::Hiding).map_err(|error| error.to_string())
    }

    /// The programs of received and of sent packets.
    pub(super) fn programs(&self, link_type: LinkType) -> Result<(Program, Program), String> {
        let Programs { received, sent_and_unknown } = self.language.compile(link_type)?;
        let sent = sent_and_unknown.map_or_else(|| received.clone(), |others| (*others)[0].clone());
        let none = || Program::constant(0);
        Ok(match self.direction {
            DirectionChoice::Both => (received, sent),
            DirectionChoice::In => (received, none()),
            DirectionChoice::Out => (none(), sent),
        })
    }

    pub(super) fn verdicts(&self) -> Verdicts<'_> {
        match &self.language {
            Language::Rules(rules) => Verdicts::Rules(rules),
            Language::All | Language::Expression(_) => Verdicts::Expression,
        }
    }
}

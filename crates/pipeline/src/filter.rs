//! The capture filter as a stage: which packets of a batch go on.

use ::filter::Program;
use api::DirectionChoice;
use io::{Direction, Packet};
use wire::LinkType;

/// Compiles the filter's expression for a link type.
type Compile = Box<dyn Fn(LinkType) -> Result<Program, String> + Send>;

/// A choice of direction and an expression, compiled once for each link type that comes along.
pub struct CaptureFilter {
    direction: DirectionChoice,
    compile: Option<Compile>,
    /// `None`: the expression has no meaning for this link type, and matches nothing of it.
    programs: Vec<(LinkType, Option<Program>)>,
}

impl CaptureFilter {
    /// A filter that keeps every packet of a direction.
    pub fn all(direction: DirectionChoice) -> CaptureFilter {
        CaptureFilter { direction, compile: None, programs: Vec::new() }
    }

    /// A filter that keeps what an expression matches. `compile` gives the program for a link
    /// type; it is called once for each of `link_types` now, and when another one comes along.
    ///
    /// # Errors
    /// What `compile` says of the first of `link_types` that it refuses.
    pub fn expression(
        direction: DirectionChoice,
        link_types: &[LinkType],
        compile: Compile,
    ) -> Result<CaptureFilter, String> {
        let mut programs = Vec::new();
        for &link_type in link_types {
            programs.push((link_type, Some(compile(link_type)?)));
        }
        Ok(CaptureFilter { direction, compile: Some(compile), programs })
    }

    /// Whether a packet goes on. A packet of unknown direction is of either.
    #[inline]
    pub fn keeps(&mut self, packet: &Packet) -> bool {
        let direction = match self.direction {
            DirectionChoice::Both => true,
            DirectionChoice::In => packet.meta.direction != Direction::Out,
            DirectionChoice::Out => packet.meta.direction != Direction::In,
        };
        direction && (self.compile.is_none() || self.matches(packet))
    }

    fn matches(&mut self, packet: &Packet) -> bool {
        let link_type = packet.meta.link_type;
        let known = self.programs.iter().position(|(of, _)| *of == link_type);
        let place = known.unwrap_or_else(|| self.compile_for(link_type));
        match &self.programs[place].1 {
            Some(program) => program.run(&packet.data, packet.meta.origlen) != 0,
            None => false,
        }
    }

    #[cold]
    fn compile_for(&mut self, link_type: LinkType) -> usize {
        let program = self.compile.as_ref().and_then(|compile| match compile(link_type) {
            Ok(program) => Some(program),
            Err(error) => {
                tracing::warn!("packets of link type {link_type} do not match: {error}");
                None
            }
        });
        self.programs.push((link_type, program));
        self.programs.len() - 1
    }
}

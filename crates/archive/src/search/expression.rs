//! A pcap-filter expression, and what it compiles to for each link type.

use super::implied::Tree;
use filter::Program;
use io::libpcap::{CompileError, compile};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use wire::LinkType;

/// A pcap-filter expression. It means what it means to `tcpdump -r`, for each link type on its own.
#[derive(Debug, Clone, Default)]
pub struct Expression {
    text: String,
    implied: Arc<Tree>,
    programs: Arc<Mutex<Programs>>,
}

/// By link type the program, or why there is none.
type Programs = BTreeMap<LinkType, Result<Arc<Program>, String>>;

impl Expression {
    /// Takes an expression that is good for Ethernet; an empty one matches every packet. May block where
    /// the name of a host must be looked up.
    ///
    /// # Errors
    /// [`CompileError`]: libpcap is not installed, or the expression is bad, and where.
    pub fn new(text: &str) -> Result<Expression, CompileError> {
        let text = text.trim().to_owned();
        let program = Arc::new(compile(&text, LinkType::ETHERNET, 0)?);
        let programs = BTreeMap::from([(LinkType::ETHERNET, Ok(program))]);
        let implied = Arc::new(Tree::of(&text));
        Ok(Expression { text, implied, programs: Arc::new(Mutex::new(programs)) })
    }

    /// The expression as it was given, without blanks around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a packet must be like to match it.
    pub(super) fn implied(&self) -> &Tree {
        &self.implied
    }

    /// Its program for frames of a link type. One that can match no such frame is a program, too.
    ///
    /// # Errors
    /// Why there is none for this link type.
    pub fn program(&self, link_type: LinkType) -> Result<Arc<Program>, String> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let made =
            programs.entry(link_type).or_insert_with(|| match compile(&self.text, link_type, 0) {
                Ok(program) => Ok(Arc::new(program)),
                Err(error) if error.reason.contains("rejects all") => {
                    Ok(Arc::new(Program::constant(0)))
                }
                Err(error) => Err(error.reason),
            });
        made.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_type_has_its_program() {
        let empty = Expression::default();
        assert!(empty.program(LinkType(147)).unwrap().matches(&[], 0));
        let expression = Expression::new(" tcp port 80 ").unwrap();
        assert_eq!(expression.text(), "tcp port 80");
        let [ethernet, raw] = [LinkType::ETHERNET, LinkType::RAW].map(|l| expression.program(l));
        assert_ne!(ethernet.unwrap(), raw.unwrap());
        // Raw IP has no MACs and no tags.
        let macs = Expression::new("ether host 02:00:00:00:00:01").unwrap();
        macs.program(LinkType::RAW).unwrap_err();
        assert!(Expression::new("tcp adn udp").unwrap_err().to_string().contains("column 5"));
    }
}

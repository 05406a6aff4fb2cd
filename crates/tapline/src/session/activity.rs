//! What a session runs: the taps of `mirror`, `receive` and `capture`, or a broker.

use crate::failure::Failure;
use crate::local::NewRule;
use api::Stats;

/// Work that goes on in threads of its own until it ends or is stopped. A session's main thread looks
/// after it, and is unparked by each of its workers that ends.
pub trait Activity {
    /// Whether all of it has come to its end.
    fn is_finished(&self) -> bool;

    /// Asks it to stop: nothing more comes in, what has come in is carried to its end. Does not wait.
    fn stop(&mut self);

    /// Asks all workers for their ledger, without waiting for one of them.
    fn ask(&mut self);

    /// The ledger, once all workers have answered since [`Self::ask`]; a worker that has ended needs
    /// not answer. Does not wait.
    fn answered(&mut self) -> Option<Stats>;

    /// The ledger between two batches of each worker. `None` if one does not come to the end of its
    /// batch in 2 s: a reader of its output may be stuck.
    fn snapshot(&mut self) -> Option<Stats>;

    /// Whether [`Self::reload`] means anything: what SIGHUP asks for then, instead of the end.
    fn can_reload(&self) -> bool {
        false
    }

    /// Reads the configuration again and does what is different in it. What has not changed goes on
    /// undisturbed; the ledger keeps the lines of what has gone.
    ///
    /// # Errors
    /// If the new configuration is not understood or cannot be had: then nothing has changed.
    fn reload(&mut self) -> Result<Reloaded, Failure> {
        Err(Failure::Usage(
            "it was started without a configuration file, so that there is nothing to reload"
                .into(),
        ))
    }

    /// Whether [`Self::show`] reads the configuration again.
    fn shows_its_file(&self) -> bool {
        true
    }

    /// What its configuration wants, what there is, and what a reload would do now.
    ///
    /// # Errors
    /// If the configuration cannot be read, or there is none.
    fn show(&mut self) -> Result<serde_json::Value, Failure> {
        Err(Failure::Usage("it has no configuration file to compare with".into()))
    }

    /// Takes one more rule into its table; tells what has changed, and what is in force then.
    ///
    /// # Errors
    /// If it has no table, or the rule does not fit into it: then nothing has changed.
    fn add(&mut self, _rule: &NewRule) -> Result<serde_json::Value, Failure> {
        Err(no_table())
    }

    /// Takes the rules of some names out of its table; tells what has changed, and what is in force then.
    ///
    /// # Errors
    /// If it has no table, or no such rule: then nothing has changed.
    fn remove(&mut self, _rules: &[String]) -> Result<serde_json::Value, Failure> {
        Err(no_table())
    }

    /// The network interfaces that it takes packets from or gives packets to, by name.
    fn interfaces(&self) -> Vec<String> {
        Vec::new()
    }

    /// Waits for its end; gives the last ledger, and what went wrong with each of its parts if anything
    /// did. That was logged when it happened.
    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>);
}

fn no_table() -> Failure {
    Failure::Usage("it has no forwarding table; ask a `tapline inline`".into())
}

/// What a reload has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// One line for each thing that was added, changed or removed; none if all was as before.
    pub changes: Vec<String>,
}

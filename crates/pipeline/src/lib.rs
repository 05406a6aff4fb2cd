//! A tap's way from source to targets, and its ledger.

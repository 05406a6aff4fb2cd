//! Capture filters: the program form and its interpreter.

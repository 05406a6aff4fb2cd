//! The recorder: packets into rotated capture files.

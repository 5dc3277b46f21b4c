//! Unit tests (to follow).

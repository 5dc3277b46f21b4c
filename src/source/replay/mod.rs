//! replay (to be written)

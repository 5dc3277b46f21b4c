//! sendmmsg (to be written)

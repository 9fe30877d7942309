//! External ids.

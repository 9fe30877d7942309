//! The model directory, read into types that cannot be wrong.

"""The only writer of the model format; `rust/format/` reads it, and its README.md specifies it."""

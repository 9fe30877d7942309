"""The HTTP service, `neuralcf serve`. Needs the extra `serve`; nothing outside this package imports it but the CLI."""

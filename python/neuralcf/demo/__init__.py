"""The demo: the whole workflow on synthetic data, from interactions to recommendations and a report."""

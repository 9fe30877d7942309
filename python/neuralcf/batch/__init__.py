"""Recommendations for many users at once, to files."""

"""Readers of interactions and titles: text, Parquet and tables in memory; they need pyarrow, but for titles in text."""

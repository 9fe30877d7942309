"""Readers of interactions and titles: text, Parquet, tables in memory. All but titles in text need pyarrow."""

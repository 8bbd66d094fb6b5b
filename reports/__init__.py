"""Paper tables and figures, read from the DuckDB file alone."""

"""The report of a comparison: tables and intervals out of results, and what is read."""

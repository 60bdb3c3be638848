"""Reports of result rows: summaries over seeds, tables, plots."""

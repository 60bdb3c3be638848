"""Path of fetched records to a lane, where they become one transaction after another."""

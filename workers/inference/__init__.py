"""Models as plain objects that sessions ask: what Ray's actors run, and all of them in one process. No Ray in here."""

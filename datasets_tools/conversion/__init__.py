"""From a source to a store: the run, its units of work, and what makes it resumable."""

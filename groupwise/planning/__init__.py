"""The dry run: what a study would estimate, and at what cost."""

"""The steps of a run: what each does, in which order, how often it is tried and how long it may take."""

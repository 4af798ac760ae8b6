"""Cell statistics: which are kept, how they are made in memory, merged, and read from a run's two files."""

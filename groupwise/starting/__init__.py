"""From data to a first study: a profile of the columns, a proposal with a reason for each part, and the files that say so."""

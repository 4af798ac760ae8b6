"""The line items of a study: where they are, how they are read, and what users may write in SQL about them."""

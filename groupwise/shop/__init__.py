"""Real and made-up line items to try the pipeline on."""

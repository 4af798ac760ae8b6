"""Statistics of line items kept by partition: found by fingerprint, made where the source changed, merged for the window of a run."""

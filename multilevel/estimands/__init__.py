"""What is averaged over what: standardised means, combinations, expected values of two parts, groups never seen, probabilities."""

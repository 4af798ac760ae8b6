"""The Python interface: what ``import groupwise as gw`` offers, on the same steps as a study's run."""

"""A study's published versions in a bucket: new names only, checksums, and a pointer that is written conditionally."""

"""Published versions of a study, in a folder or in an object store: written whole, verified, and the pointer moved last."""

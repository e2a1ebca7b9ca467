"""What is checked before anything is trained: files, counts, identities and queries."""

"""Job and messaging libraries, unchanged, on three nodes of which one after another is killed."""

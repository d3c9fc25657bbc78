"""Whether what concurrent clients saw could have come from one server that did one thing at a time."""

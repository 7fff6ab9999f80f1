"""`make demo`: the whole loop on one machine, and what it showed."""

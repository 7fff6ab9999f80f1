"""One rival of `kdpo bench edits`, in a process of its own.  Nothing else in `bench` has torch."""

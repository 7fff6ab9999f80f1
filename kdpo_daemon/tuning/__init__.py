"""The training child: the only place with torch, only ever started as a process."""

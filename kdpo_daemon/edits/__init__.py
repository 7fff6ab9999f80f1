"""What should the model learn, and may it ship?  Pure decisions: no files, sockets or clock."""

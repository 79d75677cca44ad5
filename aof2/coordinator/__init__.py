"""Background work: commands, the queue that orders them, and the handlers that run them."""

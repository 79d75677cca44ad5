"""What users need to test code that embeds the log: servers, stores, temporary managers."""

"""The manifest: the log of tier moves and the index it folds into."""

"""A film lane by description: its landmarks are data (data/lanes/NAME.json), its code is the same for all of them."""

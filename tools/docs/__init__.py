"""How the site is made: `make docs`. What can be read from the code is read from it and never typed."""

"""Small damages to the code that tests must notice; `make mutants` does each of them to a copy, in turn."""

"""The promises that take long to test; each has a short form that `make test` runs, and `make soak` runs them whole."""

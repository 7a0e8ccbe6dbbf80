"""Scores of answers, each under the name of who defined it."""

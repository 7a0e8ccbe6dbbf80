"""A benchmark of understanding whose truth is exact: scenes at 128 pixels, questions, referring expressions, clips."""

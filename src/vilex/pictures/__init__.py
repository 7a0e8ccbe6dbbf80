"""Pictures: read, turned to numbers and back, laid side by side."""

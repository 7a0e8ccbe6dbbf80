"""Training an encoder on a frozen text-to-image model."""

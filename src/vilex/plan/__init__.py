"""What a run takes, counted on shapes before it starts."""

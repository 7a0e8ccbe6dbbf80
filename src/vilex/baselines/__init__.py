"""What people do today to draw one subject again: minutes of optimisation on its photographs."""

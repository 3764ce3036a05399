"""User sessions for Flask APIs."""

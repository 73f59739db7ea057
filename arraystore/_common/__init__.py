"""Small tools that every wing uses."""

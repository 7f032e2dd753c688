"""The queue on threads."""

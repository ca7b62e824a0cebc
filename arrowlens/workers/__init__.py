"""Isolated processes with limits of time and memory, and what runs in them."""

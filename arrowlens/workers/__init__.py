"""Isolated processes with limits of time and memory; they run the functions that they are handed."""

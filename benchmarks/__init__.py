"""Tests of Arrowlens."""

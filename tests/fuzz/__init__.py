"""Decoding of mutated files, in worker processes: FUZZ_INPUTS of them."""

"""Proofs that a GPU is used rightly: parity, speed, memory and sampling, a process a part."""

"""Operations that are faster than torch's own on a CPU, and tools for sampling and hashing."""

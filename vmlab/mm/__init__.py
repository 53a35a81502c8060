"""What the kernel does: one module per kernel file, kernel names."""

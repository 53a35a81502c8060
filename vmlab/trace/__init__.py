"""Recording, seeking, workloads, and replay of golden traces."""

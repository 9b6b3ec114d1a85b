"""Speed: latency, throughput, capacity, start-up, and growth over hours."""

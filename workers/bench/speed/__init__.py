"""How fast it is: latency, throughput, capacity, start-up, and whether anything grows."""

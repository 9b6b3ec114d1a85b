"""The fusion-GCN: the network, its causal step, its labels and its checkpoints."""

"""What is prepared offline: corpora, compositions, the voice net, experts, downloads."""

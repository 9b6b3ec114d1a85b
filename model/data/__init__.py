"""Tables of conversations: corpora read into them, and features packed with them."""

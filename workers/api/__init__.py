"""Sessions in a program of one's own. Programs import `undertone` (workers/public), which hands these names on."""

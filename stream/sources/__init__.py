"""Media sources (files, microphones, network streams, pushed tracks) as blocks on one media clock."""

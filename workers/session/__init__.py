"""One conversation from blocks of media to published events. No Ray in here."""

"""Events, their envelope and table rows: the words that everything else speaks in."""

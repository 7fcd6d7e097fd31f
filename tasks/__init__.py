"""One library call each, with store, tracker and progress around it."""

-- What was undone is there still. The next one would be within it, and hold one more lock.
RELEASE SAVEPOINT attempt

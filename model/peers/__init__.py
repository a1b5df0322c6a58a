"""What the learner is held against in its own protocol. It is not for serving: nothing here is saved or restored."""

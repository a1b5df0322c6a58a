"""What flows: event types, topics, producer, stream worker, learner process and replay; not how they are started."""

"""Pure data: ids, keys, commands, HSM operations, outcomes, effects, replies, events and error codes. No I/O."""

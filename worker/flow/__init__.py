"""The river and what runs beside it: async, without concrete I/O."""

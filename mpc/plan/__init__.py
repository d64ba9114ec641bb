"""Plans a job: its request, its schedule, its shapes and its fixed point."""

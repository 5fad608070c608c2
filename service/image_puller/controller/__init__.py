"""The running process: it takes events in, checks on a schedule, and writes."""

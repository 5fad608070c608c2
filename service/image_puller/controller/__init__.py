"""The process at work: it takes events in, checks on a schedule, and writes."""

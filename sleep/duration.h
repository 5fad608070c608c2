/* Durations as Go writes them: 720h, 1h30m, 1.5h, 300ms. */
#ifndef DURATION_H
#define DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The problem of a text, and the part that has it. Without a part, it is the whole text. */
struct complaint {
	const char *problem;
	const char *part;
	size_t length;
};

/*
 * Parse a duration as https://pkg.go.dev/time#ParseDuration does.
 * Also accept "infinity", the longest duration. Fractions of a nanosecond are cut off.
 * Go computes fractions in floating point, so its result for very long ones may be off by a
 * nanosecond. Here the result is exact.
 */
bool parse_duration(const char *text, int64_t *nanoseconds, struct complaint *complaint);

#endif

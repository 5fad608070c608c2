/* Durations as Go writes them: 720h, 1h30m, 1.5h, 300ms. */
#ifndef DURATION_H
#define DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is wrong with a text, and with which part of it, if not the whole. */
struct complaint {
	const char *problem;
	const char *part;
	size_t length;
};

/*
 * Reads what https://pkg.go.dev/time#ParseDuration reads, and "infinity", the longest duration.
 * Fractions of a nanosecond are cut off. Go computes fractions in floating point, which makes a
 * nanosecond more or less of some with more digits than a unit has nanoseconds; here they are exact.
 */
bool parse_duration(const char *text, int64_t *nanoseconds, struct complaint *complaint);

#endif

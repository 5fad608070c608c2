/* Read one duration per line. Write its nanoseconds, or its problem. */
#include "duration.h"
#include "kernel.h"
#include "text.h"

enum { STANDARD_INPUT = 0, LONGEST_LINE = 4096 };

int main(void);

static void write_nanoseconds(int64_t nanoseconds)
{
	uint64_t left = nanoseconds < 0 ? 0 - (uint64_t)nanoseconds : (uint64_t)nanoseconds;
	char digits[MOST_DIGITS];
	size_t first = sizeof digits;

	do {
		digits[--first] = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	write_text(STANDARD_OUTPUT, nanoseconds < 0 ? "-" : "");
	write_part(STANDARD_OUTPUT, digits + first, sizeof digits - first);
	write_text(STANDARD_OUTPUT, "\n");
}

static void write_complaint(const struct complaint *complaint)
{
	write_text(STANDARD_OUTPUT, complaint->problem);
	write_text(STANDARD_OUTPUT, complaint->part != NULL ? ": " : "");
	write_part(STANDARD_OUTPUT, complaint->part, complaint->length);
	write_text(STANDARD_OUTPUT, "\n");
}

static bool read_line(char line[LONGEST_LINE])
{
	size_t length = 0;

	while (length < LONGEST_LINE && sys_read(STANDARD_INPUT, line + length, 1) == 1) {
		if (line[length] == '\n') {
			line[length] = '\0';
			return true;
		}
		length++;
	}
	return false;
}

int main(void)
{
	char line[LONGEST_LINE];
	struct complaint complaint;
	int64_t nanoseconds;

	while (read_line(line)) {
		if (parse_duration(line, &nanoseconds, &complaint))
			write_nanoseconds(nanoseconds);
		else
			write_complaint(&complaint);
	}
	return 0;
}

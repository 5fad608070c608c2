/* Strings, and writing them. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

bool is_same(const char *text, const char *other);
size_t length_of(const char *text);

/* Messages are written piece by piece: nothing can be done about one that can't be written. */
void write_text(int file, const char *text);
void write_part(int file, const char *text, size_t length);

/* Writes the digits to the end of the text and returns where they begin; no NUL follows them. */
enum { MOST_DIGITS = 20 };
const char *digits_of(long number, char text[MOST_DIGITS]);

/* Writes what the (negated) error number means, and ends the line. */
void write_error(long error);

#endif

/* Strings, and output. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

bool is_same(const char *text, const char *other);
size_t length_of(const char *text);

/* Write a text. Errors are ignored, because there is nowhere to report them. */
void write_text(int file, const char *text);
void write_part(int file, const char *text, size_t length);

/* Write the digits to the end of the text, without a NUL, and return their start. */
enum { MOST_DIGITS = 20 };
const char *digits_of(long number, char text[MOST_DIGITS]);

/* Write the meaning of a negated error number, and end the line. */
void write_error(long error);

#endif

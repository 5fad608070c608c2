#include "text.h"

#include "kernel.h"

/* The errors that an installation or a wait can have. Others are printed as a number. */
static const struct {
	int number;
	char text[36];
} errors[] = {
	{1, "Operation not permitted"},
	{2, "No such file or directory"},
	{5, "Input/output error"},
	{12, "Out of memory"},
	{13, "Permission denied"},
	{17, "File exists"},
	{20, "Not a directory"},
	{21, "Is a directory"},
	{22, "Invalid argument"},
	{26, "Text file busy"},
	{27, "File too large"},
	{28, "No space left on device"},
	{30, "Read-only file system"},
	{36, "File name too long"},
	{38, "Function not implemented"},
	{40, "Too many levels of symbolic links"},
	{116, "Stale file handle"},
	{122, "Disk quota exceeded"},
};

bool is_same(const char *text, const char *other)
{
	while (*text != '\0' && *text == *other) {
		text++;
		other++;
	}
	return *text == *other;
}

size_t length_of(const char *text)
{
	size_t length = 0;

	while (text[length] != '\0')
		length++;
	return length;
}

void write_part(int file, const char *text, size_t length)
{
	if (length > 0)
		sys_write(file, text, length);
}

void write_text(int file, const char *text)
{
	write_part(file, text, length_of(text));
}

const char *digits_of(long number, char text[MOST_DIGITS])
{
	char *first = text + MOST_DIGITS;

	do {
		*--first = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return first;
}

static void write_number(int file, long number)
{
	char text[MOST_DIGITS];
	const char *digits = digits_of(number, text);

	write_part(file, digits, (size_t)(text + MOST_DIGITS - digits));
}

static const char *text_of(long number)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].number == number)
			return errors[i].text;
	return NULL;
}

void write_error(long error)
{
	const char *text = text_of(-error);

	if (text != NULL) {
		write_text(STANDARD_ERROR, text);
	} else {
		write_text(STANDARD_ERROR, "error ");
		write_number(STANDARD_ERROR, -error);
	}
	write_text(STANDARD_ERROR, "\n");
}

#include "duration.h"

#include "text.h"

/* The largest magnitude. As in Go, only a negative duration may have it. */
static const uint64_t LARGEST = (uint64_t)1 << 63;

static const struct unit {
	char name[4];
	uint64_t nanoseconds;
} units[] = {
	{"ns", 1},
	{"us", 1000},
	{"\u00b5s", 1000}, /* micro sign */
	{"\u03bcs", 1000}, /* Greek mu */
	{"ms", 1000000},
	{"s", 1000000000},
	{"m", 60000000000},
	{"h", 3600000000000},
};

static bool complain(struct complaint *complaint, const char *problem, const char *part,
		     const char *end)
{
	*complaint = (struct complaint){problem, part, (size_t)(end - part)};
	return false;
}

static bool complain_of_size(struct complaint *complaint)
{
	return complain(complaint, "more than 292 years", NULL, NULL);
}

static bool is_digit(char character)
{
	return character >= '0' && character <= '9';
}

static const char *end_of_digits(const char *text)
{
	while (is_digit(*text))
		text++;
	return text;
}

static const char *end_of_unit(const char *text)
{
	while (*text != '\0' && *text != '.' && !is_digit(*text))
		text++;
	return text;
}

static bool is_named(const struct unit *unit, const char *name, const char *end)
{
	size_t i = 0;

	while (name + i < end && i < sizeof unit->name && unit->name[i] == name[i])
		i++;
	return name + i == end && unit->name[i] == '\0';
}

static const struct unit *find_unit(const char *name, const char *end)
{
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (is_named(&units[i], name, end))
			return &units[i];
	return NULL;
}

static bool multiply(const char *digits, const char *end, uint64_t unit, uint64_t *product)
{
	uint64_t number = 0;

	for (; digits < end; digits++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*digits - '0'), &number))
			return false;
	return !__builtin_mul_overflow(number, unit, product) && *product <= LARGEST;
}

/* Goes from the last digit to the first, because then the cut-off at each digit loses nothing. */
static uint64_t multiply_fraction(const char *digits, const char *end, uint64_t unit)
{
	uint64_t product = 0;

	while (end > digits)
		product = ((uint64_t)(*--end - '0') * unit + product) / 10;
	return product;
}

static bool add(uint64_t *sum, uint64_t summand)
{
	return !__builtin_add_overflow(*sum, summand, sum) && *sum <= LARGEST;
}

/* Add one number with its unit to the sum. Return the start of the next one, or NULL on error. */
static const char *add_term(const char *term, uint64_t *sum, struct complaint *complaint)
{
	const char *point = end_of_digits(term);
	const char *fraction = *point == '.' ? point + 1 : point;
	const char *name = end_of_digits(fraction);
	const char *end = end_of_unit(name);
	const struct unit *unit = find_unit(name, end);
	uint64_t whole;

	if (point == term && name == fraction)
		complain(complaint, "no number before", term, term + length_of(term));
	else if (name == end)
		complain(complaint, "no unit after", term, name);
	else if (unit == NULL)
		complain(complaint, "unknown unit", name, end);
	else if (!multiply(term, point, unit->nanoseconds, &whole) || !add(sum, whole) ||
		 !add(sum, multiply_fraction(fraction, name, unit->nanoseconds)))
		complain_of_size(complaint);
	else
		return end;
	return NULL;
}

static bool add_terms(const char *terms, uint64_t *sum, struct complaint *complaint)
{
	while (terms != NULL && *terms != '\0')
		terms = add_term(terms, sum, complaint);
	return terms != NULL;
}

bool parse_duration(const char *text, int64_t *nanoseconds, struct complaint *complaint)
{
	bool is_negative = *text == '-';
	const char *terms = is_negative || *text == '+' ? text + 1 : text;
	uint64_t sum = 0;

	*nanoseconds = INT64_MAX;
	if (is_same(text, "infinity"))
		return true;
	if (*terms == '\0')
		return complain(complaint, "no number", NULL, NULL);
	if (!is_same(terms, "0") && !add_terms(terms, &sum, complaint))
		return false;
	if (sum == LARGEST && !is_negative)
		return complain_of_size(complaint);
	*nanoseconds = (int64_t)(is_negative ? 0 - sum : sum);
	return true;
}

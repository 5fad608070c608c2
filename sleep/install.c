#include "install.h"

#include "kernel.h"
#include "text.h"

static const char SELF[] = "/proc/self/exe";
static const char SUFFIX[] = ".new.";

enum { PATH_SIZE = 4096, CHUNK_SIZE = 4096, EXECUTABLE = 0755 };

static bool fail(const char *attempt, const char *path, long error)
{
	write_text(STANDARD_ERROR, attempt);
	write_text(STANDARD_ERROR, path);
	write_text(STANDARD_ERROR, ": ");
	write_error(error);
	return false;
}

static long write_all(int file, const char *bytes, size_t size)
{
	while (size > 0) {
		long written = sys_write(file, bytes, size);

		if (written < 0)
			return written;
		bytes += written;
		size -= (size_t)written;
	}
	return 0;
}

static long copy(int from, int to)
{
	char chunk[CHUNK_SIZE];
	long size;

	while ((size = sys_read(from, chunk, sizeof chunk)) > 0) {
		long error = write_all(to, chunk, (size_t)size);

		if (error < 0)
			return error;
	}
	return size;
}

/* No fsync: after a crash of the node, the emptyDir is filled again before it is used. */
static long fill(int file, int self)
{
	long error = copy(self, file);
	long closed;

	if (error == 0)
		error = sys_fchmod(file, EXECUTABLE); /* the umask may have removed bits */
	closed = sys_close(file);
	return error < 0 ? error : closed;
}

/*
 * Write the copy to a temporary file, and rename it.
 * The temporary name ends in the process ID, because process 1 of a container and a hook in the
 * same container may install at the same time. A killed installation leaves its temporary file. The
 * next process with that ID removes it: process 1, after each restart.
 */
static long install_from(int self, const char *temporary, const char *path)
{
	long error;

	sys_unlink(temporary);
	error = sys_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, EXECUTABLE);
	if (error < 0)
		return error;
	error = fill((int)error, self);
	if (error == 0)
		error = sys_rename(temporary, path);
	if (error < 0)
		sys_unlink(temporary);
	return error;
}

static char *append(char *end, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		end[i] = text[i];
	return end + length;
}

static long name_temporary(const char *path, char temporary[PATH_SIZE])
{
	char number[MOST_DIGITS];
	const char *digits = digits_of(sys_getpid(), number);
	size_t length = length_of(path), count = (size_t)(number + MOST_DIGITS - digits);
	char *end = temporary;

	if (length == 0)
		return -ENOENT;
	if (length + sizeof SUFFIX + count > PATH_SIZE)
		return -ENAMETOOLONG;
	end = append(end, path, length);
	end = append(end, SUFFIX, sizeof SUFFIX - 1);
	end = append(end, digits, count);
	*end = '\0';
	return 0;
}

bool install(const char *path)
{
	char temporary[PATH_SIZE];
	long self = sys_open(SELF, O_CLOEXEC, 0);
	long error;

	if (self < 0)
		return fail("sleep: can't read ", SELF, self);
	error = name_temporary(path, temporary);
	if (error == 0)
		error = install_from((int)self, temporary, path);
	if (error < 0)
		return fail("sleep: can't install to ", path, error);
	return true;
}

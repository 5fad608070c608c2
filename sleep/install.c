#include "install.h"

#include "kernel.h"
#include "text.h"

static const char SELF[] = "/proc/self/exe";
static const char SUFFIX[] = ".new";

enum { PATH_SIZE = 4096, CHUNK_SIZE = 4096, EXECUTABLE = 0755 };

static int fail(const char *attempt, const char *path, long error)
{
	write_text(STANDARD_ERROR, attempt);
	write_text(STANDARD_ERROR, path);
	write_text(STANDARD_ERROR, ": ");
	return write_error(error);
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

/* Not synced: an emptyDir that outlives a crash of its node is filled again before it is used. */
static long fill(int file, int self)
{
	long error = copy(self, file);
	long closed;

	if (error == 0)
		error = sys_fchmod(file, EXECUTABLE); /* whatever the umask took away */
	closed = sys_close(file);
	return error < 0 ? error : closed;
}

/*
 * The temporary name is always the same, so that one left behind by an installation that was
 * killed is found: a volume has one installation at a time, and its process is always number 1.
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

static long append_suffix(const char *path, char temporary[PATH_SIZE])
{
	size_t length = length_of(path);

	if (length == 0)
		return -ENOENT;
	if (length + sizeof SUFFIX > PATH_SIZE)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < length; i++)
		temporary[i] = path[i];
	for (size_t i = 0; i < sizeof SUFFIX; i++)
		temporary[length + i] = SUFFIX[i];
	return 0;
}

int install(const char *path)
{
	char temporary[PATH_SIZE];
	long self = sys_open(SELF, O_CLOEXEC, 0);
	long error;

	if (self < 0)
		return fail("sleep: can't read ", SELF, self);
	error = append_suffix(path, temporary);
	if (error == 0)
		error = install_from((int)self, temporary, path);
	if (error < 0)
		return fail("sleep: can't install to ", path, error);
	return 0;
}

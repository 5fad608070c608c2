/*
 * Keeps a container alive, and its image on the node: sleeps, and ends at once on any signal.
 * It runs as process 1 in images of all kinds, so it needs nothing from them: no libc, no shell.
 */
#include "duration.h"
#include "install.h"
#include "kernel.h"
#include "text.h"

enum { DONE = 0, FAILED = 1, MISUSED = 2 };

static const uint64_t NANOSECONDS = 1000000000;
static const uint64_t EVERY_SIGNAL = UINT64_MAX;

static int fail(const char *attempt, long error)
{
	write_text(STANDARD_ERROR, attempt);
	return write_error(error);
}

static int refuse(void)
{
	write_text(STANDARD_ERROR,
		   "usage: sleep DURATION | sleep --install PATH [DURATION] | sleep --version\n"
		   "DURATION is as in Go (720h, 1h30m, 1.5h, 300ms), or infinity\n");
	return MISUSED;
}

static int refuse_duration(const char *text, const struct complaint *complaint)
{
	write_text(STANDARD_ERROR, "sleep: invalid duration \"");
	write_text(STANDARD_ERROR, text);
	write_text(STANDARD_ERROR, "\": ");
	write_text(STANDARD_ERROR, complaint->problem);
	if (complaint->part != NULL) {
		write_text(STANDARD_ERROR, " \"");
		write_part(STANDARD_ERROR, complaint->part, complaint->length);
		write_text(STANDARD_ERROR, "\"");
	}
	write_text(STANDARD_ERROR, "\n");
	return refuse();
}

/*
 * Runtimes stop a container by its image's STOPSIGNAL, which may be any: SIGQUIT, SIGWINCH, even
 * SIGCHLD. A blocked signal is kept for us, also where its default is to be ignored, as most are
 * for process 1. Only the end of a child is no reason to end: process 1 inherits orphans of
 * `kubectl exec`. Where SIGCHLD is ignored the kernel buries children itself and says nothing,
 * while one that somebody sends still arrives.
 */
static long hold_signals(void)
{
	static const struct sigaction ignore = {.handler = SIG_IGN};
	long error = sys_sigaction(SIGCHLD, &ignore);

	return error < 0 ? error : sys_sigprocmask(SIG_BLOCK, &EVERY_SIGNAL);
}

static long read_clock(uint64_t *nanoseconds)
{
	struct timespec now;
	long error = sys_clock_gettime(CLOCK_MONOTONIC, &now);

	if (error == 0)
		*nanoseconds = (uint64_t)now.seconds * NANOSECONDS + (uint64_t)now.nanoseconds;
	return error;
}

/* Returns the signal that came, or an error, of which EAGAIN says that the time is over. */
static long wait_for_signal(uint64_t nanoseconds)
{
	struct timespec limit = {
		.seconds = (int64_t)(nanoseconds / NANOSECONDS),
		.nanoseconds = (int64_t)(nanoseconds % NANOSECONDS),
	};

	return sys_sigtimedwait(&EVERY_SIGNAL, &limit);
}

/* Whoever is told to end has not failed, hence the same exit code for both ways to wake up. */
static int sleep_for(uint64_t nanoseconds)
{
	uint64_t now = 0, end;
	long result = hold_signals();

	if (result < 0)
		return fail("sleep: can't block signals: ", result);
	result = read_clock(&now);
	end = now + nanoseconds;
	while (result == 0 && now < end) {
		result = wait_for_signal(end - now);
		if (result > 0)
			return DONE;
		if (result == -EAGAIN || result == -EINTR)
			result = read_clock(&now);
	}
	return result < 0 ? fail("sleep: can't wait: ", result) : DONE;
}

/* Installs first, where a path is given. */
static int sleep_as_told(const char *path, const char *text)
{
	struct complaint complaint;
	int64_t nanoseconds;

	if (!parse_duration(text, &nanoseconds, &complaint))
		return refuse_duration(text, &complaint);
	if (path != NULL && install(path) != DONE)
		return FAILED;
	return nanoseconds > 0 ? sleep_for((uint64_t)nanoseconds) : DONE;
}

static int print_version(void)
{
	static const char version[] = "sleep " VERSION "\n";
	long written = sys_write(STANDARD_OUTPUT, version, sizeof version - 1);

	return written < 0 ? fail("sleep: can't write: ", written) : DONE;
}

int main(int argc, char **argv)
{
	if (argc == 2 && is_same(argv[1], "--version"))
		return print_version();
	if (argc == 3 && is_same(argv[1], "--install"))
		return install(argv[2]);
	if (argc == 4 && is_same(argv[1], "--install"))
		return sleep_as_told(argv[2], argv[3]);
	if (argc == 2 && !is_same(argv[1], "--install"))
		return sleep_as_told(NULL, argv[1]);
	return refuse();
}

/*
 * Keeps a container alive, and its image on the node: sleeps, and ends on any signal, at once or
 * after as long as it was told to linger.
 * It runs as process 1 in images of all kinds, so it needs nothing from them: no libc, no shell.
 */
#include "duration.h"
#include "install.h"
#include "kernel.h"
#include "text.h"

enum { DONE = 0, FAILED = 1, MISUSED = 2 };

static const uint64_t NANOSECONDS = 1000000000;
static const uint64_t EVERY_SIGNAL = UINT64_MAX, NO_SIGNAL = 0;

static int fail(const char *attempt, long error)
{
	write_text(STANDARD_ERROR, attempt);
	write_error(error);
	return FAILED;
}

static int refuse(void)
{
	write_text(STANDARD_ERROR,
		   "usage: sleep DURATION [LINGER] | sleep --install PATH [DURATION [LINGER]] | "
		   "sleep --version\n"
		   "DURATION is as in Go (720h, 1h30m, 1.5h, 300ms), or infinity; "
		   "LINGER, from a signal to the end, too\n");
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
static long wait_for(const uint64_t *signals, uint64_t nanoseconds)
{
	struct timespec limit = {
		.seconds = (int64_t)(nanoseconds / NANOSECONDS),
		.nanoseconds = (int64_t)(nanoseconds % NANOSECONDS),
	};

	return sys_sigtimedwait(signals, &limit);
}

/* Whoever is told to end has not failed, hence the same exit code for both ways to wake up. */
static int sleep_for(uint64_t nanoseconds, uint64_t linger)
{
	uint64_t now = 0, end;
	long result = read_clock(&now);

	end = now + nanoseconds;
	while (result == 0 && now < end) {
		result = wait_for(&EVERY_SIGNAL, end - now);
		if (result > 0) {
			wait_for(&NO_SIGNAL, linger);
			return DONE;
		}
		if (result == -EAGAIN || result == -EINTR)
			result = read_clock(&now);
	}
	return result < 0 ? fail("sleep: can't wait: ", result) : DONE;
}

/* Installs first, where a path is given; a signal that comes meanwhile is kept, and ends it then. */
static int sleep_as_told(const char *path, const char *duration, const char *linger)
{
	int64_t nanoseconds, lingering;
	struct complaint complaint;
	long error;

	if (!parse_duration(duration, &nanoseconds, &complaint))
		return refuse_duration(duration, &complaint);
	if (!parse_duration(linger, &lingering, &complaint))
		return refuse_duration(linger, &complaint);
	error = hold_signals();
	if (error < 0)
		return fail("sleep: can't block signals: ", error);
	if (path != NULL && !install(path))
		return FAILED;
	if (nanoseconds <= 0)
		return DONE;
	return sleep_for((uint64_t)nanoseconds, lingering > 0 ? (uint64_t)lingering : 0);
}

static int print_version(void)
{
	static const char version[] = "sleep " VERSION "\n";
	long written = sys_write(STANDARD_OUTPUT, version, sizeof version - 1);

	return written < 0 ? fail("sleep: can't write: ", written) : DONE;
}

int main(int argc, char **argv)
{
	const char *path = NULL;

	if (argc > 1 && is_same(argv[1], "--version"))
		return argc == 2 ? print_version() : refuse();
	if (argc > 2 && is_same(argv[1], "--install")) {
		path = argv[2];
		if (argc == 3)
			return install(path) ? DONE : FAILED;
		argc -= 2;
		argv += 2;
	}
	if ((argc == 2 && !is_same(argv[1], "--install")) || argc == 3)
		return sleep_as_told(path, argv[1], argc == 3 ? argv[2] : "0");
	return refuse();
}

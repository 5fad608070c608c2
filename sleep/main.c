/*
 * Keep a container running, so that its image stays on the node.
 * The program sleeps, and ends on any signal: at once, or after the LINGER duration.
 * It runs as process 1 in images of all kinds, so it needs no libc and no shell.
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
 * Block all signals, so that each stays pending until we wait for it.
 * Runtimes stop a container with the STOPSIGNAL of its image, which may be any signal: SIGQUIT,
 * SIGWINCH, even SIGCHLD. A blocked signal stays pending even if its default is to be ignored, as
 * for most signals of process 1.
 * The end of a child must not end us, because process 1 inherits the orphans of `kubectl exec`.
 * With SIGCHLD ignored, the kernel reaps children and sends no SIGCHLD for them. A SIGCHLD that
 * somebody else sends still arrives.
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

/* Return the signal that arrived, or an error. The error -EAGAIN means that the time is over. */
static long wait_for(const uint64_t *signals, uint64_t nanoseconds)
{
	struct timespec limit = {
		.seconds = (int64_t)(nanoseconds / NANOSECONDS),
		.nanoseconds = (int64_t)(nanoseconds % NANOSECONDS),
	};

	return sys_sigtimedwait(signals, &limit);
}

/* A signal is the normal end, so the exit code is the same as after the full time. */
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

/* Install first if there is a path. A signal that arrives meanwhile ends the sleep that follows. */
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

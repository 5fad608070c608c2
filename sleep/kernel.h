/*
 * The system calls, without a libc.
 * A result below zero is a negated error number. Error numbers and flags have the same values on
 * all four architectures.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include "arch_amd64.h"
#elif defined(__aarch64__)
#include "arch_arm64.h"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#include "arch_ppc64le.h"
#elif defined(__s390x__)
#include "arch_s390x.h"
#else
#error "no entry and system calls for this architecture"
#endif

enum { STANDARD_OUTPUT = 1, STANDARD_ERROR = 2 };
enum { ENOENT = 2, EINTR = 4, EAGAIN = 11, ENAMETOOLONG = 36 };
enum { O_WRONLY = 01, O_CREAT = 0100, O_EXCL = 0200, O_CLOEXEC = 02000000 };
enum { AT_FDCWD = -100 };
enum { CLOCK_MONOTONIC = 1 };
enum { SIGCHLD = 17, SIG_IGN = 1, SIG_BLOCK = 0 };

struct timespec {
	int64_t seconds;
	int64_t nanoseconds;
};

/* The four members have this order on all 64-bit kernels. */
struct sigaction {
	uint64_t handler;
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

static inline long sys_read(int file, char *buffer, size_t size)
{
	return system_call(NR_read, file, (long)buffer, (long)size, 0);
}

static inline long sys_write(int file, const char *bytes, size_t size)
{
	return system_call(NR_write, file, (long)bytes, (long)size, 0);
}

static inline long sys_close(int file)
{
	return system_call(NR_close, file, 0, 0, 0);
}

static inline long sys_open(const char *path, int flags, int mode)
{
	return system_call(NR_openat, AT_FDCWD, (long)path, flags, mode);
}

static inline long sys_fchmod(int file, int mode)
{
	return system_call(NR_fchmod, file, mode, 0, 0);
}

static inline long sys_rename(const char *from, const char *to)
{
	return system_call(NR_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to);
}

static inline long sys_unlink(const char *path)
{
	return system_call(NR_unlinkat, AT_FDCWD, (long)path, 0, 0);
}

static inline long sys_getpid(void)
{
	return system_call(NR_getpid, 0, 0, 0, 0);
}

static inline long sys_clock_gettime(int clock, struct timespec *time)
{
	return system_call(NR_clock_gettime, clock, (long)time, 0, 0);
}

static inline long sys_sigaction(int signal, const struct sigaction *action)
{
	return system_call(NR_rt_sigaction, signal, (long)action, 0, sizeof action->mask);
}

static inline long sys_sigprocmask(int how, const uint64_t *signals)
{
	return system_call(NR_rt_sigprocmask, how, (long)signals, 0, sizeof *signals);
}

static inline long sys_sigtimedwait(const uint64_t *signals, const struct timespec *limit)
{
	return system_call(NR_rt_sigtimedwait, (long)signals, 0, (long)limit, sizeof *signals);
}

_Noreturn static inline void sys_exit(int code)
{
	for (;;)
		system_call(NR_exit_group, code, 0, 0, 0);
}

#endif

/* The kernel interface on x86-64: entry, system calls and their numbers. */

#define ENTRY                      \
	"_start:\n"                \
	"	xor %ebp, %ebp\n"  \
	"	mov %rsp, %rdi\n"  \
	"	and $-16, %rsp\n"  \
	"	call start\n"

enum system_call_number {
	NR_read = 0,
	NR_write = 1,
	NR_close = 3,
	NR_rt_sigaction = 13,
	NR_rt_sigprocmask = 14,
	NR_getpid = 39,
	NR_fchmod = 91,
	NR_rt_sigtimedwait = 128,
	NR_clock_gettime = 228,
	NR_exit_group = 231,
	NR_openat = 257,
	NR_unlinkat = 263,
	NR_renameat = 264,
};

static inline long system_call(enum system_call_number number, long a, long b, long c, long d)
{
	register long fourth __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"((long)number), "D"(a), "S"(b), "d"(c), "r"(fourth)
			 : "rcx", "r11", "memory", "cc");
	return result;
}

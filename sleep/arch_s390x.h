/* The kernel interface on IBM Z: entry, system calls and their numbers. */

/* The ABI requires 160 bytes where the callee saves registers, and the end of the back chain. */
#define ENTRY                                \
	"_start:\n"                          \
	"	lgr %r2, %r15\n"             \
	"	aghi %r15, -160\n"           \
	"	xc 0(8, %r15), 0(%r15)\n"    \
	"	brasl %r14, start\n"

enum system_call_number {
	NR_read = 3,
	NR_write = 4,
	NR_close = 6,
	NR_getpid = 20,
	NR_fchmod = 94,
	NR_rt_sigaction = 174,
	NR_rt_sigprocmask = 175,
	NR_rt_sigtimedwait = 177,
	NR_exit_group = 248,
	NR_clock_gettime = 260,
	NR_openat = 288,
	NR_unlinkat = 294,
	NR_renameat = 295,
};

static inline long system_call(enum system_call_number number, long a, long b, long c, long d)
{
	register long which __asm__("r1") = number;
	register long first __asm__("r2") = a;
	register long second __asm__("r3") = b;
	register long third __asm__("r4") = c;
	register long fourth __asm__("r5") = d;

	__asm__ volatile("svc 0"
			 : "+d"(first)
			 : "d"(which), "d"(second), "d"(third), "d"(fourth)
			 : "memory", "cc");
	return first;
}

/* The kernel interface on 64-bit Arm: entry, system calls and their numbers. */

#define ENTRY                  \
	"_start:\n"            \
	"	mov x29, #0\n" \
	"	mov x30, #0\n" \
	"	mov x0, sp\n"  \
	"	b start\n"

enum system_call_number {
	NR_unlinkat = 35,
	NR_renameat = 38,
	NR_fchmod = 52,
	NR_openat = 56,
	NR_close = 57,
	NR_read = 63,
	NR_write = 64,
	NR_exit_group = 94,
	NR_clock_gettime = 113,
	NR_rt_sigaction = 134,
	NR_rt_sigprocmask = 135,
	NR_rt_sigtimedwait = 137,
	NR_getpid = 172,
};

static inline long system_call(enum system_call_number number, long a, long b, long c, long d)
{
	register long which __asm__("x8") = number;
	register long first __asm__("x0") = a;
	register long second __asm__("x1") = b;
	register long third __asm__("x2") = c;
	register long fourth __asm__("x3") = d;

	__asm__ volatile("svc #0"
			 : "+r"(first)
			 : "r"(which), "r"(second), "r"(third), "r"(fourth)
			 : "memory", "cc");
	return first;
}

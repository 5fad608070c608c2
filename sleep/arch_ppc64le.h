/* The kernel interface on little-endian 64-bit POWER: entry, system calls and their numbers. */

/* The ABI (ELFv2) requires the table of contents in r2, and a frame that ends the back chain. */
#define ENTRY                         \
	"_start:\n"                   \
	"	lis 2, .TOC.@ha\n"    \
	"	addi 2, 2, .TOC.@l\n" \
	"	mr 3, 1\n"            \
	"	clrrdi 1, 1, 4\n"     \
	"	li 0, 0\n"            \
	"	mtlr 0\n"             \
	"	stdu 0, -32(1)\n"     \
	"	bl start\n"           \
	"	nop\n"

enum system_call_number {
	NR_read = 3,
	NR_write = 4,
	NR_close = 6,
	NR_getpid = 20,
	NR_fchmod = 94,
	NR_rt_sigaction = 173,
	NR_rt_sigprocmask = 174,
	NR_rt_sigtimedwait = 176,
	NR_exit_group = 234,
	NR_clock_gettime = 246,
	NR_openat = 286,
	NR_unlinkat = 292,
	NR_renameat = 293,
};

/* On POWER, a condition bit marks an error, and the error number is positive. */
static inline long system_call(enum system_call_number number, long a, long b, long c, long d)
{
	register long which __asm__("r0") = number;
	register long first __asm__("r3") = a;
	register long second __asm__("r4") = b;
	register long third __asm__("r5") = c;
	register long fourth __asm__("r6") = d;

	__asm__ volatile("sc\n"
			 "	bns+ 1f\n"
			 "	neg 3, 3\n"
			 "1:"
			 : "+r"(which), "+r"(first), "+r"(second), "+r"(third), "+r"(fourth)
			 :
			 : "r7", "r8", "r9", "r10", "r11", "r12", "ctr", "xer", "cr0", "cr1",
			   "cr5", "cr6", "cr7", "memory");
	return first;
}

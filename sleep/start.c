/* The entry point: find the arguments, run main, and exit with its result. */
#include "kernel.h"

int main(int argc, char **argv);
_Noreturn void start(const long *stack);

__asm__(".text\n"
	".globl _start\n"
	".type _start, %function\n" ENTRY);

/* The stack begins with the number of arguments, and the arguments follow. */
__attribute__((used)) void start(const long *stack)
{
	sys_exit(main((int)stack[0], (char **)(stack + 1)));
}

/*
 * A sleep that ignores signals as process 1 of a container. It has no handler, and the kernel does
 * not deliver such signals to process 1. The sleep of coreutils behaves like this as well.
 *
 *   sleep --install PATH             copies itself to PATH, like the product's own
 *   sleep --install PATH ANYTHING    copies itself to PATH, and never ends
 *   sleep ANYTHING                   never ends
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy(FILE *from, FILE *to)
{
	char chunk[4096];
	size_t size;

	while ((size = fread(chunk, 1, sizeof chunk, from)) > 0)
		if (fwrite(chunk, 1, size, to) != size)
			return 1;
	return ferror(from) || fclose(to);
}

static int install(const char *path)
{
	char temporary[4096];
	FILE *self = fopen("/proc/self/exe", "rb");
	FILE *file;

	snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
	file = fopen(temporary, "wb");
	if (self == NULL || file == NULL || copy(self, file) || chmod(temporary, 0755) ||
	    rename(temporary, path)) {
		perror(path);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--install") == 0) {
		int failed = install(argv[2]);

		if (failed || argc == 3)
			return failed;
	}
	for (;;)
		pause();
}

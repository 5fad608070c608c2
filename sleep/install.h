/* Copy the running program to a path where other containers can start it. */
#ifndef INSTALL_H
#define INSTALL_H

#include <stdbool.h>

/*
 * Copy the running program to a path. Return true on success. Otherwise print the error.
 * Until the copy is complete, the path has the old file, or none.
 */
bool install(const char *path);

#endif

/* Copies the running program to where other containers start it from. */
#ifndef INSTALL_H
#define INSTALL_H

#include <stdbool.h>

/*
 * Returns whether it did, else has said why not. Whoever looks sees the old file, or none, until
 * the new one is whole.
 */
bool install(const char *path);

#endif

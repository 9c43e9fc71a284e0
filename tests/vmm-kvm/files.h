/* Temporary files, seeds and faults for the tests of files. */
#ifndef SHL_TESTS_VMM_FILES_H
#define SHL_TESTS_VMM_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* A new file without a name; the caller closes it. */
int files_temp(void);
/* The same file under a new open file description. */
int files_reopen(int fd, int flags);
uint64_t files_bytes(int fd);
/* All of it on the heap, to be compared later. */
uint8_t *files_content(int fd, uint64_t *ret_bytes);
/* A copy of the first @bytes of @fd. */
int files_copy(int fd, uint64_t bytes);

uint32_t files_random(uint32_t *seed);

/* No file may grow beyond @bytes (EFBIG, without the signal); 0: no limit any more. */
void files_limit(uint64_t bytes);

/* A file system of @bytes in a mount namespace of this process: a folder, or NULL when
 * this machine does not allow that. */
const char *files_small_fs(uint64_t bytes);
void files_small_fs_end(void);
/* A file without a name on it. */
int files_small_temp(void);

#endif /* SHL_TESTS_VMM_FILES_H */

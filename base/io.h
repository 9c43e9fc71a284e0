/* Small wrappers over system calls: whole reads and writes, files, clocks. */
#ifndef SHL_BASE_IO_H
#define SHL_BASE_IO_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

uint64_t shl_monotonic_ms(void);
uint64_t shl_monotonic_us(void);
uint64_t shl_boottime_ms(void); /* goes on while the machine sleeps */
int64_t shl_realtime_ms(void);

/* Exactly @len bytes at @offset. 0, -errno, or -ENODATA when the file ends early. */
SHL_MUST_CHECK int shl_pread_full(int fd, void *dst, size_t len, uint64_t offset);
SHL_MUST_CHECK int shl_pwrite_full(int fd, const void *src, size_t len, uint64_t offset);
SHL_MUST_CHECK int shl_write_full(int fd, const void *src, size_t len);

/* Whole file appended to @buf (its limit bounds the size). */
SHL_MUST_CHECK int shl_read_file(const char *path, struct shl_buf *buf);

/* Write to a temporary name, fsync, rename, fsync the folder. */
SHL_MUST_CHECK int shl_write_file_atomic(const char *path,
                                         const void *src,
                                         size_t len,
                                         mode_t mode);

/* mkdir -p. 0 also when it is there already. */
SHL_MUST_CHECK int shl_mkdir_all(const char *path, mode_t mode);

/* rm -rf without following links. 0 also when nothing is there. */
SHL_MUST_CHECK int shl_remove_tree(const char *path);

#endif /* SHL_BASE_IO_H */

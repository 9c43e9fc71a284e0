#include "bench/flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "vmm-kvm/layer.h"

#define COPY_BYTES (1ull << 20)

static int copy_range(int in, uint64_t from, int out, uint64_t to, uint64_t len)
{
    SHL_CLEANUP_FREE uint8_t *chunk = malloc(COPY_BYTES);
    uint64_t at = 0;
    int r = chunk ? 0 : -ENOMEM;

    while (r == 0 && at < len) {
        size_t part = len - at < COPY_BYTES ? (size_t)(len - at) : COPY_BYTES;

        r = shl_pread_full(in, chunk, part, from + at);
        if (r == 0) {
            r = shl_pwrite_full(out, chunk, part, to + at);
        }
        at += part;
    }
    return r;
}

/* Without its holes. */
static int copy_base(const char *path, int out, uint64_t bytes, struct shl_err *err)
{
    SHL_CLEANUP_FD int in = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    off_t at = 0;
    int r = 0;

    if (in < 0 || fstat(in, &st) < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    if ((uint64_t)st.st_size != bytes) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s is of another size", path);
    }
    while (r == 0 && at < st.st_size && (at = lseek(in, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(in, at, SEEK_HOLE);

        r = copy_range(in, (uint64_t)at, out, (uint64_t)at, (uint64_t)(end - at));
        at = end;
    }
    return r < 0 ? shl_err_set(err, r, "cannot copy %s: %s", path, shl_err_text(r)) : 0;
}

static int copy_layer(const char *path, int out, uint64_t bytes, struct shl_err *err)
{
    SHL_CLEANUP_FD int in = open(path, O_RDONLY | O_CLOEXEC);
    struct vmm_layer layer;
    uint64_t i;
    int r;

    if (in < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    r = vmm_layer_open(&layer, in, err);
    if (r < 0) {
        return shl_err_wrap(err, r, "%s", path);
    }
    for (i = 0; i < layer.run_count && r == 0; i++) {
        const struct vmm_layer_run *run = &layer.runs[i];
        uint64_t to = run->first_page * VMM_LAYER_PAGE_BYTES;
        uint64_t len = run->page_count * VMM_LAYER_PAGE_BYTES;

        r = to + len <= bytes ? copy_range(in, run->file_offset, out, to, len) : SHL_ELIMIT;
    }
    vmm_layer_release(&layer);
    return r < 0 ? shl_err_set(err, r, "cannot copy %s: %s", path, shl_err_text(r)) : 0;
}

int bench_flatten(const char *raw,
                  uint64_t bytes,
                  const char *base,
                  const char *const *layers,
                  unsigned layer_count,
                  struct shl_err *err)
{
    SHL_CLEANUP_FD int out = open(raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unsigned i;
    int r = 0;

    if (out < 0 || ftruncate(out, (off_t)bytes) < 0) {
        return shl_err_sys(err, errno, "cannot make %s", raw);
    }
    if (base) {
        r = copy_base(base, out, bytes, err);
    }
    for (i = 0; i < layer_count && r == 0; i++) {
        r = copy_layer(layers[i], out, bytes, err);
    }
    return r;
}

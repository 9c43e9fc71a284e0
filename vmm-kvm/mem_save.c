#include "vmm-kvm/mem_save.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm-kvm/iov.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/mem_scan.h"

/* Joining runs over the clean pages between them makes fewer pieces to map. As long as
 * it adds no more than this share of the dirty pages it is worth it anyway. */
#define JOIN_SHARE 16u
#define GAP_MAX    2048u /* longer gaps are never written */
#define IOV_PARTS  1024u /* UIO_MAXIOV of Linux */

/* With all gaps up to GAP_MAX closed, few enough runs are left. */
_Static_assert(VMM_LAYER_MEMORY_MAX / VMM_PAGE_BYTES / GAP_MAX < VMM_LAYER_RUNS_MAX,
               "runs of any memory can be joined to fit a layer");

struct save {
    const struct vmm_mem *mem;
    uint64_t page_end; /* behind the last page there is */
    uint64_t *dirty;   /* a bit per page */
    struct vmm_mem_save_stats *stats;
};

static bool zeros_below(const struct vmm_mem *mem, uint64_t page)
{
    if (mem->has_base && page < mem->size / VMM_PAGE_BYTES) {
        return false;
    }
    return !mem->layered || !(mem->layered[page / 8] >> (page % 8) & 1);
}

static bool is_zero(const uint8_t *page)
{
    /* Most pages that are not zeros show it at once. */
    return *(const uint64_t *)(const void *)page == 0 &&
           memcmp(page, page + 8, VMM_PAGE_BYTES - 8) == 0;
}

/* Private pages: those that hide something, or are no zeros, are dirty. */
static void on_private(void *ctx, uint64_t first, uint64_t count)
{
    struct save *save = ctx;
    uint64_t there;
    const uint8_t *host = vmm_mem_page(save->mem, first, &there);
    uint64_t page;

    assert(host);
    assert(count <= there);
    for (page = first; page < first + count; page++, host += VMM_PAGE_BYTES) {
        uint64_t bit = 1ull << (page % 64);

        if (save->dirty[page / 64] & bit) {
            continue;
        }
        if (zeros_below(save->mem, page) && is_zero(host)) {
            save->stats->zero_pages++;
            continue;
        }
        save->dirty[page / 64] |= bit;
        save->stats->dirty_pages++;
    }
}

static int scan(struct save *save, int pagemap_fd, bool by_entries, struct shl_err *err)
{
    uint64_t page = 0, count;

    for (; page < save->page_end; page += count) {
        const uint8_t *host = vmm_mem_page(save->mem, page, &count);
        int r = vmm_mem_scan(pagemap_fd, host, page, count, by_entries, on_private, save);

        if (r < 0) {
            return shl_err_sys(err, -r, "cannot read which pages of the guest are its own");
        }
    }
    return 0;
}

/* The next dirty page from @page on, or page_end. */
static uint64_t next_dirty(const struct save *save, uint64_t page)
{
    while (page < save->page_end) {
        uint64_t word = save->dirty[page / 64] >> (page % 64);

        if (word) {
            return page + (uint64_t)__builtin_ctzll(word);
        }
        page = (page / 64 + 1) * 64;
    }
    return save->page_end;
}

/* Behind the last dirty page of the run that starts at @page. */
static uint64_t end_of_run(const struct save *save, uint64_t page)
{
    while (page < save->page_end) {
        uint64_t word = ~save->dirty[page / 64] >> (page % 64);

        /* The shift brings zeros in from above: those bits are no clean pages. */
        if (word) {
            return page + (uint64_t)__builtin_ctzll(word);
        }
        page = (page / 64 + 1) * 64;
    }
    return save->page_end;
}

/* Which gaps between runs are written with them: all of up to @pages clean pages, and
 * @more of one page more. */
struct join {
    uint64_t pages;
    uint64_t more;
    uint64_t runs; /* left then */
};

static bool joins(struct join *join, uint64_t gap)
{
    if (gap == join->pages + 1 && join->more > 0) {
        join->more--;
        return true;
    }
    return gap <= join->pages;
}

/* The shortest gaps first: as many as cost little, and as many as it takes to come down
 * to VMM_LAYER_RUNS_MAX. */
static struct join choose_join(const struct save *save)
{
    uint64_t gaps[GAP_MAX + 1] = {0};
    uint64_t budget = save->stats->dirty_pages / JOIN_SHARE;
    uint64_t first = next_dirty(save, 0);
    struct join join = {0};
    uint64_t gap;

    while (first < save->page_end) {
        uint64_t end = end_of_run(save, first);

        first = next_dirty(save, end);
        join.runs++;
        if (first < save->page_end && first - end <= GAP_MAX) {
            gaps[first - end]++;
        }
    }
    for (gap = 1; gap <= GAP_MAX; gap++) {
        uint64_t needed = join.runs > VMM_LAYER_RUNS_MAX ? join.runs - VMM_LAYER_RUNS_MAX : 0;
        uint64_t count = SHL_MIN(gaps[gap], SHL_MAX(needed, budget / gap));

        join.runs -= count;
        budget -= SHL_MIN(budget, count * gap);
        if (count < gaps[gap]) {
            join.more = count;
            break;
        }
        join.pages = gap;
    }
    return join;
}

static int collect_runs(const struct save *save, struct vmm_layer *layer, struct shl_err *err)
{
    struct join join = choose_join(save);
    uint64_t first = next_dirty(save, 0);

    assert(join.runs <= VMM_LAYER_RUNS_MAX);
    layer->runs = calloc((size_t)join.runs + 1, sizeof(*layer->runs));
    if (!layer->runs) {
        return shl_err_set(err, -ENOMEM, "no memory for the table of a memory layer");
    }
    while (first < save->page_end) {
        uint64_t end = end_of_run(save, first);
        uint64_t next = next_dirty(save, end);

        while (next < save->page_end && joins(&join, next - end)) {
            end = end_of_run(save, next);
            next = next_dirty(save, end);
        }
        assert(layer->run_count < join.runs);
        layer->runs[layer->run_count++] =
            (struct vmm_layer_run){.first_page = first, .page_count = end - first};
        first = next;
    }
    return 0;
}

/* All of @iov at @offset; entries are consumed. */
static int write_all(int fd, struct iovec *iov, unsigned count, uint64_t offset)
{
    while (count > 0) {
        ssize_t n = pwritev(fd, iov, (int)count, (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        offset += (uint64_t)n;
        count = vmm_iov_advance(&iov, count, (size_t)n);
    }
    return 0;
}

/* The pages of all runs, straight from the guest's memory. */
static int write_pages(const struct save *save, const struct vmm_layer *layer)
{
    struct iovec iov[IOV_PARTS];
    unsigned used = 0;
    uint64_t offset = layer->data_offset, pending = 0, i;

    for (i = 0; i < layer->run_count; i++) {
        uint64_t page = layer->runs[i].first_page;
        uint64_t left = layer->runs[i].page_count;

        while (left > 0) {
            uint64_t step;
            uint8_t *host = vmm_mem_page(save->mem, page, &step);

            step = SHL_MIN(step, left);
            iov[used++] = (struct iovec){host, (size_t)(step * VMM_PAGE_BYTES)};
            pending += step * VMM_PAGE_BYTES;
            page += step;
            left -= step;
            if (used == IOV_PARTS) {
                int r = write_all(layer->fd, iov, used, offset);

                if (r < 0) {
                    return r;
                }
                offset += pending;
                pending = 0;
                used = 0;
            }
        }
    }
    return write_all(layer->fd, iov, used, offset);
}

static int save_layer(struct save *save, int out_fd, struct shl_err *err)
{
    struct vmm_layer layer = {.fd = out_fd, .memory_bytes = vmm_mem_total_bytes(save->mem)};
    int r = collect_runs(save, &layer, err);

    if (r == 0) {
        r = vmm_layer_begin(&layer, err);
    }
    if (r == 0) {
        r = write_pages(save, &layer);
        if (r < 0) {
            (void)shl_err_sys(err, -r, "cannot write the guest's memory");
        }
    }
    save->stats->run_count = layer.run_count;
    save->stats->written_bytes = layer.data_offset + layer.page_count * VMM_PAGE_BYTES;
    vmm_layer_release(&layer);
    return r;
}

int vmm_mem_save_how(const struct vmm_mem *mem,
                     int pagemap_fd,
                     bool by_entries,
                     int out_fd,
                     struct vmm_mem_save_stats *ret,
                     struct shl_err *err)
{
    SHL_CLEANUP_FREE uint64_t *dirty = NULL;
    struct vmm_mem_save_stats stats = {0};
    struct save save = {.mem = mem, .stats = &stats};
    int r;

    save.page_end = (mem->size + mem->hotplug_usable) / VMM_PAGE_BYTES;
    dirty = calloc((size_t)(save.page_end / 64 + 1), sizeof(*dirty));
    if (!dirty) {
        return shl_err_set(err, -ENOMEM, "no memory to look for the guest's own pages");
    }
    save.dirty = dirty;
    r = scan(&save, pagemap_fd, by_entries, err);
    if (r == 0) {
        r = save_layer(&save, out_fd, err);
    }
    if (r == 0) {
        *ret = stats;
    }
    return r;
}

int vmm_mem_save(const struct vmm_mem *mem,
                 int pagemap_fd,
                 int out_fd,
                 struct vmm_mem_save_stats *ret,
                 struct shl_err *err)
{
    return vmm_mem_save_how(mem, pagemap_fd, false, out_fd, ret, err);
}

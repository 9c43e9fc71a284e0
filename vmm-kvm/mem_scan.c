#include "vmm-kvm/mem_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "vmm-kvm/layout.h"

/* ---- Linux 6.7: Documentation/admin-guide/mm/pagemap.rst, "Pagemap Scan IOCTL" ---- */

#define PAGE_IS_FILE    (1ull << 2)
#define PAGE_IS_PRESENT (1ull << 3)
#define PAGE_IS_SWAPPED (1ull << 4)
#define RANGES          512u

struct range {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

struct scan_arg {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end; /* how far it came */
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
_Static_assert(_IOWR('f', 16, struct scan_arg) == VMM_PAGEMAP_SCAN, "the kernel's number");

struct pages {
    int pagemap_fd;
    uintptr_t host;
    uint64_t page;
    uint64_t count;
    vmm_mem_scan_cb report;
    void *ctx;
};

static int scan_ranges(const struct pages *pages)
{
    SHL_CLEANUP_FREE struct range *ranges = calloc(RANGES, sizeof(*ranges));
    struct scan_arg arg = {
        .size = sizeof(arg),
        .start = pages->host,
        .end = pages->host + pages->count * VMM_PAGE_BYTES,
        .vec = (uintptr_t)ranges,
        .vec_len = RANGES,
        .category_inverted = PAGE_IS_FILE, /* not a file's, and there */
        .category_mask = PAGE_IS_FILE,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_FILE,
    };

    if (!ranges) {
        return -ENOMEM;
    }
    while (arg.start < arg.end) {
        int n = ioctl(pages->pagemap_fd, VMM_PAGEMAP_SCAN, &arg);
        int i;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        for (i = 0; i < n; i++) {
            pages->report(pages->ctx,
                          pages->page + (ranges[i].start - pages->host) / VMM_PAGE_BYTES,
                          (ranges[i].end - ranges[i].start) / VMM_PAGE_BYTES);
        }
        if (arg.walk_end <= arg.start) {
            return -EIO; /* no progress: not a kernel that can do this */
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

/* ---- before: one entry per page ---- */

#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_FILE    (1ull << 61) /* a file's page, or shared */
#define PIECE_PAGES   65536u       /* 512 KiB of pagemap */

static bool is_private(uint64_t entry)
{
    return (entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) && !(entry & ENTRY_FILE);
}

static int scan_entries(const struct pages *pages)
{
    SHL_CLEANUP_FREE uint64_t *entries = malloc(PIECE_PAGES * sizeof(*entries));
    uint64_t done, i;

    if (!entries) {
        return -ENOMEM;
    }
    for (done = 0; done < pages->count; done += i) {
        uint64_t count = SHL_MIN(pages->count - done, (uint64_t)PIECE_PAGES);
        int r = shl_pread_full(pages->pagemap_fd, entries, (size_t)count * sizeof(*entries),
                               (pages->host / VMM_PAGE_BYTES + done) * sizeof(*entries));

        if (r < 0) {
            return r;
        }
        for (i = 0; i < count; i++) {
            if (is_private(entries[i])) {
                pages->report(pages->ctx, pages->page + done + i, 1);
            }
        }
    }
    return 0;
}

int vmm_mem_scan(int pagemap_fd,
                 const uint8_t *host,
                 uint64_t page,
                 uint64_t count,
                 bool by_entries,
                 vmm_mem_scan_cb report,
                 void *ctx)
{
    const struct pages pages = {pagemap_fd, (uintptr_t)host, page, count, report, ctx};
    int r = by_entries ? -ENOTTY : scan_ranges(&pages);

    /* Pages may then be reported twice. */
    return r == -ENOTTY || r == -EINVAL || r == -EIO ? scan_entries(&pages) : r;
}

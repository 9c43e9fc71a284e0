#include "vmm-kvm/layer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/sum.h"

#define PAGE    VMM_LAYER_PAGE_BYTES
#define VERSION 1u

/* Offsets in the header. */
#define AT_VERSION      8u
#define AT_PAGE_BYTES   12u
#define AT_MEMORY_BYTES 16u
#define AT_RUN_COUNT    24u
#define AT_PAGE_COUNT   32u
#define AT_DATA_OFFSET  40u
#define AT_TABLE_SUM    48u
#define AT_SUM          56u

#define RUN_BYTES 16u /* u64 first_page, u64 page_count */

static const char magic[8] = {'S', 'H', 'L', 'M', 'E', 'M', '\r', '\n'};

static uint64_t data_offset_of(uint64_t run_count)
{
    uint64_t end = VMM_LAYER_HEADER_BYTES + run_count * RUN_BYTES;

    return (end + PAGE - 1) / PAGE * PAGE;
}

static bool memory_is_possible(uint64_t memory_bytes)
{
    return memory_bytes > 0 && memory_bytes % PAGE == 0 && memory_bytes <= VMM_LAYER_MEMORY_MAX;
}

/* Ascending, none empty, not touching, inside the memory. Fills in the file offsets and
 * @ret_pages; nothing overflows, since both are bounded by memory_bytes. */
static bool place_runs(struct vmm_layer *layer, uint64_t *ret_pages)
{
    uint64_t memory_pages = layer->memory_bytes / PAGE;
    uint64_t free_from = 0; /* first page the next run may have */
    uint64_t pages = 0;
    uint64_t i;

    for (i = 0; i < layer->run_count; i++) {
        struct vmm_layer_run *run = &layer->runs[i];

        if (run->first_page < free_from || run->first_page >= memory_pages ||
            run->page_count == 0 || run->page_count > memory_pages - run->first_page) {
            return false;
        }
        run->file_offset = layer->data_offset + pages * PAGE;
        pages += run->page_count;
        free_from = run->first_page + run->page_count + 1;
    }
    *ret_pages = pages;
    return true;
}

static int corrupt(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_ECORRUPT, "the memory layer %s", what);
}

static int parse_header(struct vmm_layer *layer,
                        const uint8_t raw[VMM_LAYER_HEADER_BYTES],
                        struct shl_err *err)
{
    if (memcmp(raw, magic, sizeof(magic)) != 0) {
        return corrupt(err, "does not start with its header");
    }
    if (shl_get_le32(raw + AT_VERSION) != VERSION) {
        return shl_err_set(err, SHL_EVERSION,
                           "the memory layer has format version %u, this program knows %u",
                           shl_get_le32(raw + AT_VERSION), VERSION);
    }
    if (shl_get_le64(raw + AT_SUM) != shl_sum(SHL_SUM_START, raw, AT_SUM)) {
        return corrupt(err, "has a damaged header (checksum)");
    }
    layer->memory_bytes = shl_get_le64(raw + AT_MEMORY_BYTES);
    layer->run_count = shl_get_le64(raw + AT_RUN_COUNT);
    layer->page_count = shl_get_le64(raw + AT_PAGE_COUNT);
    layer->data_offset = shl_get_le64(raw + AT_DATA_OFFSET);
    if (shl_get_le32(raw + AT_PAGE_BYTES) != PAGE || !memory_is_possible(layer->memory_bytes) ||
        layer->run_count > VMM_LAYER_RUNS_MAX || layer->page_count > layer->memory_bytes / PAGE ||
        layer->data_offset != data_offset_of(layer->run_count)) {
        return corrupt(err, "has impossible sizes in its header");
    }
    return 0;
}

static int check_file_size(const struct vmm_layer *layer, struct shl_err *err)
{
    struct stat st;

    if (fstat(layer->fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the memory layer");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the memory layer is not a regular file");
    }
    if ((uint64_t)st.st_size != layer->data_offset + layer->page_count * PAGE) {
        return corrupt(err, "is cut off or has bytes too many");
    }
    return 0;
}

static int read_table(struct vmm_layer *layer, uint64_t sum, struct shl_err *err)
{
    size_t bytes = (size_t)layer->run_count * RUN_BYTES;
    SHL_CLEANUP_FREE uint8_t *raw = malloc(bytes + 1);
    uint64_t i, pages = 0;
    int r;

    layer->runs = calloc((size_t)layer->run_count + 1, sizeof(*layer->runs));
    if (!raw || !layer->runs) {
        return shl_err_set(err, -ENOMEM, "no memory for the table of a memory layer");
    }
    r = shl_pread_full(layer->fd, raw, bytes, VMM_LAYER_HEADER_BYTES);
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the table of the memory layer");
    }
    if (sum != shl_sum(SHL_SUM_START, raw, bytes)) {
        return corrupt(err, "has a damaged table (checksum)");
    }
    for (i = 0; i < layer->run_count; i++) {
        layer->runs[i].first_page = shl_get_le64(raw + i * RUN_BYTES);
        layer->runs[i].page_count = shl_get_le64(raw + i * RUN_BYTES + 8);
    }
    if (!place_runs(layer, &pages) || pages != layer->page_count) {
        return corrupt(err, "has a table that makes no sense");
    }
    return 0;
}

int vmm_layer_open(struct vmm_layer *layer, int fd, struct shl_err *err)
{
    uint8_t raw[VMM_LAYER_HEADER_BYTES];
    int r;

    memset(layer, 0, sizeof(*layer));
    layer->fd = fd;
    r = shl_pread_full(fd, raw, sizeof(raw), 0);
    if (r == -ENODATA) {
        return corrupt(err, "is cut off in its header");
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the memory layer");
    }
    r = parse_header(layer, raw, err);
    if (r == 0) {
        r = check_file_size(layer, err);
    }
    if (r == 0) {
        r = read_table(layer, shl_get_le64(raw + AT_TABLE_SUM), err);
    }
    if (r < 0) {
        vmm_layer_release(layer);
    }
    return r;
}

void vmm_layer_release(struct vmm_layer *layer)
{
    free(layer->runs);
    memset(layer, 0, sizeof(*layer));
    layer->fd = -1;
}

const struct vmm_layer_run *vmm_layer_find(const struct vmm_layer *layer, uint64_t page)
{
    uint64_t low = 0, high = layer->run_count;

    /* First run whose end is behind @page. */
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (layer->runs[mid].first_page + layer->runs[mid].page_count > page) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low < layer->run_count ? &layer->runs[low] : NULL;
}

static void format_header(const struct vmm_layer *layer,
                          uint64_t table_sum,
                          uint8_t raw[VMM_LAYER_HEADER_BYTES])
{
    memset(raw, 0, VMM_LAYER_HEADER_BYTES);
    memcpy(raw, magic, sizeof(magic));
    shl_put_le32(raw + AT_VERSION, VERSION);
    shl_put_le32(raw + AT_PAGE_BYTES, PAGE);
    shl_put_le64(raw + AT_MEMORY_BYTES, layer->memory_bytes);
    shl_put_le64(raw + AT_RUN_COUNT, layer->run_count);
    shl_put_le64(raw + AT_PAGE_COUNT, layer->page_count);
    shl_put_le64(raw + AT_DATA_OFFSET, layer->data_offset);
    shl_put_le64(raw + AT_TABLE_SUM, table_sum);
    shl_put_le64(raw + AT_SUM, shl_sum(SHL_SUM_START, raw, AT_SUM));
}

int vmm_layer_begin(struct vmm_layer *layer, struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *raw = NULL;
    uint8_t *table;
    uint64_t i;
    int r;

    if (!memory_is_possible(layer->memory_bytes) || layer->run_count > VMM_LAYER_RUNS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "a memory layer of that size is not possible");
    }
    layer->data_offset = data_offset_of(layer->run_count);
    if (!place_runs(layer, &layer->page_count)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the runs of a memory layer overlap or touch");
    }
    raw = calloc(1, (size_t)layer->data_offset);
    if (!raw) {
        return shl_err_set(err, -ENOMEM, "no memory for the table of a memory layer");
    }
    table = raw + VMM_LAYER_HEADER_BYTES;
    for (i = 0; i < layer->run_count; i++) {
        shl_put_le64(table + i * RUN_BYTES, layer->runs[i].first_page);
        shl_put_le64(table + i * RUN_BYTES + 8, layer->runs[i].page_count);
    }
    format_header(layer, shl_sum(SHL_SUM_START, table, (size_t)layer->run_count * RUN_BYTES), raw);
    if (ftruncate(layer->fd, (off_t)(layer->data_offset + layer->page_count * PAGE)) < 0) {
        return shl_err_sys(err, errno, "cannot size the memory layer");
    }
    r = shl_pwrite_full(layer->fd, raw, (size_t)layer->data_offset, 0);
    return r < 0 ? shl_err_sys(err, -r, "cannot write the memory layer") : 0;
}

/* Images against an oracle: random stacks of layers, of which a plain array says what
 * the machine sees; whatever is made of them must read the same. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "checkpoint/image.h"
#include "tests/checkpoint/helper.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/sealed.h"

#define PAGE       4096u
#define CHUNK      CKPT_CHUNK_BYTES
#define MEM_BYTES  (40u * CHUNK + 5 * PAGE)
#define LAYERS     4u
#define DISK_BYTES (30u * CHUNK + 1536)
#define ROUNDS     12u

struct machine {
    uint64_t random;
    uint8_t *memory, *disk; /* what it sees */
    uint8_t *mem_base_bytes;
    int mem_base, disk_base;
    int mem[LAYERS], disks[LAYERS];
    uint64_t disk_bytes[LAYERS];
    int state;
};

static int new_file(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void fill(struct machine *m, uint8_t *dst, size_t len)
{
    size_t i;
    uint8_t kind = (uint8_t)(next_random(&m->random) % 4);

    for (i = 0; i < len; i++) {
        dst[i] = kind == 0 ? 0 : kind == 1 ? 0x5a : (uint8_t)next_random(&m->random);
    }
}

static void put(int fd, const void *src, size_t len, uint64_t offset)
{
    assert_int_equal(shl_pwrite_full(fd, src, len, offset), 0);
}

/* A layer of random runs, applied to the array too. */
static int make_memory_layer(struct machine *m)
{
    struct vmm_layer layer = {.fd = new_file(), .memory_bytes = MEM_BYTES};
    uint64_t page = next_random(&m->random) % 20, i;
    struct shl_err err = {0};

    layer.runs = calloc(MEM_BYTES / PAGE, sizeof(*layer.runs));
    while (page < MEM_BYTES / PAGE) {
        uint64_t count = 1 + next_random(&m->random) % (next_random(&m->random) % 8 ? 5 : 60);

        count = SHL_MIN(count, MEM_BYTES / PAGE - page);
        layer.runs[layer.run_count++] = (struct vmm_layer_run){page, count, 0};
        page += count + 1 + next_random(&m->random) % (next_random(&m->random) % 4 ? 40 : 3);
    }
    assert_int_equal(vmm_layer_begin(&layer, &err), 0);
    for (i = 0; i < layer.run_count; i++) {
        uint8_t *at = m->memory + layer.runs[i].first_page * PAGE;

        for (page = 0; page < layer.runs[i].page_count; page++) {
            fill(m, at + page * PAGE, PAGE);
        }
        put(layer.fd, at, layer.runs[i].page_count * PAGE, layer.runs[i].file_offset);
    }
    i = (uint64_t)layer.fd;
    vmm_layer_release(&layer);
    return (int)i;
}

static int make_overlay(struct machine *m, uint64_t bytes)
{
    struct vmm_overlay_header header = {.virtual_bytes = bytes};
    uint8_t *bitmap = calloc(1, vmm_overlay_bitmap_bytes(bytes));
    uint8_t cluster[CHUNK];
    uint64_t n;
    int fd = new_file();

    assert_int_equal(
        vmm_overlay_measure_base(m->disk_base, &header.base_bytes, header.base_id, NULL), 0);
    header.data_offset = vmm_overlay_data_offset(bytes);
    assert_int_equal(vmm_overlay_file_create(fd, &header, NULL), 0);
    for (n = 0; n * CHUNK < bytes; n++) {
        size_t len = SHL_MIN((uint64_t)CHUNK, bytes - n * CHUNK);

        if (next_random(&m->random) % 3 && n + 1 < bytes / CHUNK) {
            continue;
        }
        fill(m, cluster, CHUNK); /* what is beyond the disk's end means nothing */
        put(fd, cluster, CHUNK, header.data_offset + n * CHUNK);
        memset(m->disk + n * CHUNK, 0, SHL_MIN((uint64_t)CHUNK, DISK_BYTES - n * CHUNK));
        memcpy(m->disk + n * CHUNK, cluster, len);
        bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
    }
    put(fd, bitmap, vmm_overlay_bitmap_bytes(bytes), VMM_OVERLAY_HEADER_BYTES);
    free(bitmap);
    return fd;
}

static void make_machine(struct machine *m, uint64_t seed, bool with_base)
{
    static const uint64_t sizes[LAYERS] = {20 * CHUNK + 512, 20 * CHUNK + 512, 25 * CHUNK,
                                           DISK_BYTES};
    uint8_t state[3 * CHUNK / 2];
    unsigned i;

    memset(m, 0, sizeof(*m));
    m->random = seed;
    m->memory = calloc(1, MEM_BYTES);
    m->disk = calloc(1, DISK_BYTES);
    m->mem_base_bytes = calloc(1, MEM_BYTES);
    m->mem_base = m->disk_base = -1;
    if (with_base) {
        m->mem_base = new_file();
        for (i = 0; i < MEM_BYTES / PAGE - 30; i++) { /* shorter than the memory */
            fill(m, m->memory + i * PAGE, PAGE);
        }
        memcpy(m->mem_base_bytes, m->memory, MEM_BYTES);
        put(m->mem_base, m->memory, MEM_BYTES - 30 * PAGE, 0);
        m->disk_base = new_file();
        for (i = 0; i < 18; i++) {
            fill(m, m->disk + i * CHUNK, CHUNK);
        }
        put(m->disk_base, m->disk, 17 * CHUNK + 512, 0);
        memset(m->disk + 17 * CHUNK + 512, 0, CHUNK - 512);
    }
    for (i = 0; i < LAYERS; i++) {
        m->mem[i] = make_memory_layer(m);
        m->disk_bytes[i] = sizes[i];
        m->disks[i] = make_overlay(m, sizes[i]);
    }
    m->state = new_file();
    fill(m, state, sizeof(state));
    state[7] = 1;
    put(m->state, state, sizeof(state), 0);
}

static void close_file(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void drop_machine(struct machine *m)
{
    unsigned i;

    for (i = 0; i < LAYERS; i++) {
        close_file(m->mem[i]);
        close_file(m->disks[i]);
    }
    close_file(m->mem_base);
    close_file(m->disk_base);
    close_file(m->state);
    free(m->memory);
    free(m->disk);
    free(m->mem_base_bytes);
}

/* What a machine with one layer over @base sees, page by page. */
static void check_memory_layer(struct machine *m, int fd, bool chunks)
{
    uint8_t *seen = malloc(MEM_BYTES);
    struct vmm_layer layer;
    struct shl_err err = {0};
    uint64_t i;

    memcpy(seen, m->mem_base_bytes, MEM_BYTES);
    assert_int_equal(vmm_layer_open(&layer, fd, &err), 0);
    assert_int_equal(layer.memory_bytes, MEM_BYTES);
    for (i = 0; i < layer.run_count; i++) {
        const struct vmm_layer_run *run = &layer.runs[i];

        assert_int_equal(shl_pread_full(fd, seen + run->first_page * PAGE, run->page_count * PAGE,
                                        run->file_offset),
                         0);
        if (chunks) {
            assert_int_equal(run->first_page % 16, 0);
            assert_true(run->page_count % 16 == 0 ||
                        run->first_page + run->page_count == MEM_BYTES / PAGE);
        }
    }
    vmm_layer_release(&layer);
    assert_memory_equal(seen, m->memory, MEM_BYTES);
    free(seen);
}

static void check_overlay(struct machine *m, int fd, uint64_t bytes)
{
    uint8_t *seen = calloc(1, DISK_BYTES + CHUNK);
    struct vmm_sealed sealed;
    struct shl_err err = {0};
    uint64_t n;

    if (m->disk_base >= 0) {
        assert_true(pread(m->disk_base, seen, DISK_BYTES, 0) > 0);
    }
    assert_int_equal(vmm_sealed_open(&sealed, fd, &err), 0);
    assert_int_equal(sealed.header.virtual_bytes, bytes);
    for (n = 0; vmm_sealed_next(&sealed, n, &n); n++) {
        assert_int_equal(shl_pread_full(fd, seen + n * CHUNK, CHUNK, vmm_sealed_offset(&sealed, n)),
                         0);
    }
    vmm_sealed_release(&sealed);
    assert_memory_equal(seen, m->disk, bytes);
    free(seen);
}

static struct ckpt_source source_of(const struct machine *m)
{
    struct ckpt_source source = {
        .disk_base_fd = m->disk_base,
        .disk_count = LAYERS,
        .disk_bytes = DISK_BYTES,
        .disk_base = "disk-base",
        .has_memory = true,
        .mem_base_fd = m->mem_base,
        .mem_count = LAYERS,
        .mem_base = m->mem_base >= 0 ? "mem-base" : "",
        .state_fd = m->state,
        .config = shl_bytes_of("config", 6),
    };
    unsigned i;

    if (m->disk_base < 0) {
        source.disk_base = "";
    }
    for (i = 0; i < LAYERS; i++) {
        source.disk_fds[i] = m->disks[i];
        source.mem_fds[i] = m->mem[i];
    }
    return source;
}

static struct ckpt_id store_machine(struct ckpt_store *store, const struct ckpt_source *source)
{
    struct ckpt_session *session;
    struct ckpt_manifest manifest;
    struct shl_err err = {0};
    struct shl_buf buf;
    struct ckpt_id id;

    ckpt_manifest_init(&manifest);
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    if (ckpt_image_store(session, source, &manifest, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(ckpt_manifest_encode(&manifest, &buf), 0);
    if (ckpt_session_commit(session, shl_buf_bytes(&buf), &id, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    return id;
}

static void check_stored(struct machine *m,
                         struct ckpt_store *store,
                         const struct ckpt_id *id,
                         unsigned runs_max)
{
    struct ckpt_target target = {.disk_base_fd = m->disk_base,
                                 .disk_fd = new_file(),
                                 .mem_fd = new_file(),
                                 .state_fd = new_file(),
                                 .runs_max = runs_max};
    uint8_t want[3 * CHUNK / 2], got[3 * CHUNK / 2 + 1];
    struct ckpt_manifest manifest;
    struct shl_err err = {0};
    struct ckpt_pin *pin;
    struct shl_buf buf;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_read(store, id, &buf, &pin, &err), 0);
    assert_int_equal(ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), &err), 0);
    assert_int_equal(shl_buf_len(&manifest.config), 6);
    if (ckpt_image_materialise(store, &manifest, &target, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    check_memory_layer(m, target.mem_fd, true);
    check_overlay(m, target.disk_fd, DISK_BYTES);
    assert_int_equal(pread(m->state, want, sizeof(want), 0), sizeof(want));
    assert_int_equal(pread(target.state_fd, got, sizeof(got), 0), sizeof(want));
    assert_memory_equal(got, want, sizeof(want));
    ckpt_pin_release(pin);
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    close(target.disk_fd);
    close(target.mem_fd);
    close(target.state_fd);
}

static void test_image_comes_back_as_it_was_stored(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    unsigned round;

    (void)state;
    for (round = 0; round < ROUNDS; round++) {
        struct ckpt_source source;
        struct ckpt_id id;
        struct machine m;

        make_machine(&m, round + 1, round % 4 != 0);
        source = source_of(&m);
        id = store_machine(store, &source);
        check_stored(&m, store, &id, 0);
        drop_machine(&m);
    }
    ckpt_store_close(store);
    leave_dir();
}

static void test_image_with_too_many_runs_is_bridged(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    unsigned round;

    (void)state;
    for (round = 0; round < 4; round++) {
        struct ckpt_source source;
        struct vmm_layer layer = {.memory_bytes = MEM_BYTES};
        struct ckpt_id id;
        struct machine m;
        uint64_t n;

        make_machine(&m, 100 + round, round % 2 != 0);
        source = source_of(&m);
        source.mem_count = 1; /* every third chunk, one page of it */
        source.mem_fds[0] = layer.fd = new_file();
        layer.runs = calloc(20, sizeof(*layer.runs));
        memcpy(m.memory, m.mem_base_bytes, MEM_BYTES);
        for (n = 1; n < 40; n += 3) {
            layer.runs[layer.run_count++] = (struct vmm_layer_run){n * 16 + n % 16, 1, 0};
            memset(m.memory + (n * 16 + n % 16) * PAGE, (int)n, PAGE);
        }
        assert_int_equal(vmm_layer_begin(&layer, NULL), 0);
        for (n = 0; n < layer.run_count; n++) {
            put(layer.fd, m.memory + layer.runs[n].first_page * PAGE, PAGE,
                layer.runs[n].file_offset);
        }
        source.runs_max = 4;
        id = store_machine(store, &source);
        check_stored(&m, store, &id, 4);
        close(layer.fd);
        vmm_layer_release(&layer);
        drop_machine(&m);
    }
    ckpt_store_close(store);
    leave_dir();
}

static void test_image_of_equal_machines_shares_chunks(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_source source;
    struct machine m;
    struct ckpt_id a, b;
    uint64_t chunks;

    (void)state;
    make_machine(&m, 77, true);
    source = source_of(&m);
    a = store_machine(store, &source);
    chunks = stats_of(store).chunks;
    source.config = shl_bytes_of("other!", 6);
    b = store_machine(store, &source);
    assert_false(ckpt_id_equal(&a, &b));
    assert_int_equal(stats_of(store).chunks, chunks);
    drop_machine(&m);
    ckpt_store_close(store);
    leave_dir();
}

/* Few runs are allowed: gaps are filled with what lies below. */
static void test_merge_joins_runs(void **state)
{
    unsigned round;

    (void)state;
    for (round = 0; round < ROUNDS; round++) {
        unsigned runs_max = 1 + round % 7;
        struct vmm_layer layer;
        struct shl_err err = {0};
        int mem = new_file();
        struct machine m;

        make_machine(&m, 5000 + round, round % 4 != 0);
        assert_int_equal(ckpt_merge_memory(m.mem, LAYERS, m.mem_base, runs_max, mem, &err), 0);
        check_memory_layer(&m, mem, false);
        assert_int_equal(vmm_layer_open(&layer, mem, &err), 0);
        assert_in_range(layer.run_count, 1, runs_max);
        vmm_layer_release(&layer);
        close(mem);
        drop_machine(&m);
    }
}

static void test_merge_reads_like_the_layers(void **state)
{
    unsigned round, from;

    (void)state;
    for (round = 0; round < ROUNDS; round++) {
        int mem = new_file(), disk = new_file(), low = new_file(), fds[2];
        struct shl_err err = {0};
        struct machine m;

        make_machine(&m, 1000 + round, round % 4 != 0);
        assert_int_equal(ckpt_merge_memory(m.mem, LAYERS, -1, 0, mem, &err), 0);
        check_memory_layer(&m, mem, false);
        assert_int_equal(ckpt_merge_disk(m.disks, LAYERS, m.disk_base, disk, &err), 0);
        check_overlay(&m, disk, DISK_BYTES);
        /* The lower ones alone, then that with the upper ones. */
        from = 1 + round % (LAYERS - 1);
        close(mem);
        mem = new_file();
        assert_int_equal(ckpt_merge_memory(m.mem, from, -1, 0, low, &err), 0);
        fds[0] = low;
        fds[1] = m.mem[LAYERS - 1];
        if (from == LAYERS - 1) {
            assert_int_equal(ckpt_merge_memory(fds, 2, -1, 0, mem, &err), 0);
            check_memory_layer(&m, mem, false);
        }
        close(mem);
        close(disk);
        close(low);
        drop_machine(&m);
    }
}

static void test_merge_refuses_another_base(void **state)
{
    struct shl_err err = {0};
    struct machine m, other;
    int out = new_file();

    (void)state;
    make_machine(&m, 5, true);
    make_machine(&other, 6, true);
    assert_int_equal(ckpt_merge_disk(m.disks, LAYERS, other.disk_base, out, &err), SHL_ECONFLICT);
    assert_int_equal(ckpt_merge_memory(m.disks, 1, -1, 0, out, &err), SHL_ECORRUPT);
    assert_int_equal(ckpt_merge_memory(m.mem, 0, -1, 0, out, &err), SHL_EINVALIDARG);
    close(out);
    drop_machine(&m);
    drop_machine(&other);
}

static void test_flatten_is_the_memory(void **state)
{
    uint8_t *seen = malloc(MEM_BYTES);
    struct shl_err err = {0};
    struct machine m;
    int out = new_file();

    (void)state;
    make_machine(&m, 9, false);
    assert_int_equal(ckpt_flatten_memory(m.mem, LAYERS, MEM_BYTES, out, &err), 0);
    assert_int_equal(lseek(out, 0, SEEK_END), MEM_BYTES);
    assert_int_equal(shl_pread_full(out, seen, MEM_BYTES, 0), 0);
    assert_memory_equal(seen, m.memory, MEM_BYTES);
    assert_int_equal(ckpt_flatten_memory(m.mem, LAYERS, 4 * CHUNK, out, &err), SHL_EINVALIDARG);
    free(seen);
    close(out);
    drop_machine(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_comes_back_as_it_was_stored),
        cmocka_unit_test(test_image_with_too_many_runs_is_bridged),
        cmocka_unit_test(test_image_of_equal_machines_shares_chunks),
        cmocka_unit_test(test_merge_reads_like_the_layers),
        cmocka_unit_test(test_merge_joins_runs),
        cmocka_unit_test(test_merge_refuses_another_base),
        cmocka_unit_test(test_flatten_is_the_memory),
    };

    return cmocka_run_group_tests_name("checkpoint/image", tests, NULL, NULL);
}

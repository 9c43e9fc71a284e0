/* The chain walker over fuzzed rings, with memory that changes between any two reads.
 * Input: bytes of the first page of guest memory, then a stream of changes. What comes
 * out must lie in guest memory and within the queue's limits. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm-kvm/mem.h"
#include "vmm-kvm/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY 65536u
#define DESC   0u
#define AVAIL  0x200u
#define USED   0x300u
#define RINGS  0x400u

static struct vmm_mem mem;
static const uint8_t *changes;
static size_t changes_left;

/* Three bytes of input: where and what. */
void vmm_guest_load_hook(void)
{
    uint8_t *rings = mem.regions[0].host;

    if (changes_left >= 3) {
        rings[(changes[0] | changes[1] << 8) % RINGS] = changes[2];
        changes += 3;
        changes_left -= 3;
    }
}

static void check(const struct vmm_queue *queue, const struct vmm_chain *chain)
{
    uint64_t read_bytes = 0, write_bytes = 0;
    unsigned i;

    assert(chain->head < queue->size);
    assert(chain->read_count + chain->write_count <= queue->size);
    for (i = 0; i < (unsigned)chain->read_count + chain->write_count; i++) {
        const uint8_t *base = chain->iov[i].iov_base;
        const uint8_t *low = mem.regions[0].host;

        assert(base >= low);
        assert(chain->iov[i].iov_len <= MEMORY);
        assert(base + chain->iov[i].iov_len <= low + MEMORY);
        *(i < chain->read_count ? &read_bytes : &write_bytes) += chain->iov[i].iov_len;
    }
    assert(read_bytes == chain->read_bytes);
    assert(write_bytes == chain->write_bytes);
}

static void use(struct vmm_queue *queue, uint8_t size_byte)
{
    struct vmm_chain chain;
    uint8_t copy[300];
    unsigned turn;

    for (turn = 0; turn < 40; turn++) {
        int r = (turn & 3) == 3 ? vmm_queue_pop_or_await(queue, &mem, &chain)
                                : vmm_queue_pop(queue, &mem, &chain);

        if (r < 0) {
            assert(queue->violation);
            return;
        }
        if (r == 0) {
            (void)vmm_queue_enable_notify(queue);
            continue;
        }
        check(queue, &chain);
        (void)vmm_chain_read(&chain, size_byte, copy, sizeof(copy));
        (void)vmm_chain_write(&chain, size_byte, copy, sizeof(copy));
        if ((turn & 7) == 5) {
            vmm_queue_unpop(queue);
        } else {
            vmm_queue_push(queue, chain.head, chain.write_bytes);
        }
        (void)vmm_queue_wants_interrupt(queue);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_queue queue;
    size_t rings;

    if (!mem.map && vmm_mem_init(&mem, MEMORY, 0, 0, NULL) < 0) {
        abort();
    }
    if (size < 4) {
        return 0;
    }
    memset(mem.regions[0].host, 0, RINGS);
    vmm_queue_init(&queue, 16);
    queue.size = (uint16_t)(1u << (data[0] % 5));
    queue.desc_addr = DESC;
    queue.avail_addr = AVAIL;
    queue.used_addr = USED;
    queue.next_avail = data[1];
    changes_left = 0;
    if (vmm_queue_activate(&queue, &mem, data[2] & 1) < 0) {
        abort();
    }
    rings = SHL_MIN(size - 4, (size_t)RINGS);
    memcpy(mem.regions[0].host, data + 4, rings);
    changes = data + 4 + rings;
    changes_left = size - 4 - rings;
    if (changes_left == 0) { /* short inputs change the memory with their own tail */
        changes = data + size / 2;
        changes_left = size - size / 2;
    }
    use(&queue, data[3]);
    return 0;
}

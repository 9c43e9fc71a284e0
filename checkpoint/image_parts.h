/* What reading and writing images share; internal to image_*.c and merge.c. */
#ifndef SHL_CHECKPOINT_IMAGE_PARTS_H
#define SHL_CHECKPOINT_IMAGE_PARTS_H

#include "checkpoint/image.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/sealed.h"

#define CKPT_PAGE_BYTES  VMM_LAYER_PAGE_BYTES
#define CKPT_CHUNK_PAGES (CKPT_CHUNK_BYTES / CKPT_PAGE_BYTES)

/* The memory of a machine: layers over a base. */
struct ckpt_memory {
    struct vmm_layer layers[CKPT_LAYERS_MAX]; /* lowest first */
    unsigned count;
    int base_fd;
    uint64_t bytes; /* of the largest layer */
};

SHL_MUST_CHECK int ckpt_memory_open(struct ckpt_memory *memory,
                                    const int *fds,
                                    unsigned count,
                                    int base_fd,
                                    struct shl_err *err);
void ckpt_memory_release(struct ckpt_memory *memory);
/* Whether a layer has a page of chunk @n. */
bool ckpt_memory_touched(const struct ckpt_memory *memory, uint64_t n);
/* What the machine sees at chunk @n, @len bytes. */
SHL_MUST_CHECK int ckpt_memory_read(const struct ckpt_memory *memory,
                                    uint64_t n,
                                    uint8_t *dst,
                                    size_t len,
                                    struct shl_err *err);

/* The disk of a machine: sealed overlays over a base. */
struct ckpt_disk {
    struct vmm_sealed layers[CKPT_LAYERS_MAX]; /* lowest first */
    unsigned count;
    int base_fd;
    struct vmm_overlay_header header; /* size of the largest layer, the base they belong to */
};

/* SHL_ECONFLICT: a layer belongs to another base. */
SHL_MUST_CHECK int ckpt_disk_open(struct ckpt_disk *disk,
                                  const int *fds,
                                  unsigned count,
                                  int base_fd,
                                  struct shl_err *err);
void ckpt_disk_release(struct ckpt_disk *disk);
/* The highest layer that has cluster @n, NULL: none. */
const struct vmm_sealed *ckpt_disk_owner(const struct ckpt_disk *disk, uint64_t n);
/* How many bytes of cluster @n mean something in @layer. */
size_t ckpt_disk_valid(const struct vmm_sealed *layer, uint64_t n);
/* What the guest sees at cluster @n, @len bytes. */
SHL_MUST_CHECK int ckpt_disk_read(const struct ckpt_disk *disk,
                                  uint64_t n,
                                  uint8_t *dst,
                                  size_t len,
                                  struct shl_err *err);

/* @len bytes of a file whose end reads as zeros; fd -1: all zeros. */
SHL_MUST_CHECK int ckpt_base_read(int fd, uint8_t *dst, size_t len, uint64_t offset);
bool ckpt_is_zero(const uint8_t *data, size_t len);
/* Length of chunk @n of something of @bytes. */
size_t ckpt_chunk_len(uint64_t bytes, uint64_t n);
/* Inside the kernel where the file systems can, else through a buffer. 0 or -errno. */
SHL_MUST_CHECK int ckpt_copy_range(int from,
                                   uint64_t from_at,
                                   int to,
                                   uint64_t to_at,
                                   uint64_t len);

#endif /* SHL_CHECKPOINT_IMAGE_PARTS_H */

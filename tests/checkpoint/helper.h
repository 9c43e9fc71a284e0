/* A store in a fresh folder, and checkpoints made of numbers. */
#ifndef SHL_TESTS_CHECKPOINT_HELPER_H
#define SHL_TESTS_CHECKPOINT_HELPER_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/manifest.h"
#include "checkpoint/store.h"

#define SEGMENT (1u << 20)

/* A folder for the running test, removed by leave_dir. */
const char *enter_dir(void);
void leave_dir(void);

struct ckpt_store *open_store(const char *dir);
struct ckpt_store *open_store_with(const char *dir,
                                   void (*hook)(void *ctx, const char *step),
                                   void *ctx);

/* Chunk number @seed: always the same bytes; every third one does not compress. */
size_t make_chunk(uint8_t *dst, uint32_t seed);

/* Put chunks [first, first + count) and publish them; 0 or the error. */
int try_checkpoint(struct ckpt_store *store, uint32_t first, uint32_t count, struct ckpt_id *ret);
struct ckpt_id add_checkpoint(struct ckpt_store *store, uint32_t first, uint32_t count);
/* The id such a checkpoint gets. */
struct ckpt_id id_of_checkpoint(uint32_t first, uint32_t count);

/* Whether the whole checkpoint can be read and is what it was made of. */
bool is_readable(struct ckpt_store *store,
                 const struct ckpt_id *id,
                 uint32_t first,
                 uint32_t count);
unsigned count_manifests(struct ckpt_store *store);
struct ckpt_store_stats stats_of(struct ckpt_store *store);
struct ckpt_collect_stats collect(struct ckpt_store *store);
/* Path of the segment file with the highest number in @dir. */
void last_segment(const char *dir, char *path, size_t size);

/* Deterministic numbers. */
uint32_t next_random(uint64_t *state);

#endif /* SHL_TESTS_CHECKPOINT_HELPER_H */
